"""`python -m benchmarks.catalogue`: a catalogue is searched, built and served, beside what that costs at the least.

- One query among a million vectors of 512 dimensions, in the cache of the system: beside NumPy's product of the same
  mapped float16 file with the query (`array @ query`), and beside that product in PyTorch, alternating. int8 beside
  float16, with the share of the ten nearest that it finds.
- Building from 2,000 JPEG files, beside embedding them.
- 50 searches at a time over 100,000 items, answered by `recallk serve` in a process of its own.

Each row: medians and spread of the rounds, and the ratio of medians.
"""

import csv
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any
from urllib.request import Request, urlopen

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.measure import machine
from recallk.catalogue.index import Index
from recallk.models.image_embedder import build_image_embedder
from recallk.models.settings import ImageSettings, VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from recallk.retrieval.scan import nearest_rows

RESULTS = Path(__file__).parent / "results" / "catalogue_cpu.csv"
SIZE, K, QUERIES, ROUNDS = 512, 10, 200, 9
COLUMNS = (
    *("what", "items", "median_s", "fastest_s", "slowest_s", "beside", "beside_s", "ratio", "found", "load"),
    *("cpu", "cores", "memory_gib", "threads", "torch", "python", "commit", "date"),
)


def seconds(of: Callable[[], object]) -> float:
    began = time.perf_counter()
    of()
    return time.perf_counter() - began


def alternating(rounds: int, *calls: Callable[[], object]) -> list[list[float]]:
    """Return the seconds of each call in each round; one round before is not counted."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, own in zip(calls, times, strict=True):
            own.append(seconds(call))
    return times


def row(what: str, items: int, times: list[float], beside: str, others: list[float], found: str = "") -> dict[str, Any]:
    middle, other = statistics.median(times), statistics.median(others)
    return {
        "what": what,
        "items": items,
        "median_s": f"{middle:.4f}",
        "fastest_s": f"{min(times):.4f}",
        "slowest_s": f"{max(times):.4f}",
        "beside": beside,
        "beside_s": f"{other:.4f}",
        "ratio": f"{middle / other:.2f}",
        "found": found,
    }


def searched(folder: Path, count: int, rounds: int) -> list[dict[str, Any]]:
    """Measure searches. Random directions: the hardest there are to tell apart by few bits."""
    random = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(folder / "all.npy", "w+", np.float16, (count, SIZE))
    for start in range(0, count, 10_000):
        vectors[start : start + 10_000] = random.standard_normal((min(10_000, count - start), SIZE))
    vectors.flush()
    torch.manual_seed(0)
    head = VectorEmbedder(VectorSettings(input_size=SIZE, embedding_size=SIZE)).eval()
    half = Index.build(head, folder / "all.npy", folder / "float16")
    eight = Index.build(head, folder / "all.npy", folder / "int8", dtype="int8")
    queries = torch.nn.functional.normalize(torch.randn(QUERIES, SIZE))
    parts, coded = half._state.searched(), eight._state.searched()
    stored = np.load(next((folder / "float16").glob("parts/*/vectors.npy")), mmap_mode="r")
    query = queries[:1]
    asked = query[0].numpy().astype(np.float16)
    mapped, halves = torch.from_numpy(parts[0].vectors), query[0].half()
    ours, whole, numpy, bare, codes = alternating(
        rounds,
        lambda: nearest_rows(query, parts, K),
        lambda: half.search(query_of(folder, query), K),
        lambda: stored @ asked,
        lambda: mapped.mv(halves),
        lambda: nearest_rows(query, coded, K),
    )
    exact = nearest_rows(queries, parts, K).indexes.tolist()
    found = nearest_rows(queries, coded, K).indexes.tolist()
    recall = np.mean([len({*one} & {*other}) / K for one, other in zip(exact, found, strict=True)])
    return [
        row("search, float16", count, ours, "NumPy's product", numpy),
        row("search, float16", count, ours, "PyTorch's product", bare),
        row("search, float16, embedding and columns too", count, whole, "NumPy's product", numpy),
        row("search, int8", count, codes, "search, float16", ours, f"recall@{K} {recall:.4f}"),
    ]


def query_of(folder: Path, query: torch.Tensor) -> list[Path]:
    """Return a file with a query."""
    path = folder / "query.npy"
    if not path.exists():
        np.save(path, query.numpy())
    return [path]


def built(folder: Path, count: int, rounds: int) -> list[dict[str, Any]]:
    """Measure building."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (10, 10, 3), dtype=np.uint8))
        place = folder / "photos" / f"c{number % 50}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((320, 240), Image.Resampling.BILINEAR).save(place, quality=90)
    embedder = build_image_embedder(ImageSettings(backbone="resnet18", image_size=112, resize=128), "none").eval()
    files = sorted((folder / "photos").rglob("*.jpg"))
    number = 0

    def build() -> None:
        nonlocal number
        number += 1
        Index.build(embedder, folder / "photos", folder / f"built{number}", workers=2)

    ours, bare = alternating(rounds, build, lambda: embedder.embed(files, workers=2))
    return [row("building", count, ours, "embedding alone", bare)]


