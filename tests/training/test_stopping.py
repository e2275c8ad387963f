"""SIGTERM and Ctrl-C at any moment: a checkpoint is written, at most the step at work is lost, and the run goes on."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from recallk import load
from recallk.core import files, processes
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.training import best_epoch, step, stopping, trainer
from recallk.training.plan import prepare
from recallk.training.state import load_state
from recallk.training.step_loss import StepLoss
from recallk.training.stopping import Stopping
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import steps, without_time
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {
    **{"image_size": 16, "resize": 16, "embedding_size": 8, "chunk_size": 2, "batch_size": 8, "items_per_class": 2},
    **{"mixup": True, "select": "test"},
}
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=12, images=4)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two epochs, of three steps each, that nothing stopped."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    list(begun(pictures, folder).rows())
    return folder


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As the command line has them."""
    before = {each: signal.getsignal(each) for each in CODES}
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def terminate(*_: object) -> None:
    raise SystemExit(143)


def begun(pictures: Path, folder: RunFolder, **changes: Any) -> Trainer:
    return Trainer(prepare(make_config(TINY, {"data": str(pictures)}, changes)), folder)


def resumed(folder: RunFolder, **changes: Any) -> list[Row]:
    config = folder.read_config().model_copy(update=changes)
    return list(Trainer(prepare(config, folder.read_split()), folder).rows(resume=True))


def check_same(folder: RunFolder, whole: RunFolder) -> None:
    """Bit for bit, model and checkpoint; the rows, and the files."""
    assert without_time(folder.history()) == without_time(whole.history())
    ends = [load(one.path).state_dict() for one in (folder, whole)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    states = [load_state(one.checkpoint)["optimizer"]["state"] for one in (folder, whole)]
    for number, moments in states[0].items():
        assert all(torch.equal(moment, states[1][number][name]) for name, moment in moments.items())
    names = [{path.relative_to(one.path) for path in one.path.rglob("*")} for one in (folder, whole)]
    assert names[0] == names[1]


def at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, nth: int, act: Callable[[], object]) -> None:
    """Do something before the `nth` call of a function, from 1."""
    function, calls = getattr(owner, name), [0]

    def with_act(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth:
            act()
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, with_act)


