"""`python -m benchmarks.two_passes`: a step of a large batch in two passes, beside the same chunks in one graph.

A ResNet-18 without weights, batch norm frozen, images of 128 pixels in chunks of 64; the loss is recall@k. With nothing
kept each chunk is embedded twice, with all of it once. The three alternate in one process; `ratio` is the median over
the rounds of the time beside one graph's, `cpu_ratio` that of processor time, which others on the machine move less.
Peak memory is that of a process of its own, which makes each chunk as it is read, so that the batch itself takes none.
"""

import csv
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import typer
from torch import Tensor, nn

from benchmarks.measure import ROOT, from_proc, machine, summary
from recallk import RecallAtKLoss, large_batch_backward

RESULTS = Path(__file__).parent / "results" / "two_passes_cpu.csv"
CHUNK, PIXELS, BATCH, LARGE_BATCH, ROUNDS = 64, 128, 512, 4_096, 3
ONE_GRAPH, NOTHING, EVERYTHING = "one graph", "nothing kept", "everything kept"
BOUNDS = {NOTHING: 1.40, EVERYTHING: 1.05}
GROWTH = 1.15
COLUMNS = (
    *(
        "way",
        "batch",
        "chunk",
        "pixels",
        "rounds",
        "median_s",
        "min_s",
        "max_s",
        "ratio",
        "cpu_ratio",
        "peak_mb",
        "load",
    ),
    *("cpu", "cores", "memory_gib", "threads", "torch", "python", "commit", "date"),
)


class Chunks:
    """Random images, the same in each reading, made as they are read."""

    def __init__(self, batch: int, pixels: int) -> None:
        self.sizes = [CHUNK] * (batch // CHUNK)
        self.pixels = pixels
        self.labels = torch.arange(batch) // 4

    def __iter__(self) -> Iterator[Tensor]:
        for number, size in enumerate(self.sizes):
            yield torch.randn(size, 3, self.pixels, self.pixels, generator=torch.Generator().manual_seed(number))


def main(
    quick: Annotated[bool, typer.Option("--quick", help="32 pixels, two rounds; writes no results.")] = False,
    out: Annotated[Path, typer.Option(help="CSV that is replaced.")] = RESULTS,
) -> None:
    """Measure time and memory, print a table, and say which bounds hold."""
    pixels, rounds, large = (32, 2, 2 * BATCH) if quick else (PIXELS, ROUNDS, LARGE_BATCH)
    shown = ("way", "batch", "median_s", "min_s", "max_s", "ratio", "cpu_ratio", "peak_mb", "load")
    print(f"| {' | '.join(shown)} |\n{'|---' * len(shown)}|", flush=True)
    rows = []
    for row in measured(BATCH, large, pixels, rounds):
        print(f"| {' | '.join(str(row[name]) for name in shown)} |", flush=True)
        rows.append(row)
    for what, value, bound in bounds(rows):
        print(f"{'held' if value <= bound else 'MISSED':<7}{what}: {value:.2f}, at most {bound:.2f}")
    if not quick:
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def bounds(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return what is bounded, its value, and the bound."""
    found = {(row["way"], row["batch"]): row for row in rows}
    batch, large = sorted({row["batch"] for row in rows})
    peaks = [float(found[NOTHING, size]["peak_mb"]) for size in (batch, large)]
    times = [(f"time of {way}, beside {ONE_GRAPH}", float(found[way, batch]["ratio"]), BOUNDS[way]) for way in BOUNDS]
    return [*times, (f"peak memory at {large:,}, beside that at {batch:,}", peaks[1] / peaks[0], GROWTH)]


def measured(batch: int, large: int, pixels: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row of each way, and one of the larger batch, whose time is not taken."""
    about, load = machine(), os.getloadavg()[0]
    seconds = _in_a_process("times", batch, pixels, rounds)
    for way, size in [(ONE_GRAPH, batch), (NOTHING, batch), (EVERYTHING, batch), (NOTHING, large)]:
        row = {"way": way, "batch": size, "chunk": CHUNK, "pixels": pixels, "rounds": rounds if size == batch else 0}
        row |= dict.fromkeys(("median_s", "min_s", "max_s", "ratio", "cpu_ratio"), "")
        if size == batch:
            times, cpu = zip(*seconds[way], strict=True)
            graph_times, graph_cpu = zip(*seconds[ONE_GRAPH], strict=True)
            median, least, most = summary(list(times))
            row |= {"median_s": f"{median:.2f}", "min_s": f"{least:.2f}", "max_s": f"{most:.2f}"}
            row |= {"ratio": _ratio(times, graph_times), "cpu_ratio": _ratio(cpu, graph_cpu)}
        row["peak_mb"] = f"{_in_a_process(way, size, pixels, 1)['peak'] / 1e6:.0f}"
        yield {**row, "load": f"{load:.2f}", **about}


def _ratio(one: tuple[float, ...], other: tuple[float, ...]) -> str:
    return f"{statistics.median(a / b for a, b in zip(one, other, strict=True)):.3f}"


def _in_a_process(what: str, batch: int, pixels: int, rounds: int) -> dict[str, Any]:
    words = [what, *map(str, (batch, pixels, rounds))]
    command = [sys.executable, "-m", "benchmarks.two_passes", "--one", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _one(what: str, batch: str, pixels: str, rounds: str) -> None:
    torch.manual_seed(0)
    model, chunks = network(), Chunks(int(batch), int(pixels))
    if what != "times":
        step(what, model, chunks, chunks.labels)
        print(json.dumps({"peak": from_proc("/proc/self/status", "VmHWM")}))
        return
    held = list(chunks)
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in (ONE_GRAPH, NOTHING, EVERYTHING)}
    for way in seconds:
        step(way, model, held[:2], chunks.labels[: 2 * CHUNK])  # loads the code and starts the threads
    for _ in range(int(rounds)):
        for way, times in seconds.items():
            started, started_cpu = time.perf_counter(), time.process_time()
            step(way, model, held, chunks.labels)
            times.append((time.perf_counter() - started, time.process_time() - started_cpu))
    print(json.dumps(seconds))


def network() -> nn.Module:
    model: nn.Module = timm.create_model("resnet18", pretrained=False, num_classes=0, zero_init_last=False)
    return model.train()


def step(way: str, model: nn.Module, chunks: Iterable[Tensor], labels: Tensor) -> None:
    """Leave the gradients of a batch in the model."""
    model.zero_grad()
    loss_fn = RecallAtKLoss()
    if way == ONE_GRAPH:
        model.eval()  # batch norm, as the other ways have it
        torch.autograd.backward(loss_fn(torch.cat([model(chunk) for chunk in chunks]), labels))
        model.train()
    else:
        memory = math.inf if way == EVERYTHING else 0
        large_batch_backward(model, chunks, labels, loss_fn, activation_memory=memory)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(*sys.argv[2:])
    else:
        typer.run(main)
