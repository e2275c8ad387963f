"""What the tests of comparisons let other processes do; with few imports, as each process makes them anew."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from recallk.comparison import worker
from recallk.comparison.contenders import losses_as_contenders
from recallk.core.errors import InputError
from recallk.runs.folder import RunFolder

OWN_WORK = worker.work


def exit_by_seed(values: dict[str, Any], folder: RunFolder, at_once: int) -> None:
    """In place of training: the first seed's process ends, the second goes on for longer than that takes."""
    if values["seed"] == 1:
        sys.exit(9)
    _survive(folder)


def be_killed_by_seed(values: dict[str, Any], folder: RunFolder, at_once: int) -> None:
    """As when memory is short: the first seed's process is killed."""
    if values["seed"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _survive(folder)


def _survive(folder: RunFolder) -> None:
    time.sleep(1)
    folder.path.mkdir(parents=True)
    (folder.path / "survived").touch()


def work_on_a_full_disk(values: dict[str, Any], folder: RunFolder, at_once: int) -> None:
    """Fail, and not be able to write why."""

    def full(*_: object) -> None:
        raise InputError("cannot be written")

    vars(worker).update(write_failure=full, make_config=full)
    OWN_WORK(values, folder, at_once)


def run_endless(folder: Path, values: dict[str, Any]) -> None:
    """Run a comparison of two contenders, both at once, that somebody has to end."""
    from recallk.comparison.experiment import Comparison

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have switched off
    list(Comparison(folder, values, losses_as_contenders(["recall@k", "contrastive"]), (1,), 1, at_once=2).run())


if __name__ == "__main__":
    import json

    run_endless(Path(sys.argv[1]), json.loads(sys.argv[2]))