def ended(trained: Trainer, sent: signal.Signals) -> None:
    """Train until a signal ends it, as it ends a process."""
    with pytest.raises(KeyboardInterrupt if sent == signal.SIGINT else SystemExit) as caught:
        list(trained.rows())
    if sent == signal.SIGTERM:
        assert caught.value.args == (CODES[sent],)
    assert not (trained.folder.path / ".lock").exists()
    assert signal.getsignal(signal.SIGTERM) is terminate
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="readers know who sends a signal")
def test_readers_go_on_when_all_processes_are_told(
    pictures: Path, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SLURM and torchrun do, which send it to each process: the step at work needs its chunks."""

    def tell_all() -> None:
        pids = [str(child.pid) for child in readers()]
        assert len(pids) >= 2
        subprocess.run(["/bin/kill", "-TERM", *pids, str(os.getpid())], check=True)

    def readers() -> list[BaseProcess]:
        return [child for child in active_children() if child.daemon and child not in others]

    others = active_children()  # that earlier tests have left
    trained = begun(pictures, folder := RunFolder(tmp_path / "run"), workers=2)
    with monkeypatch.context() as patched:
        at(patched, Trainer, "_step", 2, tell_all)
        ended(trained, signal.SIGTERM)
    assert steps_in(folder, trained) >= 1
    gc.collect()  # the error's traceback, which holds the stream
    until = time.monotonic() + 30
    while readers():
        assert time.monotonic() < until, "readers are left over"
        time.sleep(0.1)
    resumed(folder, workers=0)
    check_same(folder, whole)


# an evaluation has 12 chunks, and a pass of a step 4: at each of them there is a check
MOMENTS: dict[str, tuple[Any, str, int, int]] = {
    "the first pass of the first step": (Stopping, "check", 14, 0),
    "the first pass of the third": (Stopping, "check", 30, 2),
    "its second pass": (Stopping, "check", 34, 2),
    "its loss": (StepLoss, "__call__", 3, 2),
    "the optimiser's step": (step, "check_gradients", 3, 3),
    "after a step": (Trainer, "_save_if_due", 3, 3),
    "an evaluation begins": (Trainer, "_evaluate", 2, 3),
    "an evaluation": (Stopping, "check", 40, 3),
    "the measuring": (trainer, "measure", 2, 3),
    "the best model is written": (best_epoch, "write_weights", 1, 3),
    "the checkpoint is written": (files, "sync", 9, 3),
    "the last evaluation": (Trainer, "_evaluate", 3, 6),
    "the model is saved": (trainer, "save", 1, 6),
}
"""What is called at that moment, for the how manieth time, and how many steps are done by then."""
QUICK = ("its second pass", "after a step", "an evaluation", "the checkpoint is written")


@pytest.mark.parametrize(
    "moment", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MOMENTS if name not in QUICK)]
)
def test_a_signal_loses_no_more_than_the_step_at_work(
    pictures: Path, whole: RunFolder, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, nth, done = MOMENTS[moment]
    sent = list(CODES)[len(moment) % 2]
    trained = begun(pictures, folder := RunFolder(tmp_path / "run"))
    with monkeypatch.context() as patched:
        at(patched, owner, name, nth, lambda: signal.raise_signal(sent))
        ended(trained, sent)
    assert len(steps(folder.history())) == done
    assert steps_in(folder, trained) == done
    resumed(folder)
    check_same(folder, whole)


def steps_in(folder: RunFolder, trained: Trainer) -> int:
    """How many steps are done in a checkpoint."""
    state = load_state(folder.checkpoint)
    batches: int = state["batches"]
    return trained.plan.steps_until(state["epoch"] - 1) + batches


@pytest.mark.parametrize("sent", CODES)
@pytest.mark.parametrize(
    "moment", [(trainer, "machine", 1), (Stopping, "check", 3), (Trainer, "_begin_alike", 1)], ids=lambda m: m[1]
)
def test_a_signal_before_the_first_step_leaves_nothing(
    pictures: Path, tmp_path: Path, moment: tuple[Any, str, int], sent: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = begun(pictures, RunFolder(tmp_path / "run"))
    at(monkeypatch, *moment, lambda: signal.raise_signal(sent))
    ended(trained, sent)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        pytest.param((files, "sync", 15), signal.SIGTERM, id="writing-SIGTERM"),
        pytest.param((files, "sync", 15), signal.SIGINT, id="writing-SIGINT", marks=pytest.mark.slow),
        pytest.param((Stopping, "check", 34), signal.SIGTERM, id="a step-SIGTERM", marks=pytest.mark.slow),
        pytest.param((Stopping, "check", 34), signal.SIGINT, id="a step-SIGINT"),
    ],
)
def test_a_second_signal_ends_at_once_and_the_checkpoint_before_stays(
    pictures: Path,
    whole: RunFolder,
    tmp_path: Path,
    moment: tuple[Any, str, int],
    sent: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice() -> None:
        before.append(folder.checkpoint.read_bytes())
        signal.raise_signal(sent)
        signal.raise_signal(sent)

    monkeypatch.setattr(stopping, "MOMENT", 0.0)
    trained = begun(pictures, folder := RunFolder(tmp_path / "run"), checkpoint_minutes=1e-9)
    before: list[bytes] = []
    with monkeypatch.context() as patched:
        at(patched, *moment, twice)
        ended(trained, sent)
    assert before == [folder.checkpoint.read_bytes()]
    assert not list(folder.path.rglob("*.unfinished"))
    resumed(folder, checkpoint_minutes=15.0)
    check_same(folder, whole)


def test_one_signal_that_is_sent_twice_is_one(
    pictures: Path, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by SLURM and by torchrun."""

    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    trained = begun(pictures, folder := RunFolder(tmp_path / "run"))
    with monkeypatch.context() as patched:
        at(patched, Stopping, "check", 34, twice)
        ended(trained, signal.SIGTERM)
    assert folder.has_checkpoint
    resumed(folder)
    check_same(folder, whole)


def test_a_signal_that_was_switched_off_stays_so(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `nohup` and shells do with what they start in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    at(monkeypatch, Stopping, "check", 14, lambda: signal.raise_signal(signal.SIGINT))
    list(begun(pictures, folder := RunFolder(tmp_path / "run")).rows())
    assert len(steps(folder.history())) == 6


TOGETHER = {
    "the first pass of the third": (Stopping, "check", 16, 2),
    "the first pass of the first step": (Stopping, "check", 8, 0),
    "its second pass": (Stopping, "check", 18, 2),
    "an evaluation": (Stopping, "check", 20, 3),
    **{name: MOMENTS[name] for name in ("after a step", "its loss")},
}
"""A process has half of the chunks. The first process is told at every other moment."""


def told(pictures: str, root: str, sent: int, moments: list[str]) -> dict[str, tuple[object, int]]:
    """Train a run for each moment; this process is told to end, or the other is. Return how each ended, and when."""
    signal.signal(signal.SIGTERM, terminate)
    found: dict[str, tuple[object, int]] = {}
    for turn, moment in enumerate(moments):
        owner, name, nth, _ = TOGETHER[moment]
        folder = RunFolder(Path(root) / moment)
        trained, code = begun(Path(pictures), folder), None
        with pytest.MonkeyPatch.context() as patched:
            if processes.number() == turn % 2:
                at(patched, owner, name, nth, lambda: signal.raise_signal(sent))
            try:
                list(trained.rows())
            except SystemExit as stopped:
                code = stopped.code
        processes.of_first(None)  # wait for the other
        found[moment] = code, steps_in(folder, trained)
        resumed(folder)
    list(begun(Path(pictures), RunFolder(Path(root) / "whole")).rows())
    return found


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(["an evaluation", "its second pass"], id="two moments"),
        pytest.param([*TOGETHER], id="all", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_one_of_two_processes_ends_both_alike(pictures: Path, tmp_path: Path, moments: list[str]) -> None:
    one, other = in_processes(told, 2, str(pictures), str(tmp_path), signal.SIGTERM, moments)
    assert one == other
    assert [*one] == moments
    for name, (code, done) in one.items():
        assert (code, done) == (143, TOGETHER[name][3]), name
        check_same(RunFolder(tmp_path / name), RunFolder(tmp_path / "whole"))
