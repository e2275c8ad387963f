"""The runs of a comparison as processes of their own: what one breaks, and the memory that it takes, are its own."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from recallk.comparison.contenders import Contender
from recallk.comparison.outcomes import cost_of, fail, failure_of, forget_failure
from recallk.core.errors import InputError, RecallkError
from recallk.core.files import write_text
from recallk.core.text import one_line
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer, workers_of  # here, and not in each process again

LAST_WORDS = 5  # seconds that a process has to end by itself
UNWRITTEN = 74  # exit status of a process that failed and could not write why


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    contender: Contender
    values: dict[str, Any]
    folder: RunFolder

    @property
    def name(self) -> str:
        """Return "rate-0.001-1" of the search, "seed-1" of the measurement, or "pace"."""
        return self.folder.path.name


def start(job: Job, at_once: int) -> BaseProcess:
    """Start a job by itself: what it breaks, and the memory that it takes, are its own."""
    # a fork need not import everything again
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(job, at_once))
    process.start()
    return process


def wait_for_one(running: dict[int, tuple[BaseProcess, Job]]) -> None:
    """Wait until a process ends."""
    for sentinel in running.keys() & set(wait(list(running))):
        process, job = running[sentinel]
        process.join()
        del running[sentinel]
        if process.exitcode and failure_of(job.folder) is None:
            fail(job.folder, _why_ended(process.exitcode))


def _why_ended(code: int) -> str:
    """Say in words what an exit status tells of a process that left no word itself."""
    if code == UNWRITTEN:
        return "failed, and why could not be written: the disk was full, or its folder is closed to writing; make room"
    by = signal.Signals(-code).name if code < 0 else str(code)
    return f"the process ended with {by}; it may have run out of memory"


def end_all(processes: Sequence[BaseProcess]) -> None:
    """End processes that are not to go on by themselves; what they have saved, another comparison goes on from."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(LAST_WORDS)
        if process.is_alive():
            process.kill()
            process.join()


def _end_with_parent() -> None:
    """Let this process end with the one that started it, however that ends: nobody else knows of it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's way of ending
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a process of a comparison"

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _work(job: Job, at_once: int) -> None:
    _end_with_parent()
    try:
        torch.set_num_threads(max(1, torch.get_num_threads() // at_once))
        config = make_config(job.values)
        config = config.model_copy(update={"workers": workers_of(config) // (1 if config.workers else at_once)})
        forget_failure(job.folder)
        begun = job.folder.config.is_file()
        trainer = Trainer(prepare(config, job.folder.read_split() if begun else None), job.folder)
        for _ in trainer.rows(resume=begun):
            pass
        write_text(cost_of(job.folder), json.dumps({"peak_bytes": _peak_bytes(trainer.fabric.device)}))
    except KeyboardInterrupt:
        return
    except RecallkError as error:
        _leave_word(job, str(error))
    except Exception as error:  # one contender's failure is a row of the table, and the others go on
        _leave_word(job, f"{type(error).__name__}: {one_line(error)}")


def _leave_word(job: Job, message: str) -> None:
    try:
        fail(job.folder, message)
    except InputError:  # a full disk: the parent says so, if it can by then
        sys.exit(UNWRITTEN)


def _peak_bytes(device: torch.device) -> int:
    """Return the most memory that was taken: of a GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
