"""Limits of time and memory for what must neither hang nor grow."""

import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class HangsError(Exception):
    """Raised by `seconds`; no OSError, which what is tested may catch."""


@contextmanager
def seconds(limit: float) -> Iterator[None]:
    """Raise HangsError where what is inside takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangsError(f"more than {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def megabytes(call: Callable[[], object]) -> float:
    """Return by how much a call enlarges a process at most, measured in one of its own."""
    context: Any = multiprocessing.get_context("fork")
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(call, its))
    process.start()
    its.close()
    grown: float = ours.recv()
    process.join()
    return grown


def _measure(call: Callable[[], object], pipe: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
