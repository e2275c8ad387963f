"""`python -m benchmarks.landmarks_search`: revisited mAP among a million distractors, beside FAISS's flat search.

Both read the same float16 file on disk, block by block, into float32 with the same code, so that neither needs the 8 GB
which the vectors take as float32, and the conversion counts for both. FAISS then finds the 100 nearest of each block
where it lies (`faiss.knn`, which `IndexFlatIP` calls: adding to an index would copy it), and they are merged. They
alternate, each measurement in a process of its own; its peak memory is the system's count, pages of the file included.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import ROOT, from_proc, machine, summary
from recallk.data.instances.instance import Revisited
from recallk.evaluation.instances import measure_instances
from recallk.retrieval.parts import Parts

RESULTS = Path(__file__).parent / "results" / "landmarks_search_cpu.csv"
VECTORS, QUICK_VECTORS, DIMENSIONS, QUERIES, LANDMARKS = 1_006_322, 50_000, 2_048, 70, 4_993
K, ROUNDS, BLOCK = 100, 3, 4_096
RATIO, PEAK = 1.5, 1.5e9
COLUMNS = (
    *("search", "vectors", "dimensions", "queries", "rounds", "median_s", "min_s", "max_s", "ratio", "peak_gb", "load"),
    *("cpu", "cores", "memory_gib", "threads", "torch", "python", "commit", "date"),
)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="50,000 vectors; writes no row into the results.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep the vectors (4 GB) here, and use those that are.")] = None,
    out: Annotated[Path, typer.Option(help="CSV that is replaced.")] = RESULTS,
) -> None:
    """Measure both, alternating; print median, least and most, their ratio and the peak memory."""
    vectors = QUICK_VECTORS if quick else VECTORS
    with tempfile.TemporaryDirectory() as temporary:
        path = write_vectors(folder or Path(temporary), vectors)
        rows = compared(path, vectors, ROUNDS)
    for row in rows:
        print(", ".join(f"{name} {row[name]}" for name in COLUMNS[:11]))
    ours = rows[0]
    print("held" if float(ours["ratio"]) <= RATIO and float(ours["peak_gb"]) <= PEAK / 1e9 else "MISSED")
    if not quick:
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def write_vectors(folder: Path, vectors: int) -> Path:
    """Write unit vectors, block by block; blocks that an earlier process has written to the end are kept."""
    path = folder / f"vectors-{vectors}x{DIMENSIONS}.f16"
    row = 2 * DIMENSIONS
    with path.open("ab") as file:
        there = file.tell() // row
        done = there if there == vectors else there // BLOCK * BLOCK
        file.truncate(done * row)
        for first in range(done, vectors, BLOCK):
            file.write(made_block(first, min(BLOCK, vectors - first)).numpy().tobytes())
    return path


def made_block(first: int, count: int) -> Tensor:
    """Return unit vectors `(count, D)` float16, always the same: random ones, the first few thousand nearer to a query.

    How much nearer falls from query to query, so that some find all their positives early, and some have to look deep.
    """
    generator = torch.Generator().manual_seed(first)
    rows = F.normalize(torch.randn(count, DIMENSIONS, generator=generator), dim=1)
    near = torch.arange(first, max(first, min(first + count, LANDMARKS)))
    query = near % QUERIES
    weight = 0.05 + 0.9 * torch.rand(len(near), generator=generator) * (1 - query / QUERIES)
    rows[: len(near)] += weight[:, None] * asked()[query]
    return F.normalize(rows, dim=1).half()


def asked() -> Tensor:
    """Return the queries `(Q, D)`."""
    return F.normalize(torch.randn(QUERIES, DIMENSIONS, generator=torch.Generator().manual_seed(2**31)), dim=1)


def truth() -> Revisited:
    """Return made-up lists: of the items that are nearer to a query, a third each."""
    of = [range(query, LANDMARKS, QUERIES) for query in range(QUERIES)]
    return Revisited([{name: items[i::3] for i, name in enumerate(("easy", "hard", "junk"))} for items in of])


def ours(gallery: NDArray[np.float16]) -> dict[str, float]:
    return measure_instances(asked(), [gallery], truth())


def faiss_flat(gallery: NDArray[np.float16]) -> dict[str, float]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    queries = asked().numpy()
    best, indexes = np.empty((QUERIES, 0), np.float32), np.empty((QUERIES, 0), np.int64)
    for numbers, block in Parts([gallery]).blocks():
        found, where = faiss.knn(queries, block[: len(numbers)].numpy(), K, metric=faiss.METRIC_INNER_PRODUCT)
        best, indexes = np.hstack([best, found]), np.hstack([indexes, where + numbers[0]])
        order = np.argsort(-best, axis=1, kind="stable")[:, :K]
        best, indexes = np.take_along_axis(best, order, 1), np.take_along_axis(indexes, order, 1)
    return {"similarity of the nearest": float(best[:, 0].mean()), "index": float(indexes.mean())}


SEARCHES: dict[str, Callable[[NDArray[np.float16]], dict[str, float]]] = {
    "recallk, mAP": ours,
    f"FAISS, {K} nearest": faiss_flat,
}


def compared(path: Path, vectors: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row of each search."""
    about, load = machine(), os.getloadavg()[0]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SEARCHES}
    for _ in range(rounds):
        for name, results in found.items():
            results.append(_in_a_process(name, path, vectors))
    seconds = {name: [result["seconds"] for result in results] for name, results in found.items()}
    flat = list(seconds.values())[-1]
    rows = []
    for name, results in found.items():
        median, least, most = summary(seconds[name])
        row = {"search": name, "vectors": vectors, "dimensions": DIMENSIONS, "queries": QUERIES, "rounds": rounds}
        row |= {"median_s": f"{median:.2f}", "min_s": f"{least:.2f}", "max_s": f"{most:.2f}"}
        row["ratio"] = f"{statistics.median(a / b for a, b in zip(seconds[name], flat, strict=True)):.2f}"
        row["peak_gb"] = f"{max(result['peak'] for result in results) / 1e9:.2f}"
        rows.append({**row, "load": f"{load:.2f}", **about})
    return rows


def _in_a_process(name: str, path: Path, vectors: int) -> dict[str, Any]:
    words = [name, str(path), str(vectors), str(torch.get_num_threads())]
    command = [sys.executable, "-m", "benchmarks.landmarks_search", "--one", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _measured(name: str, path: str, vectors: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    gallery: NDArray[np.float16] = np.memmap(path, np.float16, "r", shape=(int(vectors), DIMENSIONS))
    SEARCHES[name](gallery[:LANDMARKS])  # loads the code and starts the threads
    started = time.perf_counter()
    found = SEARCHES[name](gallery)
    seconds = time.perf_counter() - started
    peak = from_proc("/proc/self/status", "VmHWM")  # of this program alone; getrusage's begins with its parent's
    print(json.dumps({"seconds": seconds, "peak": peak, "found": found}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _measured(*sys.argv[2:])
    else:
        typer.run(main)
