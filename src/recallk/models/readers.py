"""Processes that read items: what ends one of them is told in one line."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from recallk.core.errors import InputError
from recallk.core.sockets import make_socket_folder
from recallk.core.text import one_line

_SENDER_IS_TOLD = sys.platform == "linux"
"""Whether the system says which process has sent a signal, in a way that Python knows."""
_MOMENT = 1.0  # seconds that a process which has closed its connections takes to be gone, at most


def prepare_reader(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends the others: each would print a traceback of its own.

    And SIGTERM, which SLURM and torchrun send to all processes: the main one still reads the chunks of its step. And
    make sure that chunks can be handed over, or raise OSError: later, nobody would be told.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and _SENDER_IS_TOLD:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by, args=(parent.pid,), daemon=True).start()
    make_socket_folder()


@contextmanager
def starting_readers() -> Iterator[None]:
    """Have what is forked inside wait with a SIGTERM until `prepare_reader`."""
    if not _SENDER_IS_TOLD:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_by(parent: int) -> None:
    """End when this process tells us to, by SIGTERM, and no other."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def lost_reader(error: BaseException, workers: int, readers: Sequence[BaseProcess] = ()) -> InputError:
    """Return what to say where the `readers`, or what connects them, fail: which has ended, and how, if one has."""
    if isinstance(error, OSError | EOFError) and (ended := _ended(readers)):
        error = OSError(ended)  # rather than of the connection that it has left behind
    text = str(error).strip()
    if "\nOriginal Traceback" in text:  # raised as a reader began: the last line of its traceback says what
        error = OSError(text.splitlines()[-1])
    return InputError(
        f"a process that reads items failed ({one_line(error)}); it may have run out of memory or of open files: "
        f"lower --workers (now {workers}), or raise the limit (ulimit -n, /dev/shm)"
    )


def _ended(readers: Sequence[BaseProcess]) -> str:
    """Say which of the readers have ended, as PyTorch does where it is the first to see it."""
    wait([reader.sentinel for reader in readers], _MOMENT)
    ended = [(reader.pid, reader.exitcode) for reader in readers if reader.exitcode is not None]
    return ", ".join(
        f"DataLoader worker (pid {pid}) is killed by signal: {signal.Signals(-code).name}"
        if code < 0
        else f"DataLoader worker (pid {pid}) has ended with {code}"
        for pid, code in ended
    )


@contextmanager
def deaths_in_one_line(workers: int) -> Iterator[None]:
    """Raise InputError where a reader dies while the main process does something else.

    PyTorch then raises RuntimeError out of a signal's handler, wherever the main process is: so the handler is the
    only place where it can be caught.
    """
    before = signal.getsignal(signal.SIGCHLD)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield  # PyTorch has set no handler: the death is found when the next chunk is asked for
        return
    inner: Any = before

    def handler(number: int, frame: FrameType | None) -> None:
        try:
            inner(number, frame)
        except RuntimeError as error:
            raise lost_reader(error, workers) from None

    signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        # another reading may have come on top: then its handler stays, which calls this one
        on_top = signal.getsignal(signal.SIGCHLD) is handler
        if on_top and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)
