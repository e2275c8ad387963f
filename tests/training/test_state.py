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
from recallk.core import processes
from recallk.core.processes import SharedError
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Step
from recallk.training import best_epoch, checkpoint
from recallk.training.plan import prepare
from recallk.training.state import load_state
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import without_time
from tests.training.test_trainer import SMALL, save_patterns, train

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
        if row.epoch == 2:
            break
    return folder


def resume(folder: RunFolder) -> None:
    list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(key)


def change(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.update(values)


def of_another_width(state: dict[str, Any]) -> None:
    state["model"] = {name: value[:1] for name, value in state["model"].items() if value.ndim}


def moments_of_another_width(state: dict[str, Any]) -> None:
    for moments in state["optimizer"]["state"].values():
        moments["exp_avg"] = torch.zeros(3, 3, 3)


def moments(change: Callable[[dict[str, Any]], object], of_all: bool = False) -> Callable[[dict[str, Any]], object]:
    """Damage the moments of one parameter, or of all."""

    def damage(state: dict[str, Any]) -> None:
        for one in list(state["optimizer"]["state"].values())[: None if of_all else 1]:
            change(one)

    return damage


MOMENTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "all are lost": lambda state: state["optimizer"].update(state={}),
    "a parameter's are lost": lambda state: state["optimizer"]["state"].pop(0),
    "of one more": lambda state: state["optimizer"]["state"].update({999: state["optimizer"]["state"][0]}),
    "one is lost": moments(lambda one: one.pop("exp_avg")),
    "one is lost everywhere": moments(lambda one: one.pop("exp_avg"), of_all=True),
    "of another optimizer": moments(lambda one: one.update(momentum_buffer=one.pop("exp_avg")), of_all=True),
    "integers": moments(lambda one: one.update(exp_avg=one["exp_avg"].long())),
    "no tensor": moments(lambda one: one.update(exp_avg=1.0)),
    "a scalar": moments(lambda one: one.update(exp_avg=torch.zeros(()))),
    "a step for each": moments(lambda one: one.update(step=one["exp_avg"])),
    "a step below 0": moments(lambda one: one.update(step=torch.tensor(-1.0))),
    "a step that is none": moments(lambda one: one.update(step=torch.tensor(torch.nan))),
}


@pytest.mark.parametrize("damage", MOMENTS)
def test_damaged_moments_are_one_line(begun: RunFolder, damage: str) -> None:
    state = torch.load(begun.checkpoint, weights_only=True)
    MOMENTS[damage](state)
    torch.save(state, begun.checkpoint)
    with pytest.raises(InputError, match=r"latest.ckpt: the state of another optimizer .*; start the run anew"):
        resume(begun)


def test_parameters_without_a_gradient_have_no_moments(tmp_path: Path) -> None:
    from recallk.training.state import optimizer_state, restore_optimizer

    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([unused, used])
    restore_optimizer(optimizer, optimizer_state(optimizer), tmp_path)  # no step has been taken yet
    used.grad = torch.ones(2)
    optimizer.step()
    again = torch.optim.AdamW([unused, used])
    restore_optimizer(again, optimizer_state(optimizer), tmp_path)
    assert torch.equal(again.state[used]["exp_avg"], optimizer.state[used]["exp_avg"])
    assert unused not in again.state


@pytest.mark.parametrize(
    "change",
    [
        {"scale": "x"}, {"scale": 0.0}, {"scale": -2.0}, {"scale": float("inf")}, {"scale": float("nan")},
        {"scale": 1e300}, {"scale": None}, {"scale": torch.tensor(2.0)}, {"growth_interval": 0}, {"growth_factor": "x"},
        {"backoff_factor": -0.5}, {"_growth_tracker": -1}, {"_growth_tracker": "x"}, {"more": 1.0},
    ],
)  # fmt: skip
def test_a_damaged_scale_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    from recallk.training.state import restore_scaler

    scaler = torch.amp.GradScaler("cpu")
    sound = scaler.state_dict() | {"scale": 2.0**60, "_growth_tracker": 7}
    restore_scaler(scaler, sound, tmp_path)
    assert scaler.state_dict() == sound
    for state in (sound | change, {key: value for key, value in sound.items() if key not in change}, None, {}):
        if state != sound:
            with pytest.raises(InputError, match=r"the state of another precision .*; start the run anew"):
                restore_scaler(scaler, state, tmp_path)


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
        *(
            change(best=best)
            for best in ("first", (True, 0.5), (1, torch.nan), (1, 1), (0, 0.5), (2, 0.5), (99, 0.5), None)
        ),
        without("batches"),
        *(change(batches=batches) for batches in ("two", None, -1, True, 1.0, 2, 10**30, torch.tensor(1))),
        *(change(epoch=epoch) for epoch in (True, 2.0, 0, None)),
        *(change(version=version) for version in (1, "2", None, 3)),
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


