"""A run's folder: what of it may be removed, and what runs of earlier versions meant."""

import os
import shutil
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from recallk import InputError
from recallk.runs.config import make_config, to_yaml
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, Row, Start, Step
from tests.configs import of_images


def folder_of(path: Path, recipe: str | None = "demo") -> RunFolder:
    folder = RunFolder(path)
    folder.checkpoint.parent.mkdir(parents=True)
    folder.config.write_text(to_yaml(make_config({"data": "x", "recipe": recipe})))
    folder.model.mkdir()
    model = [folder.model / "embedder.json", folder.model / "weights.safetensors", path / "model.safetensors"]
    for file in (
        folder.metrics,
        folder.checkpoint,
        folder.best(3),
        *model,
        folder.report,
        folder.split,
        folder.skipped,
    ):
        file.touch()
    (path / "config.yaml.0123abcd.unfinished").touch()
    (folder.model / "weights.safetensors.0123abcd.unfinished").touch()
    folder.descriptors("roxford5k").parent.mkdir()
    folder.descriptors("roxford5k").touch()
    (path / "descriptors" / "roxford5k.json").touch()
    folder.tensorboard.mkdir()
    (folder.tensorboard / "events.out.tfevents.1700000000.machine.local.12.0").touch()
    return folder


def test_a_run_is_removed_with_its_folder(tmp_path: Path) -> None:
    folder_of(tmp_path / "run").clear("demo")
    assert list(tmp_path.iterdir()) == []
    RunFolder(tmp_path / "run").clear("demo")


@pytest.mark.parametrize(
    "other",
    [
        "thesis.txt",
        "checkpoint/thesis.txt",
        "model/thesis.txt",
        "model.safetensors/thesis.txt",
        "descriptors/thesis.txt",
        "tensorboard/thesis.txt",
        ".hidden",
    ],
)
def test_a_folder_with_anything_else_is_left_whole(tmp_path: Path, other: str) -> None:
    folder = folder_of(tmp_path / "run")
    (folder.path / "model.safetensors").unlink()
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
    names = {"latest.ckpt", "model.safetensors", "weights.safetensors"}
    for name in names:
        (precious / name).write_text("keep")
    folder = folder_of(tmp_path / "run")
    (folder.path / "model.safetensors").unlink()
    (folder.path / "model.safetensors").symlink_to(precious / "model.safetensors")
    for inner in (folder.checkpoint.parent, folder.model):
        shutil.rmtree(inner)
        inner.symlink_to(precious)
        with pytest.raises(InputError, match=f"holds {inner.name}, which is no run's"):
            folder.clear("demo")
        inner.unlink()
    folder.clear("demo")
    assert {path.name for path in precious.iterdir()} == names
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
    assert of_images(folder.read_config()).interpolation == "bilinear"
    table = tmp_path / "images.parquet"  # which was one of images before there were runs on vectors
    parquet.write_table(pyarrow.table({"path": ["a.png"], "label": ["a"], "embedding": [[1.0]]}), table)
    kept = [line for line in lines if not line.startswith(("data", "items"))]
    folder.config.write_text("\n".join([f"data: {table}", *kept]))
    assert of_images(folder.read_config()).items == "images"
    folder.config.write_text("data: x\nepoch: 3\n")
    with pytest.raises(InputError, match=r"config.yaml: unknown key 'epoch': did you mean epochs"):
        folder.read_config()
    folder.config.unlink()
    os.mkfifo(folder.config)
    with pytest.raises(InputError, match=r"config.yaml: a pipe or a device"):
        folder.read_config()


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    begun, resumed = Start(0, "m", "v", "test", "w"), Start(2, "m", "v", "test", "w")
    kept: list[Row] = [begun, Step(1, 1, 0.5, 0.1, 8, 1.0), Measurement("evaluation", 2, 2), resumed]
    for row in (*kept[:3], Measurement("result", 2, 2), resumed, Step(3, 3, 0.5, 0.1, 8, 1.0)):
        folder.append(row)
    folder.forget_after(2, 2)
    assert folder.history() == kept


def test_weights_that_cannot_be_removed_are_one_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    folder.best(2).mkdir()
    with pytest.raises(InputError, match=r"best-2.safetensors: cannot be written"):
        folder.forget_best_but(3)
    folder.best(2).rmdir()
    folder.best(1).touch()
    folder.forget_best_but(3)
    assert sorted(path.name for path in folder.checkpoint.parent.iterdir()) == ["best-3.safetensors", "latest.ckpt"]
