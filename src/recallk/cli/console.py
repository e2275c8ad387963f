"""What a person sees while a command works: on a terminal a bar, in a log file a line now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recallk.core.text import shown

SILENCE = 10.0  # seconds between two lines of a log
BarMoves = Callable[[int, int | None, str], None]
"""Takes how many are done, of how many (None: as before), and a note."""

console = Console(highlight=False, markup=False, emoji=False)  # names and labels are printed as they are


def say(line: str, style: str | None = None) -> None:
    """Print a line that may hold names that somebody else chose: as text, and unbroken, to be copied."""
    console.print(shown(line), style=style, soft_wrap=True)


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
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, note=note)
        yield lambda done, of, told: bar.update(task, completed=done, total=total if of is None else of, note=told)


def _log(what: str, total: int | None) -> BarMoves:
    begun = last = time.perf_counter()

    def told(done: int, of: int | None, note: str) -> None:
        nonlocal last, total
        total = total if of is None else of
        now = time.perf_counter()
        if now - last >= SILENCE or (done == total and now - begun >= 1):
            last = now
            among = "" if total is None else f" of {total:,}"
            say(f"{what}  {done:,}{among}  {note}".rstrip())

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
