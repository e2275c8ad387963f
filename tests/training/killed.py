"""A run that kills its process at a moment that was drawn; with what it does by then in a file."""

import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recallk.core import files
from recallk.core.errors import RecallkError
from recallk.runs.folder import RunFolder
from recallk.training import step, stopping, trainer
from recallk.training import train as training

PHASES = ("reading", "training", "evaluation", "writing")


@dataclass(frozen=True)
class Kill:
    """The `nth` moment of a phase, from 1, in the process `victim`, and so many seconds."""

    victim: int
    phase: str
    nth: int
    delay: float


class Moments:
    """Counts the moments of each phase, and writes into a file which phase it is: `0` to `3`."""

    def __init__(self, path: Path, kill: Kill | None) -> None:
        self.counts = dict.fromkeys(PHASES, 0)
        self._kill, self._outer, self._inner = kill, "reading", ""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)

    def enter(self, phase: str) -> None:
        """Be in a phase until another begins; writing goes on beside it."""
        self._outer = phase
        self._write()

    def now(self, inner: str = "") -> None:
        """A moment of the phase, or of `inner`, where the process may be killed."""
        self._inner = inner
        self._write()
        phase = inner or self._outer
        self.counts[phase] += 1
        if self._kill is not None and (self._kill.phase, self._kill.nth) == (phase, self.counts[phase]):
            if not self._kill.delay:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=self._end_after, args=(self._kill.delay,), daemon=True).start()

    def written(self) -> None:
        """A moment, after which writing is over."""
        self.now("writing")
        self._inner = ""
        self._write()

    def _write(self) -> None:
        os.pwrite(self._file, str(PHASES.index(self._inner or self._outer)).encode(), 0)

    def _end_after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)


def _marked(owner: Any, name: str, before: Callable[[], object], after: Callable[[], object] | None = None) -> None:
    """Have a function do something else before, and after."""
    function = getattr(owner, name)

    def marked(*arguments: Any, **named: Any) -> Any:
        before()
        try:
            return function(*arguments, **named)
        finally:
            if after is not None:
                after()

    setattr(owner, name, marked)


def watch(moments: Moments) -> None:
    """Put the moments into the code that runs: before and after each chunk, exchange, file, row."""
    _marked(training, "prepare", moments.now, moments.now)
    _marked(trainer, "network_of", moments.now, moments.now)
    _marked(trainer.Trainer, "_step", lambda: moments.enter("training"))
    _marked(trainer.Trainer, "_measure", lambda: moments.enter("evaluation"))
    _marked(stopping.Stopping, "check", moments.now)
    _marked(stopping.Stopping, "agree", moments.now, moments.now)
    _marked(step, "check_gradients", moments.now, moments.now)
    for owner, name in ((files, "sync"), (RunFolder, "append"), (RunFolder, "begin")):
        _marked(owner, name, lambda: moments.now("writing"), moments.written)
    _marked(secrets, "token_hex", lambda: moments.now("writing"))  # in the name of each file that is begun


def work(place: tuple[int, int, int], values: dict[str, Any], run: str, kill: Kill | None, marks: str) -> None:
    """Train into a folder, or go on there, as process `place[0]` of `place[1]`, which meet at a port.

    The counts of the moments are written where it comes to an end.
    """
    os.setsid()  # what it starts can be found
    multiprocessing.set_start_method(None, force=True)  # its readers start as those of a command do, not as it did
    torch.set_num_threads(1)
    number, count, port = place
    if count > 1:
        names = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in names.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    moments = Moments(Path(f"{marks}-{number}"), kill if kill is None or kill.victim == number else None)
    watch(moments)
    try:
        if RunFolder(Path(run)).config.exists():
            training.resume(run)
        else:
            training.train(values, run)
    except RecallkError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    Path(f"{marks}-{number}.counts").write_text(" ".join(map(str, moments.counts.values())))