@pytest.mark.parametrize("name", ["a::b", pytest.param("httpish", marks=pytest.mark.slow), "ä ö"])
def test_a_run_may_have_any_name(pictures: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = interrupted(pictures, Path(name))
    assert folder.checkpoint.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    resume(folder)
    assert (folder.model / "weights.safetensors").is_file()


def test_all_files_have_the_mode_of_the_user(begun: RunFolder) -> None:
    resume(begun)
    plain = begun.path / "plain"
    plain.touch()
    for path in (begun.checkpoint, *begun.model.iterdir(), begun.config, *begun.checkpoint.parent.glob("best-*")):
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
    resumed = Trainer(prepare(begun.read_config()), begun)
    best = max(path.stat().st_size for path in begun.checkpoint.parent.glob("best-*"))
    no_room((len(whole) + best) // 2)  # the weights fit, the checkpoint does not
    with pytest.raises(InputError, match=r"latest.ckpt: cannot be written.*") as caught:
        list(resumed.rows(resume=True))
    assert "\n" not in str(caught.value)
    no_room(resource.RLIM_INFINITY)
    assert begun.checkpoint.read_bytes() == whole
    assert not list(begun.path.rglob("*.unfinished"))
    resume(begun)
    train(pictures, tmp_path / "whole", image_size=16, resize=16)
    assert without_time(begun.history()) == without_time(RunFolder(tmp_path / "whole").history())


STEPS = {"batch_size": 4, "items_per_class": 2, "checkpoint_minutes": 1e-9}
"""Two steps an epoch, each followed by a checkpoint."""


def test_a_full_disk_in_mid_epoch_leaves_the_checkpoint_before(
    pictures: Path, tmp_path: Path, no_room: Callable[[int], None]
) -> None:
    folder = RunFolder(tmp_path / "run")
    rows = Trainer(prepare(make_config(TINY, STEPS, {"data": str(pictures)})), folder).rows()
    assert any(isinstance(row, Step) and row.step == 2 for row in rows)
    whole = folder.checkpoint.read_bytes()
    no_room(len(whole) // 2)
    with pytest.raises(InputError, match=r"latest.ckpt: cannot be written.*") as caught:
        next(rows)
    assert "\n" not in str(caught.value)
    no_room(resource.RLIM_INFINITY)
    assert folder.checkpoint.read_bytes() == whole
    assert load_state(folder.checkpoint)["batches"] == 1
    assert not list(folder.path.rglob("*.unfinished"))
    resume(folder)
    train(pictures, tmp_path / "whole", image_size=16, resize=16, **STEPS)
    assert without_time(folder.history()) == without_time(RunFolder(tmp_path / "whole").history())


def on_a_full_disk(pictures: str, root: str) -> list[str]:
    """Train in several processes, the first of which cannot write something; return what each is told."""
    told = []
    for owner, name in ((checkpoint, "save_state"), (best_epoch, "write_weights"), (RunFolder, "append")):
        config = make_config(TINY, STEPS, {"data": pictures, "chunk_size": 2})
        rows = Trainer(prepare(config), RunFolder(Path(root) / name)).rows()
        assert any(isinstance(row, Step) for row in rows)
        with pytest.MonkeyPatch.context() as patched:
            if processes.is_first():
                patched.setattr(owner, name, full)
            with pytest.raises(SharedError) as caught:
                list(rows)
        told.append(str(caught.value))
    return told


def full(*_: object) -> None:
    raise InputError("the disk is full")


@pytest.mark.slow
def test_a_full_disk_is_told_to_all_processes(pictures: Path, tmp_path: Path) -> None:
    """All of them end by the same error, which the first one prints."""
    assert in_processes(on_a_full_disk, 2, str(pictures), str(tmp_path)) == [["the disk is full"] * 3] * 2


def test_a_full_disk_at_the_start_leaves_no_run(pictures: Path, tmp_path: Path, no_room: Callable[[int], None]) -> None:
    begun = Trainer(prepare(make_config(TINY, {"data": str(pictures)})), RunFolder(tmp_path / "run"))
    no_room(10)
    with pytest.raises(InputError, match="cannot be written"):
        list(begun.rows())
    assert not (tmp_path / "run").exists()
