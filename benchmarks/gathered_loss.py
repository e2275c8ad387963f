"""`python -m benchmarks.gathered_loss`: the loss of one batch over two processes, in shares beside whole.

Two processes of one thread each, joined by gloo, have half of the batch each. In shares, as the loss does it, each
ranks half of the queries, and the gradients of all items are added up. Whole, each ranks all queries, and no gradient
has to be exchanged. One process alone with the whole batch stands beside. Forward and backward, alternating.
"""

import csv
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, distributed

from benchmarks.cases import Case, batch_of
from benchmarks.measure import machine, summary
from recallk.core import processes
from recallk.core.sockets import make_socket_folder
from recallk.loss.mixup import SimilarityMixup
from recallk.loss.recall_at_k import RecallAtKLoss

RESULTS = Path(__file__).parent / "results" / "gathered_loss_cpu.csv"
PROCESSES, BATCHES = 2, (256, 1_000, 4_000)
COLUMNS = (
    *("way", "mixup", "batch", "dimensions", "classes", "processes", "repeats"),
    *("median_s", "min_s", "max_s", "of_shares", "load"),
    *("cpu", "cores", "memory_gib", "threads", "torch", "python", "commit", "date"),
)


def main(
    batch: Annotated[list[int] | None, typer.Option(help="Items of all processes; may be given again.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each.")] = 5,
    out: Annotated[Path, typer.Option(help="CSV that is replaced.")] = RESULTS,
) -> None:
    """Measure the ways, alternating; print median, least and most, and the median as a multiple of the shares'."""
    rows = []
    for mixup in (False, True):
        for items in batch or BATCHES:
            rows += measured(Case("auto", items, mixup=mixup), repeats)
            for row in rows[-len(WAYS) :]:
                print(", ".join(f"{name} {row[name]}" for name in COLUMNS[:12]))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measured(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each way to compute the loss of a batch."""
    about, load = machine() | {"threads": 1}, os.getloadavg()[0]
    make_socket_folder()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        running = [
            context.Process(target=_process, args=(number, folder, case, repeats, theirs))
            for number in range(PROCESSES)
        ]
        for process in running:
            process.start()
        theirs.close()
        times: dict[str, list[float]] = ours.recv()
        for process in running:
            process.join()
    of_shares = summary(times["shares"])[0]
    rows = []
    for way, seconds in times.items():
        median, least, most = summary(seconds)
        row = {"way": way, "mixup": "yes" if case.mixup else "no", "batch": case.batch, "dimensions": case.dimensions}
        row |= {"classes": case.classes, "processes": 1 if way == "alone" else PROCESSES, "repeats": repeats}
        row |= {"median_s": f"{median:.4g}", "min_s": f"{least:.4g}", "max_s": f"{most:.4g}"}
        rows.append(row | {"of_shares": f"{median / of_shares:.2f}", "load": f"{load:.2f}", **about})
    return rows


def shares(loss: RecallAtKLoss, x: Tensor, labels: Tensor) -> Tensor:
    loss.gather_across_devices = True
    return loss(x, labels, generator=torch.Generator().manual_seed(3))  # type: ignore[no-any-return]


def whole(loss: RecallAtKLoss, x: Tensor, labels: Tensor) -> Tensor:
    return alone(loss, processes.gather_rows(x, parts=False), processes.gather(labels))


def alone(loss: RecallAtKLoss, x: Tensor, labels: Tensor) -> Tensor:
    loss.gather_across_devices = False
    return loss(x, labels, generator=torch.Generator().manual_seed(3))  # type: ignore[no-any-return]


WAYS: dict[str, Callable[[RecallAtKLoss, Tensor, Tensor], Tensor]] = {"shares": shares, "whole": whole, "alone": alone}


def _process(number: int, folder: str, case: Case, repeats: int, answer: Connection) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=PROCESSES)
    x, labels = batch_of(case)
    part = slice(case.batch * number // PROCESSES, case.batch * (number + 1) // PROCESSES)
    loss = RecallAtKLoss(mixup=SimilarityMixup() if case.mixup else None)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for repeat in range(repeats + 1):
        for name, way in WAYS.items():
            rows = slice(None) if name == "alone" else part
            leaf = x[rows].clone().requires_grad_()
            distributed.barrier()
            if name == "alone" and number > 0:
                continue
            start = time.perf_counter()
            torch.autograd.grad(way(loss, leaf, labels[rows]), leaf)
            if repeat:  # the first loads code and memory
                times[name].append(time.perf_counter() - start)
    if number == 0:
        answer.send(times)
    distributed.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
