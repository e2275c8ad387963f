"""`python -m benchmarks.vectors`: two million vectors of 512 float16 values are listed, split and planned.

The array is made in a temporary folder (2 GB), with a table of 200,000 classes beside it, and is mapped into memory.
Without ids, for which the bounds are, and with an id for each vector.
Each row is a fresh process: `plan_s` is `training.plan.prepare` alone, `whole_s` with the imports before it. Peak
memory (VmHWM) has everything in it: the imports (`imported_gb`), and the pages of the array that were looked at.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow
import typer
from pyarrow import parquet

from benchmarks.measure import ROOT, from_proc, machine

RESULTS = Path(__file__).parent / "results" / "vectors_cpu.csv"
VECTORS, SIZE, CLASSES, ROUNDS, BLOCK = 2_000_000, 512, 200_000, 3, 10_000
SECONDS, GIGABYTES = 10, 1.0
COLUMNS = (
    *("vectors", "size", "classes", "ids", "plan_s", "whole_s", "imported_gb", "peak_gb", "load"),
    *("cpu", "cores", "memory_gib", "threads", "torch", "python", "commit", "date"),
)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="20,000 vectors, one round; writes no results.")] = False,
    out: Annotated[Path, typer.Option(help="CSV that is replaced.")] = RESULTS,
) -> None:
    """Measure time and memory, print a table, and say whether the bounds hold."""
    count, rounds = (20_000, 1) if quick else (VECTORS, ROUNDS)
    shown, rows, about = COLUMNS[:9], [], machine()
    print(f"| {' | '.join(shown)} |\n{'|---' * len(shown)}|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), count)
        for ids in ("no", "yes"):
            if ids == "yes":
                name(Path(folder), count)
            for _ in range(rounds):
                command = [sys.executable, "-m", "benchmarks.vectors", "--one", f"{folder}/vectors.npy"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
                counts = {"vectors": count, "size": SIZE, "classes": CLASSES * count // VECTORS, "ids": ids}
                rows.append(counts | json.loads(done.stdout) | about | {"load": f"{os.getloadavg()[0]:.2f}"})
                print(f"| {' | '.join(str(rows[-1][column]) for column in shown)} |", flush=True)
    for what, column, bound in (("seconds", "whole_s", SECONDS), ("GB", "peak_gb", GIGABYTES)):
        value = max(float(row[column]) for row in rows if row["ids"] == "no")
        print(f"{'held' if value <= bound else 'MISSED':<7}{what}: {value:.2f}, at most {bound:.2f}")
    if not quick:
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def make(folder: Path, count: int) -> None:
    """Write the array, one block of random numbers over and over, and the table of labels beside it."""
    random = np.random.default_rng(0)
    block = random.standard_normal((BLOCK, SIZE)).astype(np.float16)
    array = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (count, SIZE))
    for start in range(0, count, BLOCK):
        array[start : start + BLOCK] = block
    labels = random.integers(0, CLASSES * count // VECTORS, count)
    parquet.write_table(pyarrow.table({"label": [f"class {label}" for label in labels]}), folder / "vectors.parquet")


def name(folder: Path, count: int) -> None:
    """Give the table a column of ids."""
    table = parquet.read_table(folder / "vectors.parquet")
    ids = pyarrow.array([f"item {row:07}" for row in range(count)])
    parquet.write_table(table.append_column("id", ids), folder / "vectors.parquet")


def _one(data: str) -> None:
    started = time.perf_counter()
    import recallk.models.vector_embedder  # noqa: F401
    from recallk.runs.config import make_config
    from recallk.training.plan import prepare

    imported, imported_gb = time.perf_counter(), from_proc("/proc/self/status", "VmHWM") / 1e9
    prepare(make_config({"data": data}))
    ended, peak_gb = time.perf_counter(), from_proc("/proc/self/status", "VmHWM") / 1e9
    seconds = {"plan_s": f"{ended - imported:.1f}", "whole_s": f"{ended - started:.1f}"}
    print(json.dumps(seconds | {"imported_gb": f"{imported_gb:.2f}", "peak_gb": f"{peak_gb:.2f}"}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2])
    else:
        typer.run(main)
