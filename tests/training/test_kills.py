"""Whatever kills a run, and whenever: it goes on to the end that it would have had, and leaves nothing behind."""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from recallk import load
from recallk.core.sockets import make_socket_folder
from recallk.runs.config import make_config, to_yaml
from recallk.runs.folder import RunFolder
from recallk.training.state import load_state
from tests.rows import without_time
from tests.training.killed import PHASES, Kill, work
from tests.training.test_trainer import SMALL, save_patterns

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc")]

KILLS = 30
TINY: dict[str, Any] = SMALL | {
    **{"image_size": 16, "resize": 16, "embedding_size": 8, "epochs": 2, "chunk_size": 3, "batch_size": 8},
    **{"items_per_class": 2, "validation_fraction": 0.3, "checkpoint_minutes": 1e-4, "seed": 3},
}
CASES: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": True, "optimizer": "adam"},
    "a memory": {"loss": {"name": "memory-contrastive", "memory_size": 24}, "select": "test"},
    "a memory of ours, with a reader": {"loss": {"name": "memory-recall@k", "memory_size": 24}, "workers": 1},
}
PATIENCE = 60  # seconds that the others have to end


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted, and how many moments of each phase each of its processes had."""

    folder: RunFolder
    moments: list[dict[str, int]]


class Runs:
    """Runs of one case in so many processes, below a folder."""

    def __init__(self, root: Path, pictures: Path, changes: dict[str, Any], count: int) -> None:
        self.root, self.count = root, count
        self.values = TINY | {"data": str(pictures)} | changes
        self._calls = 0

    def call(self, run: Path, kill: Kill | None = None) -> list[int]:
        """Train into a folder, or go on there; return how the processes have ended. None of theirs is left."""
        self._calls += 1
        marks, port = self.root / f"marks-{self._calls}", free_port()
        context = multiprocessing.get_context("forkserver")
        processes = [
            context.Process(target=work, args=((number, self.count, port), self.values, str(run), kill, str(marks)))
            for number in range(self.count)
        ]
        for process in processes:
            process.start()
        until = time.monotonic() + PATIENCE
        try:
            for process in processes:
                process.join(max(0.1, until - time.monotonic()))
            hanging = [process.name for process in processes if process.exitcode is None]
            assert not hanging, f"{hanging} did not end within {PATIENCE} s, {kill}"
        finally:
            for process in processes:
                process.kill()
                process.join()
        sessions = {process.pid for process in processes}
        assert soon(lambda: not in_sessions(sessions)), f"left over: {in_sessions(sessions)}, {kill}"
        return [process.exitcode or 0 for process in processes]

    def phase(self, victim: int) -> str:
        """Return what a process of the last call did when it ended."""
        return PHASES[int((self.root / f"marks-{self._calls}-{victim}").read_text())]

    def whole(self) -> Whole:
        """Return a run that nothing interrupted."""
        run = self.root / "whole"
        assert self.call(run) == [0] * self.count
        counts = [(self.root / f"marks-{self._calls}-{n}.counts").read_text().split() for n in range(self.count)]
        return Whole(RunFolder(run), [dict(zip(PHASES, map(int, own), strict=True)) for own in counts])


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


def in_sessions(sessions: set[int | None]) -> set[int]:
    """Processes of these sessions that have not ended."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found.add(int(stat.parent.name))
    return found


def soon(happens: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.05)
    return happens()


def check_readable(folder: RunFolder) -> None:
    """All that is there can be read, or the run begins anew."""
    if folder.config.exists():
        folder.read_config()
        folder.read_split()
        folder.history()
    if folder.has_checkpoint:
        state = load_state(folder.checkpoint)
        assert folder.read_split() is not None
        assert state["best"] is None or folder.best(state["best"][0]).is_file()


