"""One measurement in a process of its own, so that its memory is its own: `measure` starts it, `main` is it."""

import contextlib
import ctypes
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import FINITE, FLOOR, Case, Loss, batch_of, definition_of, floor_of, loss_of, pairs

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4  # relative
CHECKED_ITEMS = 1_000
CHECKED_CUBED = 200  # items for those whose memory grows with the cube
SPARE_MEMORY = 2 << 30  # bytes that a measurement must leave to the machine
SLOW = 5.0  # seconds: a longer first call is a sample like the others, and two more are enough
ROOT = Path(__file__).parents[1]

OK, OVER_MEMORY = "ok", "out of memory"


def over_limit(limit: float) -> str:
    return f"over {limit:g} s"


class MeasurementError(RuntimeError):
    """The implementation stopped with an error of its own."""


def measure(case: Case, *, repeats: int, limit: float, authors: Path | None = None) -> dict[str, Any]:
    """Return `outcome`, and where that is "ok", `times`, `floor_times` (s) and `extra_bytes`.

    A call that lasts longer than `limit` seconds, or needs more memory than the machine has, is stopped.
    """
    return _in_a_process({"do": "time", "repeats": repeats}, case, limit, authors)


def check(case: Case, items: int = CHECKED_ITEMS, authors: Path | None = None) -> dict[str, Any]:
    """Return `loss_error` and `gradient_error`, relative, on a batch of the case's kind, and whether it `passed`."""
    small = Case(
        case.implementation, 2 * items // 5 if case.mixup else items, case.classes, case.mixup, case.dimensions
    )
    return _in_a_process({"do": "check"}, small, 600, authors)


def _in_a_process(task: dict[str, Any], case: Case, limit: float, authors: Path | None) -> dict[str, Any]:
    task = {**task, "case": asdict(case), "authors": None if authors is None else str(authors)}
    task["threads"] = torch.get_num_threads()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.measure", json.dumps(task)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    stopped = ""
    messages: list[tuple[float, dict[str, Any]]] = []
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout, process.stderr

    def listen() -> None:
        for line in out:
            with contextlib.suppress(ValueError):
                messages.append((time.monotonic(), json.loads(line)))

    threads = [threading.Thread(target=listen), threading.Thread(target=lambda: errors.extend(err))]
    for thread in threads:
        thread.start()
    while process.poll() is None:
        time.sleep(0.05)
        running = messages and messages[-1][1].get("now") == "first call"
        if running and time.monotonic() - messages[-1][0] > limit:
            stopped = over_limit(limit)
        elif _available_memory() < SPARE_MEMORY:
            stopped = OVER_MEMORY
        if stopped:
            process.kill()
            process.wait()
    for thread in threads:
        thread.join()
    if not stopped and process.returncode == -9:  # the kernel was faster
        stopped = OVER_MEMORY
    if stopped:
        return {"outcome": stopped}
    if process.returncode and any("can't allocate memory" in line for line in errors):  # asked for at once
        return {"outcome": OVER_MEMORY}
    if process.returncode:
        raise MeasurementError(f"{case.name} at {case.batch}: {errors[-1].strip() if errors else process.returncode}")
    return {"outcome": OK, **messages[-1][1]}


def _available_memory() -> int:
    return from_proc("/proc/meminfo", "MemAvailable")


def from_proc(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on besides the code, and the code's commit ("+": with changes)."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((x.split(":")[1].strip() for x in cpu.splitlines() if x.startswith("model name")), platform.machine())
    wide = next((f" with {label}" for flag, label in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in cpu), "")
    return {
        "cpu": model + wide,
        "cores": os.cpu_count(),
        "memory_gib": round(from_proc("/proc/meminfo", "MemTotal") / 2**30),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "src") else ""),
        "date": time.strftime("%Y-%m-%d"),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


# The rest runs in the measured process.


def main(task: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if the memory ends, this process goes, not another
    torch.set_num_threads(task["threads"])
    case, authors = Case(**task["case"]), task["authors"] and Path(task["authors"])
    result = _check(case, authors) if task["do"] == "check" else _time(case, task["repeats"], authors)
    print(json.dumps(result), flush=True)


def _check(case: Case, authors: Path | None) -> dict[str, Any]:
    x, labels = batch_of(case)
    loss, gradient = _value_and_gradient(loss_of(case, labels, authors), x)
    if case.checked_against == FINITE:
        passed = math.isfinite(loss) and bool(torch.isfinite(gradient).all())
        return {"loss_error": None, "gradient_error": None, "passed": passed}
    expected, expected_gradient = _value_and_gradient(definition_of(case, labels), x.double())
    loss_error = abs(loss - expected) / abs(expected)
    gradient_error = float((gradient - expected_gradient).norm() / expected_gradient.norm())
    passed = loss_error <= LOSS_TOLERANCE and gradient_error <= GRADIENT_TOLERANCE  # never for NaN
    return {"loss_error": loss_error, "gradient_error": gradient_error, "passed": passed}


def _value_and_gradient(loss: Loss, x: Tensor) -> tuple[float, Tensor]:
    x = x.clone().requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad(value, x)
    return value.item(), gradient.double()


def _time(case: Case, repeats: int, authors: Path | None) -> dict[str, Any]:
    tiny = Case(case.implementation, 100, "4" if case.classes == "zipf" else case.classes, case.mixup, case.dimensions)
    _call(tiny, authors)()  # loads the code and starts the threads
    x, labels = batch_of(case)
    call = _call(case, authors)
    print(json.dumps({"now": "first call"}), flush=True)
    first, extra = _peak(call)
    print(json.dumps({"now": "repeats"}), flush=True)
    floor = floor_of(x)
    times: list[float] = []
    floor_times: list[float] = []
    if first > SLOW:
        times, repeats = [first], 2
    else:
        _timed(floor)
    started = time.perf_counter()
    for _ in range(repeats):
        floor_times.append(_timed(floor))
        times.append(_timed(call))
        if len(times) >= 3 and time.perf_counter() - started > 60:
            break
    return {"times": times, "floor_times": floor_times, "extra_bytes": max(0, extra - x.nbytes), "pairs": pairs(labels)}


def _call(case: Case, authors: Path | None) -> Callable[[], None]:
    """Return one forward and backward, which leaves nothing behind."""
    x, labels = batch_of(case)
    if case.implementation == FLOOR:
        return lambda: floor_of(x)()
    x.requires_grad_()
    loss = loss_of(case, labels, authors)

    def call() -> None:
        torch.autograd.grad(loss(x), x)

    return call


def _timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak(call: Callable[[], None]) -> tuple[float, int]:
    """Return the seconds of a call and the bytes of memory that it needed at most.

    For a first call: afterwards the allocator keeps what it once had, and the same needs look smaller.
    """
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that is still resident would hide what the call needs
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from what is in use now
    before = from_proc("/proc/self/status", "VmRSS")
    seconds = _timed(call)
    return seconds, from_proc("/proc/self/status", "VmHWM") - before


def summary(times: list[float]) -> tuple[float, float, float]:
    """Return median, least and most."""
    return statistics.median(times), min(times), max(times)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
