"""Readers' processes that are killed, fail or are interrupted."""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recallk import InputError
from recallk.core import sockets
from recallk.models.chunks import Preparation, read_chunks
from tests.data.limits import HangsError, seconds

PIXEL = torch.zeros(3, 1, 1, dtype=torch.uint8)


class Fails(Preparation):
    """Reads two items, then waits for the file `go` and does what it was made for."""

    def __init__(self, go: Path, act: Callable[[], object]) -> None:
        self.go, self.act = go, act

    def prepare(self, number: int) -> torch.Tensor:
        if number >= 2:
            while not self.go.exists():
                time.sleep(0.01)
            self.act()
        return PIXEL

    def collate(self, prepared: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(prepared)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def too_many_files() -> None:
    raise OSError(24, "Too many open files")


def out_of_memory() -> None:
    raise MemoryError


def crash() -> None:
    raise RuntimeError("several\nlines")


CHUNKS = [np.array([0]), np.array([1]), np.array([2])]


def read_all(preparation: Fails, workers: int, idle: float) -> None:
    """Read all, with something else to do after the second chunk."""
    for number, _ in enumerate(read_chunks(preparation, CHUNKS, workers)):
        if number == 1:
            preparation.go.touch()
            until = time.monotonic() + idle
            while time.monotonic() < until:
                time.sleep(0.05)


def caught(preparation: Fails, workers: int = 1, idle: float = 0) -> str:
    """Return the one line that comes of reading all."""
    with seconds(30), pytest.raises(InputError) as error:
        read_all(preparation, workers, idle)
    message = str(error.value)
    assert "\n" not in message
    left: object = signal.getsignal(signal.SIGCHLD)
    assert getattr(left, "__module__", "") != "recallk.models.readers", "PyTorch's handler, or none, is left"
    return message


@pytest.mark.parametrize("idle", [0, 10])
def test_a_killed_reader_is_one_line(tmp_path: Path, idle: float, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where the main process is busy with something else when it happens."""
    started = time.monotonic()
    message = caught(Fails(tmp_path / "go", kill), idle=idle)
    assert message.startswith("a process that reads items failed (DataLoader worker (pid")
    assert "lower --workers (now 1)" in message
    assert time.monotonic() - started < 9
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_killed_reader_is_one_line_in_another_thread(tmp_path: Path) -> None:
    """There, no handler of signals can be set."""
    told: list[BaseException] = []

    def read() -> None:
        try:
            for number, _ in enumerate(read_chunks(Fails(tmp_path / "go", kill), CHUNKS, 1)):
                if number == 1:
                    (tmp_path / "go").touch()
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=read)
    with seconds(40):
        thread.start()
        try:
            thread.join()
        except (RuntimeError, InputError):  # a handler of an earlier reading in the main thread
            thread.join()
    assert [type(error) for error in told] == [InputError]
    assert "lower --workers" in str(told[0])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("act", "said"),
    [(too_many_files, "Too many open files"), (out_of_memory, "MemoryError"), (crash, "several lines")],
)
def test_whatever_a_reader_raises_is_one_line(
    tmp_path: Path, act: Callable[[], object], said: str, workers: int
) -> None:
    (tmp_path / "go").touch()
    message = caught(Fails(tmp_path / "go", act), workers)
    assert message.startswith("items cannot be read (")
    assert said in message


def test_an_interrupt_is_left_to_the_main_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C reaches every process of a terminal."""
    (tmp_path / "go").touch()
    with seconds(20):
        assert len(list(read_chunks(Fails(tmp_path / "go", interrupt), CHUNKS, 1))) == 3
    assert not capfd.readouterr().err


def test_shared_memory_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.data import dataloader

    def lost(_: object) -> None:
        raise RuntimeError("unable to open shared memory object </torch_1> in read-write mode:\nNo space left (28)")

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "_next_data", lost)
    with pytest.raises(InputError, match=r"unable to open shared memory object .* \(28\)\); .*/dev/shm"):
        list(read_chunks(Fails(Path(), crash), CHUNKS, 1))


def test_processes_that_cannot_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(InputError, match=r"Resource temporarily unavailable.*lower --workers \(now 2\)"):
        list(read_chunks(Fails(Path(), crash), CHUNKS, 2))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what lets temporary files be made in another folder, as TMPDIR does, in processes that begin now."""

    def begin(name: str) -> Path:
        monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        return tmp_path / name

    return begin


@pytest.mark.parametrize("length", [1, 60, 200])
def test_any_temporary_folder_will_do(
    tmp_path: Path, elsewhere: Callable[[str], Path], length: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The address of a socket has a limit that a folder's name may exceed."""
    elsewhere("x" * length).mkdir()
    (tmp_path / "go").touch()
    with seconds(20):
        assert len(list(read_chunks(Fails(tmp_path / "go", lambda: None), CHUNKS, 2))) == 3
    assert not capfd.readouterr().err


def test_a_temporary_folder_that_is_gone_is_one_line(
    tmp_path: Path, elsewhere: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "LONGEST_ADDRESS", 4096)  # however long the path of this test's folder is
    elsewhere("gone")
    message = caught(Fails(tmp_path / "go", crash))
    assert message.startswith("a process that reads items failed (FileNotFoundError: ")
    assert "/gone/pymp-" in message


def test_hangs_are_told() -> None:
    with pytest.raises(HangsError), seconds(0.05):
        time.sleep(5)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_reader_that_breaks_its_connection_is_named(lost: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end may be seen first where it was handing something over."""
    from torch.utils.data import dataloader

    killed = []

    def next_data(stream: Any) -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would be the first
        killed.append(stream._workers[1].pid)
        os.kill(killed[0], signal.SIGKILL)
        stream._workers[1].join()
        signal.signal(signal.SIGCHLD, before)
        raise lost

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "_next_data", next_data)
    with pytest.raises(InputError) as error:
        list(read_chunks(Fails(Path(), crash), CHUNKS, 2))
    assert str(error.value).startswith(
        f"a process that reads items failed (DataLoader worker (pid {killed[0]}) is killed by signal: SIGKILL)"
    )
    assert "lower --workers (now 2)" in str(error.value)
