"""The process that runs cases, one after the other; what it breaks is its own."""

import multiprocessing
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from recallk import InputError
from tests.fuzz.case import Case, FaultError, Kind, Place, Verdict, check_line, rng_of

DEAD_END = "http://127.0.0.1:9"
"""Nobody answers there, and nobody outside is asked."""


def work(area: str, numbers: Sequence[int], folder: Path, connection: Connection) -> None:
    """Run the cases `numbers` of an area; tell which begins, and its verdict when it ends."""
    os.setsid()  # so that what it starts can be ended with it
    multiprocessing.set_start_method(None, force=True)  # its readers start as those of a command do, not as it did
    os.environ |= {"HF_ENDPOINT": DEAD_END, "HOME": str(folder / "home"), "COLUMNS": "120", "NO_COLOR": "1"}
    os.environ |= {"MPLCONFIGDIR": str(folder / "matplotlib"), "XDG_CACHE_HOME": str(folder / "cache")}
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "cache")
    _ask_nobody(folder)
    log = os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    module = import_module(f"tests.fuzz.{area}")
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    module.prepare(shared)
    connection.send("ready")
    for number in numbers:
        place, case = _made(module, area, number, folder)
        connection.send((number, case.what))
        started = time.perf_counter()
        kind, detail = _outcome(case, place)
        seconds = round(time.perf_counter() - started, 2)
        connection.send(Verdict(area, number, case.what, kind, detail, seconds, peak_mb()))


def _ask_nobody(folder: Path) -> None:
    """Set address and cache of the model hub, which the process that this one was forked from has read already."""
    outside, constants.HF_HUB_CACHE = constants.ENDPOINT, str(folder / "cache")
    for name, value in vars(constants).items():
        if isinstance(value, str) and value.startswith(outside):
            setattr(constants, name, value.replace(outside, DEAD_END, 1))


def _made(module: Any, area: str, number: int, folder: Path) -> tuple[Place, Case]:
    """Return a case and an empty place for it, which is the current folder from here on."""
    place = Place(folder / "case" / "place", folder / "shared")
    shutil.rmtree(folder / "case", ignore_errors=True)
    place.prepare()
    os.environ |= {"HOME": str(place.root / "home"), "TMPDIR": str(place.root / "tmp")}
    os.chdir(place.work)
    return place, module.case(rng_of(area, number), number)


def _outcome(case: Case, place: Place) -> tuple[Kind, str]:
    refusals: tuple[type[Exception], ...] = (InputError, *case.also)
    try:
        with warnings.catch_warnings():
            case.act(place)
    except FaultError as fault:
        return "fault", str(fault)
    except refusals as refused:
        if case.refusal == "must not":
            return "fault", f"refused, though all is well with it: {refused}"
        try:
            check_line(str(refused).splitlines()[0] if isinstance(refused, case.also) else str(refused))
        except FaultError as fault:
            return "fault", str(fault)
        return "line", str(refused)
    except BaseException as error:  # a panic of a library in Rust is no Exception
        return "fault", f"{type(error).__name__}: " + "".join(traceback.format_exception(error)[-6:])
    if case.refusal == "must":
        return "fault", "accepted, though it cannot be right"
    return "right", ""


def peak_mb() -> int:
    """Return the most memory that this process has had, since it began; what it starts is sampled by its watcher.

    On Linux what the system says of resources counts the process that started this one in.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) // 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