def check_same(folder: RunFolder, whole: RunFolder) -> None:
    """Bit for bit, what was learnt and what stands in the checkpoint; the rows; the files; and nothing else."""
    assert without_time(folder.history()) == without_time(whole.history())
    assert same(load(folder.path).state_dict(), load(whole.path).state_dict())
    assert same(load_state(folder.checkpoint), load_state(whole.checkpoint))
    files = [{path.relative_to(one.path) for path in one.path.rglob("*")} for one in (folder, whole)]
    assert files[0] - {Path("report.html")} == files[1]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=14, images=4)


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    make_socket_folder()
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.training.killed", "sklearn.metrics"])
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is None:
        del os.environ["OMP_NUM_THREADS"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_is_killed_goes_on_to_the_same_end(pictures: Path, tmp_path: Path, count: int) -> None:
    """Thirty kills in each number of processes, of which any one is killed; some runs are killed again and again."""
    chance = random.Random(count)
    runs = {name: Runs(tmp_path / str(n), pictures, changes, count) for n, (name, changes) in enumerate(CASES.items())}
    wholes = {}
    for name, one in runs.items():
        one.root.mkdir()
        wholes[name] = one.whole()
    fell = Counter[str]()
    turns = 0
    while fell.total() < KILLS:
        turns += 1
        one, whole = runs[name := list(CASES)[turns % len(CASES)]], wholes[name]
        folder = RunFolder(one.root / f"run-{turns}")
        for _ in range(chance.randint(1, 4)):
            kill = draw(chance, whole, PHASES[fell.total() % len(PHASES)])
            ends = one.call(folder.path, kill)
            check_readable(folder)
            if ends[kill.victim] != -signal.SIGKILL:
                assert ends == [0] * count, f"{ends}, {kill}"  # it had come to its end before
                break
            assert all(ends), "the others have noticed"
            fell[one.phase(kill.victim)] += 1
        assert one.call(folder.path) == [0] * count
        check_same(folder, whole.folder)
    print(f"{fell.total()} kills in {turns} runs of {count} processes:", dict(fell))
    assert min(fell[phase] for phase in PHASES) >= 3, fell


def draw(chance: random.Random, whole: Whole, phase: str) -> Kill:
    """Draw a moment of a phase, and a delay that may lead out of it."""
    with_it = [number for number, counts in enumerate(whole.moments) if counts[phase]]
    victim = chance.choice(with_it)
    nth, delay = chance.randint(1, whole.moments[victim][phase]), chance.random() / 50
    return Kill(victim, phase, nth, chance.choice((0.0, delay)))


COMMANDS = ((1, 0, '"step": 7'), (2, 0, ""), (2, 0, '"step": 4'), (2, 1, '"epoch": 0'), (2, 1, '"step": 8'))
"""How many processes, which of them is killed, and what metrics.jsonl says by then."""


def command(*words: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "recallk", "train", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_commands_that_are_killed_go_on_to_the_same_end(pictures: Path, tmp_path: Path) -> None:
    """The first process of two, which has started the other, or the other: none is left, and none waits for ever."""
    changes = CASES["mixup"] | {"epochs": 24}  # so many that none ends before it is killed
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(make_config(TINY, changes, {"data": str(pictures)})))
    folders = [RunFolder(tmp_path / f"run-{number}") for number in range(len(COMMANDS))]
    running = [
        command(recipe, "--devices", count, "--run", folder.path)
        for folder, (count, *_) in zip(folders, COMMANDS, strict=True)
    ]
    chance = random.Random(7)
    try:
        for process, folder, (count, victim, said) in zip(running, folders, COMMANDS, strict=True):
            assert soon(lambda: len(in_sessions({process.pid})) >= count, 120)  # noqa: B023 (called here)
            assert soon(lambda: not said or says(folder, said), 120)  # noqa: B023
            time.sleep(chance.random() / 5)
            killed = process.pid if not victim else max(in_sessions({process.pid}) - {process.pid})
            os.kill(killed, signal.SIGKILL)
        for process, folder, (_, victim, _) in zip(running, folders, COMMANDS, strict=True):
            _, error = process.communicate(timeout=PATIENCE)
            assert process.returncode == (2 if victim else -signal.SIGKILL), error
            if victim:
                assert error.count("recallk: ") == 1, error
                assert "process 1 of this machine has ended (SIGKILL" in error
            assert soon(lambda: not in_sessions({process.pid})), in_sessions({process.pid})  # noqa: B023
            check_readable(folder)
        running = [
            command("--resume", folder.path)
            if folder.config.exists()
            else command(recipe, "--devices", count, "--run", folder.path)
            for folder, (count, *_) in zip(folders, COMMANDS, strict=True)
        ]
        for process in running:
            _, error = process.communicate(timeout=4 * PATIENCE)
            assert process.returncode == 0, error
    finally:
        for process in running:
            process.kill()
    wholes = {}
    for count in (1, 2):
        runs = Runs(tmp_path / f"in-{count}", pictures, changes, count)
        runs.root.mkdir()
        wholes[count] = runs.whole().folder
    for folder, (count, *_) in zip(folders, COMMANDS, strict=True):
        check_same(folder, wholes[count])


def says(folder: RunFolder, text: str) -> bool:
    return folder.metrics.exists() and text in folder.metrics.read_text()
