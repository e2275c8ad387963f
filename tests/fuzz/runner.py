"""Runs cases in a process that is watched: what hangs, grows or dies is a fault, and the next cases go on."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.fuzz.case import Verdict
from tests.fuzz.worker import work
from tests.processes import server

AREAS = ("library", "options", "tables", "vectors", "images", "runs")
Said = Verdict | tuple[int, str] | str
"""What a worker says: how a case went; the number and the name of one that begins; or in words what is the matter."""

START = 180.0  # seconds for the imports, on a busy machine


class Runner:
    """Runs cases of one area below a folder; `seconds` and `megabytes` are what a case may take."""

    def __init__(self, area: str, folder: Path, seconds: float = 60, megabytes: int = 2048) -> None:
        self.area, self.folder, self.seconds, self.megabytes = area, folder, seconds, megabytes

    def run(self, numbers: Sequence[int]) -> Iterator[Verdict]:
        """Yield the verdict of each case, in order. One that takes too long is tried again, alone, before it counts."""
        left = list(numbers)
        slow: int | None = None
        while left:
            for verdict in self._run_until_trouble(list(left)):
                if verdict.kind == "fault" and verdict.detail == self._too_long and slow != verdict.number:
                    slow = verdict.number
                    break
                left.remove(verdict.number)
                yield verdict

    @property
    def _too_long(self) -> str:
        return f"no answer within {self.seconds:g} s"

    def _run_until_trouble(self, numbers: Sequence[int]) -> Iterator[Verdict]:
        """Yield verdicts of one process, up to and with the first case that it cannot go on after."""
        context = server()
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(self.area, numbers, self.folder, theirs))
        process.start()
        theirs.close()
        try:
            if self._next(process, ours, START) != "ready":
                log = (self.folder / "worker.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"the fuzz of {self.area} cannot start: {log}")
            for _ in numbers:
                begun = self._next(process, ours, START)
                if not isinstance(begun, tuple):
                    raise RuntimeError(f"{self.area}: between two cases: {begun}")
                number, what = begun
                found = self._next(process, ours, self.seconds)
                if isinstance(found, Verdict) and found.peak_mb <= self.megabytes:
                    yield found
                    continue
                detail = f"took {found.peak_mb} MB" if isinstance(found, Verdict) else str(found)
                yield Verdict(self.area, number, what, "fault", detail)
                return
        finally:
            ours.close()
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(process.pid or 0) == process.pid:
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()

    def _next(self, process: BaseProcess, connection: Connection, seconds: float) -> Said:
        """Return what the process says next, or in words why it says nothing."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if connection.poll(0.05):
                    said: Said = connection.recv()
                    return said
            except (EOFError, ConnectionError):
                process.join()
                return f"the process died (exit code {process.exitcode})"
            if (resident := _resident_mb(process.pid or 0)) > self.megabytes:
                return f"took {resident} MB and more"
        return self._too_long


def _resident_mb(pid: int) -> int:
    """Return the memory of the largest of a process and its children; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError, ValueError):
        return 0
    return max([pages * os.sysconf("SC_PAGE_SIZE") >> 20, *map(_resident_mb, map(int, children))])