def answered(folder: Path, count: int, asked: int) -> list[dict[str, Any]]:
    """Measure what 50 clients wait for, each sending an image, of a server in a process of its own."""
    embedder = build_image_embedder(ImageSettings(backbone="resnet18", image_size=112, resize=128), "none").eval()
    photos = sorted((folder / "photos").rglob("*.jpg"))
    index = Index.build(embedder, photos[:50], folder / "served", workers=0)
    random, head = np.random.default_rng(0), index._state
    from recallk.catalogue.part import PartWriter
    from recallk.catalogue.state import commit

    with PartWriter(index.folder, count, head.manifest) as writer:
        for start in range(0, count, 10_000):
            rows = random.standard_normal((min(10_000, count - start), SIZE)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            writer.append(rows, np.zeros((len(rows), 32), np.uint8))
        more = writer.finish({"id": [f"more {number}" for number in range(count)]})
    commit(head, (*head.manifest.parts, more), head.removed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "recallk", "serve", str(index.folder), "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    boundary = b"----------image"
    opened = b'--%s\r\ncontent-disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n' % boundary
    body = opened + photos[60].read_bytes() + b"\r\n--%s--\r\n" % boundary
    headers = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
    errors = 0

    def ask(_: int) -> float:
        nonlocal errors
        began = time.perf_counter()
        with urlopen(Request(f"http://127.0.0.1:{port}/search", body, headers), timeout=60) as answer:
            errors += answer.status != 200 or len(json.loads(answer.read())["results"]) != 24
        return time.perf_counter() - began

    try:
        urlopen(f"http://127.0.0.1:{port}/about").read()
        alone = [ask(0) for _ in range(10)]
        with ThreadPoolExecutor(50) as pool:
            times = sorted(pool.map(ask, range(asked)))
    finally:
        server.terminate()
        server.wait(30)
    p95 = times[int(0.95 * len(times))]
    return [row("50 searches at a time", count, times, "one alone", alone, f"p95 {p95:.2f} s, {errors} errors")]


def main(
    quick: Annotated[bool, typer.Option("--quick", help="small, two rounds; writes no results.")] = False,
    out: Annotated[Path, typer.Option(help="CSV that is replaced.")] = RESULTS,
) -> None:
    """Measure, print a table, and write it."""
    count, images, rounds = (20_000, 100, 2) if quick else (1_000_000, 2_000, ROUNDS)
    about, rows = machine(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows += searched(folder, count, rounds)
        rows += built(folder, images, min(rounds, 3))
        rows += answered(folder, count // 10, 50 if quick else 1_000)
    for each in rows:
        each |= {"load": f"{os.getloadavg()[0]:.2f}"} | about
        print(*(each[column] for column in COLUMNS[:9]), sep=" | ", flush=True)
    if not quick:
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    typer.run(main)
