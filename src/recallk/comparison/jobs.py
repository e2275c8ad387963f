"""The runs of a comparison, each in a process of its own: started, waited for, ended."""

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from recallk.comparison import worker
from recallk.comparison.contenders import Contender
from recallk.comparison.single_run import failure_of, write_failure
from recallk.core.sockets import make_socket_folder
from recallk.runs.folder import RunFolder

GRACE = 5  # seconds that a process has to end by itself
_SLOW_TO_IMPORT = ("timm", "torchvision.transforms", "pytorch_metric_learning.losses")
"""What a run imports where it needs it: images do, vectors do not."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    contender: Contender
    values: dict[str, Any]
    folder: RunFolder

    @property
    def name(self) -> str:
        """Return "rate-0.001-1" of the search, "seed-1" of the measurement, or "timing"."""
        return self.folder.path.name


def start(job: Job, at_once: int) -> BaseProcess:
    """Start a job in a fresh process: what it breaks, and the memory that it takes, are its own.

    Not forked from this one: the threads of numerical libraries do not survive that. It is forked from a server
    that has imported everything and computed nothing, which takes a tenth of a second where a spawned process would
    import for six. A pool of processes would break as a whole when one of them is killed.
    """
    make_socket_folder()
    context = multiprocessing.get_context("forkserver")
    # what the plan has imported, each run needs: once in the server rather than in each run
    context.set_forkserver_preload(["recallk.comparison.worker", *(n for n in _SLOW_TO_IMPORT if n in sys.modules)])
    process = context.Process(target=worker.work, args=(job.values, job.folder, at_once))
    # Ctrl-C reaches all processes of a terminal: this one ends the others, which would show where they were interrupted
    resource_tracker.ensure_running()  # what `start` would do first, and thereby undo the next line
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def wait_for_one(running: dict[int, tuple[BaseProcess, Job]]) -> None:
    """Wait until a process ends, and forget it; one that wrote no reason for its failure gets one from here."""
    for sentinel in running.keys() & set(wait(list(running))):
        process, job = running[sentinel]
        process.join()
        del running[sentinel]
        if process.exitcode and failure_of(job.folder) is None:
            write_failure(job.folder, _why_ended(process.exitcode))


def _why_ended(code: int) -> str:
    """Say in words what an exit status tells of a process that wrote no reason itself."""
    if code == worker.UNWRITTEN:
        return "failed, and why could not be written: the disk was full, or its folder is closed to writing; make room"
    by = signal.Signals(-code).name if code < 0 else str(code)
    return f"the process ended with {by}; it may have run out of memory"


def end_all(processes: Sequence[BaseProcess]) -> None:
    """End processes that are not to go on by themselves; what they have saved, another comparison goes on from."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)
        if process.is_alive():
            process.kill()
            process.join()
