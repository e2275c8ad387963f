"""Checkpoints: nothing in them is run, and a damaged one is one line."""

import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recallk import InputError
from recallk.training.checkpoint import RunFolder
from recallk.training.config import make_config
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.training.test_trainer import SMALL, save_patterns, train, without_time

TINY = SMALL | {"image_size": 16, "resize": 16}


class Hostile:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=4, images=4)


@pytest.fixture(scope="module")
def cut(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return interrupted(pictures, tmp_path_factory.mktemp("runs") / "cut")


@pytest.fixture
def begun(cut: RunFolder, tmp_path: Path) -> RunFolder:
    """A run that was interrupted in its second epoch."""
    return RunFolder(shutil.copytree(cut.path, tmp_path / "run"))


def interrupted(pictures: Path, path: Path) -> RunFolder:
    folder = RunFolder(path)
    for row in Trainer(prepare(make_config(TINY, {"data": str(pictures)})), folder).rows():
        if row["epoch"] == 2:
            break
    return folder


def resume(folder: RunFolder) -> None:
    list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(key)


def of_another_width(state: dict[str, Any]) -> None:
    state["model"] = {name: value[:1] for name, value in state["model"].items() if value.ndim}


def moments_of_another_width(state: dict[str, Any]) -> None:
    for moments in state["optimizer"]["state"].values():
        moments["exp_avg"] = torch.zeros(3, 3, 3)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_checkpoint_is_run(begun: RunFolder, tmp_path: Path, legacy: bool) -> None:
    hostile, made = {"model": Hostile(tmp_path / "made")}, tmp_path / "made"
    if legacy:
        begun.checkpoint.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, begun.checkpoint)
    with pytest.raises(InputError, match=r"latest.ckpt: not a checkpoint.*start the run anew") as caught:
        resume(begun)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value), "advice to load it all the same"
    assert not made.exists()


@pytest.mark.parametrize("length", [0, 1, 100, -1000, -1])
def test_a_cut_checkpoint_is_one_line(begun: RunFolder, length: int) -> None:
    begun.checkpoint.write_bytes(begun.checkpoint.read_bytes()[:length])
    with pytest.raises(InputError, match=r"latest.ckpt: .*; start the run anew") as caught:
        resume(begun)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        *(without(key) for key in ("model", "optimizer", "epoch", "version")),
        of_another_width,
        moments_of_another_width,
        lambda state: state.update(model=3),
        lambda state: state.update(optimizer={"state": None}),
        lambda state: state.update(epoch="two"),
        lambda state: state.update(epoch=-1),
        lambda state: state.update(version=99),
        lambda state: state.update(best="first"),
        lambda state: state["model"].popitem(),
    ],
)
def test_a_foreign_checkpoint_is_one_line(begun: RunFolder, damage: Callable[[dict[str, Any]], object]) -> None:
    state = torch.load(begun.checkpoint, weights_only=True)
    damage(state)
    torch.save(state, begun.checkpoint)
    with pytest.raises(InputError, match=r"latest.ckpt: .*; start the run anew") as caught:
        resume(begun)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_a_pipe_is_refused(begun: RunFolder) -> None:
    begun.checkpoint.unlink()
    os.mkfifo(begun.checkpoint)
    with pytest.raises(InputError):
        resume(begun)


@pytest.mark.parametrize("name", ["a::b", "httpish", "ä ö"])
def test_a_run_may_have_any_name(pictures: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = interrupted(pictures, Path(name))
    assert folder.checkpoint.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    resume(folder)
    assert folder.model.is_file()


def test_all_files_have_the_mode_of_the_user(begun: RunFolder) -> None:
    resume(begun)
    plain = begun.path / "plain"
    plain.touch()
    for path in (begun.checkpoint, begun.model, begun.config, *begun.checkpoint.parent.glob("best-*")):
        assert path.stat().st_mode == plain.stat().st_mode, path.name


@pytest.fixture
def no_room() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond so many bytes, as a full disk does not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before(
    pictures: Path, begun: RunFolder, tmp_path: Path, no_room: Callable[[int], None]
) -> None:
    whole = begun.checkpoint.read_bytes()
    trainer = Trainer(prepare(begun.read_config()), begun)
    best = max(path.stat().st_size for path in begun.checkpoint.parent.glob("best-*"))
    no_room((len(whole) + best) // 2)  # the weights fit, the checkpoint does not
    with pytest.raises(InputError, match=r"latest.ckpt: cannot be written.*") as caught:
        list(trainer.rows(resume=True))
    assert "\n" not in str(caught.value)
    no_room(resource.RLIM_INFINITY)
    assert begun.checkpoint.read_bytes() == whole
    assert not list(begun.path.rglob("*.unfinished"))
    resume(begun)
    train(pictures, tmp_path / "whole", image_size=16, resize=16)
    assert without_time(begun.history()) == without_time(RunFolder(tmp_path / "whole").history())


def test_a_full_disk_at_the_start_leaves_no_run(pictures: Path, tmp_path: Path, no_room: Callable[[int], None]) -> None:
    trainer = Trainer(prepare(make_config(TINY, {"data": str(pictures)})), RunFolder(tmp_path / "run"))
    no_room(10)
    with pytest.raises(InputError, match="cannot be written"):
        list(trainer.rows())
    assert not (tmp_path / "run").exists()
