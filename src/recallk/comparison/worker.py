"""What the process of one run does: it trains, writes what that took or why it failed, and ends with its parent."""

import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from recallk.comparison.single_run import remove_failure, write_cost, write_failure
from recallk.core.devices import available_device
from recallk.core.errors import InputError, RecallkError
from recallk.core.parent import end_with_parent
from recallk.core.text import one_line
from recallk.data.opening import opened_before
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.recipes import WHEN_RESUMED
from recallk.training.train import resume, train

UNWRITTEN = 74  # exit status of a process that failed and could not write why


def work(values: dict[str, Any], folder: RunFolder, at_once: int) -> None:
    """Train the configuration of these values in a folder, on a share of the cores; a run that has begun goes on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    end_with_parent()
    try:
        _train(values, folder, at_once)
    except RecallkError as error:
        _fail(folder, str(error))
    except Exception as error:  # one contender's failure is a row of the table, and the others go on
        _fail(folder, f"{type(error).__name__}: {one_line(error)}")


def _train(values: dict[str, Any], folder: RunFolder, at_once: int) -> None:
    config = make_config(values)
    threads = max(1, torch.get_num_threads() // at_once // config.devices)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that this one starts
    if isinstance(config, ImageTrainConfig):
        config = config.model_copy(update={"workers": config.readers // (1 if config.workers else at_once)})
    remove_failure(folder)
    path = folder.path.absolute()
    if folder.config.is_file():
        resume(path, {key: getattr(config, key) for key in WHEN_RESUMED & type(config).model_fields.keys()})
    else:
        with opened_before():  # by the comparison's plan
            train(config, path)
    write_cost(folder, _peak_bytes(available_device(config.accelerator)))


def _fail(folder: RunFolder, reason: str) -> None:
    try:
        write_failure(folder, reason)
    except InputError:  # a full disk: the parent says so, if it can by then
        sys.exit(UNWRITTEN)


def _peak_bytes(device: torch.device) -> int:
    """Return the most memory that was taken: of a GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # where getrusage counts what the parent held when it started this process
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if (peak := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)) is not None:
            return 1024 * int(peak[1])
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss if sys.platform == "darwin" else 1024 * peak_rss
