"""SIGTERM and Ctrl-C while a run trains: what is at work is finished, a checkpoint is written, then the run ends."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from recallk.core import processes

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MOMENT = 2.0
"""Seconds in which a second signal is the first one again."""


class Stopped(BaseException):
    """The run is to end now, by a signal of this number; raised where nothing is half-done.

    `agreed`: all processes know.
    """

    def __init__(self, by: int, agreed: bool) -> None:
        super().__init__(by, agreed)
        self.by, self.agreed = by, agreed


class Stopping:
    """Notes a signal while the context lasts; another one, after a moment, ends the process as without this.

    Not at once: of SLURM and torchrun each may send one and the same.

    In a thread other than the main one, signals are left alone.
    """

    def __init__(self) -> None:
        self._by, self._since = 0, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.getsignal(each) for each in SIGNALS}
            for each, handler in self._before.items():
                if handler is not signal.SIG_IGN:  # whoever started this process wants it so
                    signal.signal(each, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._put_back()

    def check(self) -> None:
        """Raise Stopped where this process is to stop; called where a chunk has been finished."""
        if self._by:
            raise Stopped(self._by, agreed=False)

    def agree(self, also: int = 0) -> int:
        """Raise Stopped in all processes where one of them is to stop; else return the largest `also` of any."""
        by, other = processes.largest(self._by, int(also))
        if by:
            raise Stopped(by, agreed=True)
        return other

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._by:
            self._by, self._since = number, now
        elif now - self._since >= MOMENT:
            self._put_back()
            signal.raise_signal(number)

    def _put_back(self) -> None:
        for each, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(each, handler)


def end_by(number: int) -> NoReturn:
    """End as a process that the signal ended: KeyboardInterrupt for Ctrl-C, else SystemExit with 128 + the signal."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
