"""What a person sees while a command works."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

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
        "a batch of 32 items in 2 chunks, of which 0 wait in memory to be embedded again",
        "the loss of 32 items on cpu is computed by 'tiled', with the kernel of ",
        f"wrote {run.checkpoint}, ",
        f"read {run.best(1)} in ",
    ):
        assert sum(line.startswith(said) for line in lines) == 1, said
    assert "wrote" not in told.out
