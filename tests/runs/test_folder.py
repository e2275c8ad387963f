"""A run's folder: what of it may be removed, and what runs of earlier versions meant."""

import os
from pathlib import Path

import pytest

from recallk import InputError
from recallk.runs.config import make_config, to_yaml
from recallk.runs.folder import RunFolder


def folder_of(path: Path, recipe: str | None = "demo") -> RunFolder:
    folder = RunFolder(path)
    folder.checkpoint.parent.mkdir(parents=True)
    folder.config.write_text(to_yaml(make_config({"data": "x", "recipe": recipe})))
    for file in (folder.metrics, folder.checkpoint, folder.best(3), folder.model, folder.report, path / "split.json"):
        file.touch()
    (path / "model.safetensors.0123abcd.unfinished").touch()
    return folder


def test_a_run_is_removed_with_its_folder(tmp_path: Path) -> None:
    folder_of(tmp_path / "run").clear("demo")
    assert list(tmp_path.iterdir()) == []
    RunFolder(tmp_path / "run").clear("demo")


@pytest.mark.parametrize("other", ["thesis.txt", "checkpoint/thesis.txt", "model.safetensors/thesis.txt", ".hidden"])
def test_a_folder_with_anything_else_is_left_whole(tmp_path: Path, other: str) -> None:
    folder = folder_of(tmp_path / "run")
    folder.model.unlink()
    (folder.path / other).parent.mkdir(exist_ok=True)
    (folder.path / other).write_text("keep")
    before = sorted(folder.path.rglob("*"))
    with pytest.raises(InputError, match="which is no run's; move it"):
        folder.clear("demo")
    assert sorted(folder.path.rglob("*")) == before


@pytest.mark.parametrize("recipe", [None, "glyphs"])
def test_a_run_of_another_recipe_is_left_whole(tmp_path: Path, recipe: str | None) -> None:
    folder = folder_of(tmp_path / "run", recipe)
    with pytest.raises(InputError, match="a run of another recipe than demo"):
        folder.clear("demo")
    folder.config.write_text("[[[")
    with pytest.raises(InputError, match="not YAML"):
        folder.clear("demo")
    assert folder.report.exists()
    folder.clear()
    assert not folder.path.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    for name in ("latest.ckpt", "model.safetensors"):
        (precious / name).write_text("keep")
    folder = folder_of(tmp_path / "run")
    folder.model.unlink()
    folder.model.symlink_to(precious / "model.safetensors")
    for path in folder.checkpoint.parent.iterdir():
        path.unlink()
    folder.checkpoint.parent.rmdir()
    folder.checkpoint.parent.symlink_to(precious)
    with pytest.raises(InputError, match="holds checkpoint, which is no run's"):
        folder.clear("demo")
    folder.checkpoint.parent.unlink()
    folder.clear("demo")
    assert {path.name for path in precious.iterdir()} == {"latest.ckpt", "model.safetensors"}
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(InputError, match="not the folder of a run"):
        RunFolder(tmp_path / "link").clear()


def test_a_run_in_use_is_left_alone(tmp_path: Path) -> None:
    from recallk.core.lock import locked

    folder = folder_of(tmp_path / "run")
    with locked(folder.path), pytest.raises(InputError, match="in use"):
        folder.clear("demo")
    assert folder.report.exists()


@pytest.mark.parametrize("name", ["file", "n" * 300, "nul\0"])
def test_a_place_that_cannot_be_a_folder_is_one_line(tmp_path: Path, name: str) -> None:
    from recallk.core.lock import locked

    (tmp_path / "file").write_text("keep")
    folder = RunFolder(tmp_path / name)
    assert folder.taken == (name == "file")
    with pytest.raises(InputError) as caught, locked(folder.path):
        pass
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "keep"


def test_a_configuration_of_an_earlier_version(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    lines = folder.config.read_text().splitlines()
    folder.config.write_text("\n".join(line for line in lines if not line.startswith(("interpolation", "mean", "std"))))
    assert folder.read_config().interpolation == "bilinear"
    folder.config.write_text("data: x\nepoch: 3\n")
    with pytest.raises(InputError, match=r"config.yaml: unknown key 'epoch': did you mean epochs"):
        folder.read_config()
    folder.config.unlink()
    os.mkfifo(folder.config)
    with pytest.raises(InputError, match=r"config.yaml: a pipe or a device"):
        folder.read_config()


def test_rows_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        RunFolder(tmp_path).append({"kind": "step", "epoch": 1})
    with pytest.raises(InputError, match="a folder, not a file"):
        RunFolder(tmp_path).history()
    assert RunFolder(tmp_path / "nothing").history() == []


def test_a_row_after_a_cut_line_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [{"kind": "step", "epoch": 1, "loss": 0.5}, {"kind": "step", "epoch": 1, "loss": 0.25}]
    folder.append(rows[0])
    with folder.metrics.open("a") as file:
        file.write('{"kind": "st')
    folder.append(rows[1])
    assert folder.history() == rows


@pytest.mark.parametrize(
    "row",
    [
        '{"kind": "step", "epoch": 1, "seconds": null}',
        '{"kind": "evaluation", "epoch": 0, "map@r": null}',
        '{"kind": "evaluation", "epoch": 0, "map@r": "0.5"}',
        '{"kind": "step", "epoch": 1, "loss": NaN}',
        '{"kind": "step", "epoch": 1, "seconds": Infinity}',
        '{"kind": "step", "epoch": 1, "seconds": 1e300}',
        '{"kind": "step", "epoch": 1, "seconds": true}',
        '{"kind": "step", "epoch": 1, "seconds": [1]}',
        '{"kind": "step", "epoch": 1, "images": ' + "9" * 400 + "}",
        '{"kind": "step", "epoch": ' + "9" * 400 + "}",
        '{"kind": "step", "epoch": ' + "9" * 5000 + "}",
        '{"kind": "step", "epoch": -1}',
        '{"kind": "step", "epoch": 1.0}',
        '{"kind": "step", "epoch": true}',
        '{"kind": null, "epoch": 1}',
        '{"kind": "step"}',
    ],
)
def test_only_rows_of_finite_numbers_are_kept(tmp_path: Path, row: str) -> None:
    folder = RunFolder(tmp_path)
    sound = {"kind": "step", "epoch": 0, "step": 1, "loss": -3.4e38, "seconds": 0.5}
    folder.append(sound)
    with folder.metrics.open("a") as file:
        file.write(row + "\n")
    assert folder.history() == [sound]


def test_weights_that_cannot_be_removed_are_one_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    folder.best(2).mkdir()
    with pytest.raises(InputError, match=r"best-2.safetensors: cannot be written"):
        folder.forget_best_but(3)
    folder.best(2).rmdir()
    folder.best(1).touch()
    folder.forget_best_but(3)
    assert sorted(path.name for path in folder.checkpoint.parent.iterdir()) == ["best-3.safetensors", "latest.ckpt"]
