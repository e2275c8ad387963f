"""Processes that read items: what ends one of them is told in one line."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from recallk.core.errors import InputError
from recallk.core.sockets import make_socket_folder
from recallk.core.text import one_line


def prepare_reader(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends the others: each would print a traceback of its own.

    And make sure that chunks can be handed over, or raise OSError: later, nobody would be told.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make_socket_folder()


def lost_reader(error: BaseException, workers: int) -> InputError:
    """Return what to say where the readers' processes, or what connects them, fail."""
    text = str(error).strip()
    if "\nOriginal Traceback" in text:  # raised as a reader began: the last line of its traceback says what
        error = OSError(text.splitlines()[-1])
    return InputError(
        f"a process that reads items failed ({one_line(error)}); it may have run out of memory or of open files: "
        f"lower --workers (now {workers}), or raise the limit (ulimit -n, /dev/shm)"
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
