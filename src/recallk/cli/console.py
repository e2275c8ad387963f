"""What a person sees while a command works: on a terminal a bar, in a log file a line now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from recallk.core.text import shown

SILENCE = 10.0  # seconds between two lines of a log
BarMoves = Callable[[int, int | None, str], None]
"""Takes how many are done, of how many (None: as before), and a note."""

console = Console(highlight=False, markup=False, emoji=False)  # names and labels are printed as they are


def say(line: str, style: str | None = None) -> None:
    """Print a line that may hold names that somebody else chose: as text, and unbroken, to be copied."""
    console.print(shown(line), style=style, soft_wrap=True)


class _Pace:
    """How long the rest takes, at the pace since the first count; what came before it may be of an earlier start."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def left(self, done: int, total: int | None) -> str:
        """Say it in words, such as "12 min left"; "" where nobody can know."""
        now = time.perf_counter()
        self._first = self._first or (now, done)
        began, before = self._first
        if total is None or done <= before or done >= total:
            return ""
        return f"{duration((now - began) * (total - done) / (done - before))} left"


def duration(seconds: float) -> str:
    """Say roughly how long something takes.

    >>> duration(40), duration(1000), duration(20_000), duration(200_000)
    ('40 s', '17 min', '5 h 33 min', '2 d 7 h')

    """
    minutes = round(seconds / 60)
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


class _OnStderr(logging.Handler):
    """Prints a line for what is logged; where there is a bar, rich stands in for stderr, and prints it above."""

    def emit(self, record: logging.LogRecord) -> None:
        print(shown(self.format(record)), file=sys.stderr, flush=True)


def show_log() -> None:
    """Show from now on what the package logs, from debug level on, each line with its time."""
    handler = _OnStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    log = logging.getLogger("recallk")
    log.handlers = [handler]  # a second call in one process changes nothing
    log.setLevel(logging.DEBUG)


@contextmanager
def progress(what: str, total: int | None = None, note: str = "") -> Iterator[BarMoves]:
    """Show how far something has come; the yielded function is told."""
    if not console.is_terminal:
        yield _log(what, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task, pace = bar.add_task(what, total=total, note=note, left=""), _Pace()

        def told(done: int, of: int | None, note: str) -> None:
            among = total if of is None else of
            bar.update(task, completed=done, total=among, note=note, left=pace.left(done, among))

        yield told


def _log(what: str, total: int | None) -> BarMoves:
    begun = last = time.perf_counter()
    pace = _Pace()

    def told(done: int, of: int | None, note: str) -> None:
        nonlocal last, total
        total = total if of is None else of
        now, left = time.perf_counter(), pace.left(done, total)
        if now - last >= SILENCE or (done == total and now - begun >= 1):
            last = now
            among = "" if total is None else f" of {total:,}"
            say("  ".join(filter(None, (f"{what}  {done:,}{among}", left, note))))

    return told


class ProgressShown:
    """Shows the progress that a function reports: a bar while items are counted, else what is being done."""

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._what = ""
        self._advance: BarMoves = lambda _done, _of, _note: None

    def __enter__(self) -> "ProgressShown":
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.close()

    def advance(self, what: str, done: int, of: int) -> None:
        """Take what is being done, how many items are done, and of how many (0: nobody knows)."""
        if what != self._what:
            self._shown.close()
            self._what = what
            if of:
                self._advance = self._shown.enter_context(progress(what, of))
            else:
                self._shown.enter_context(console.status(what))
        if of:
            self._advance(done, of, "")
