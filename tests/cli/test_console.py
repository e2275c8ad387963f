"""What a person sees while a command works."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from recallk.cli import console
from recallk.runs.folder import RunFolder
from tests.cli.test_cli import FLAGS, recallk
from tests.miniature_run import Miniature


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The package's, as it was afterwards."""
    log = logging.getLogger("recallk")
    handlers, level = log.handlers, log.level
    yield log
    log.handlers = handlers
    log.setLevel(level)


def test_verbose_says_what_is_done_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], log: logging.Logger
) -> None:
    data, run = Miniature(tmp_path).data(), RunFolder(tmp_path / "run")
    words = ["train", "--data", data, *FLAGS, "--chunk-size", "20", "--host-memory-gb", "0", "--run"]
    assert recallk(*words, tmp_path / "silent") == 0
    silent = capfd.readouterr()
    assert silent.err == ""
    assert recallk("--verbose", *words, run.path) == 0
    assert recallk("--verbose", "recipes") == 0  # once more in one process, and each line still comes once
    told = capfd.readouterr()
    lines = [line.partition("  ")[2] for line in told.err.splitlines()]
    for said in (
        f"the lists of {data} name 96 items, read in ",
        "the network computes on cpu, in 32-true",
        "a batch of 32 items in 2 chunks: 2 are embedded here, of which ",
        "the loss of 32 items on cpu is computed by 'tiled', with the kernel of ",
        f"wrote {run.checkpoint}, ",
        f"read {run.best(1)} in ",
    ):
        assert sum(line.startswith(said) for line in lines) == 1, said
    assert "wrote" not in told.out


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_says_what_is_left_at_the_pace_since_the_first_count(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, terminal: bool
) -> None:
    """Of a run that goes on, too: its first step is number 61 here."""
    kept = Console(file=io.StringIO(), width=200, force_terminal=terminal, markup=False, emoji=False, highlight=False)
    monkeypatch.setattr(console, "console", kept)
    with console.progress("training", 100) as advance:
        for done in range(61, 100):
            clock.now += 30
            advance(done, None, f"loss {1 / done:.4f}")
    assert isinstance(kept.file, io.StringIO)
    text = kept.file.getvalue()
    if terminal:
        assert " 30 s left loss 0.0101\n" in text
        return
    assert text.splitlines() == [
        f"training  {done} of 100{f'  {left} left' if left else ''}  loss {1 / done:.4f}"
        for done in range(61, 100)
        for left in ["" if done == 61 else console.duration(30 * (100 - done))]
    ]


def test_nobody_knows_what_is_left_of_what_is_not_counted(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "console", Console(width=200, force_terminal=False))
    with console.progress("reading") as advance:
        for done in (1, 2):
            clock.now += 30
            advance(done, None, "")
    assert capsys.readouterr().out.splitlines() == ["reading  1", "reading  2"]
