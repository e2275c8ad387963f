"""`python -m benchmarks.full_lists`: how long a run on Google Landmarks v2, clean, takes before its first batch.

The list has the true numbers of landmarks and images, in classes of unequal size; the images are links to a few small
JPEG files, so that whether they are there is a true question, and the sample that is opened can be opened. A process of
its own reads, splits and plans, and says how long each stage took and how much memory was needed.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import ROOT

IMAGES, CLASSES = 1_580_470, 81_313
LINKS = 25_000  # to one file; ext4 allows 65,000
RESULTS = Path(__file__).parent / "results/full_lists.csv"
STAGES = {
    "read the list and look for the images": ("recallk.data.dataset", "read_benchmark"),
    "count images and classes": ("recallk.data.dataset", "other_counts"),
    "split the classes": ("recallk.data.dataset", "split_classes"),
    "gather the training items": ("recallk.data.dataset", "_labelled"),
    "gather the test items": ("recallk.data.dataset", "_test_items"),
    "set classes aside": ("recallk.data.dataset", "set_aside"),
    "name the items of each split": ("recallk.data.dataset", "_split"),
    "look at files": ("recallk.data.dataset", "check_files"),
    "lay out the batches": ("recallk.training.plan", "lay_out"),
}


def main(
    folder: Annotated[Path | None, typer.Option(help="where the data is, or is to be made and kept")] = None,
    epochs: Annotated[int, typer.Option(help="of the run; their batches are counted")] = 10,
    test_fraction: Annotated[float, typer.Option(help="share of the classes for testing")] = 0.05,
    images: Annotated[int, typer.Option(help="fewer, for a try")] = IMAGES,
    classes: Annotated[int, typer.Option(help="fewer, for a try")] = CLASSES,
    write: Annotated[bool, typer.Option(help=f"add a row to {RESULTS.name}")] = False,
) -> None:
    """Make the data unless it is there, plan a run on it, and print seconds and memory."""
    with tempfile.TemporaryDirectory() as temporary:
        data = folder or Path(temporary)
        if not (data / "train_clean.csv").exists():
            make(data, images, classes)
        command = [sys.executable, "-m", "benchmarks.full_lists", "plan", str(data), str(epochs), str(test_fraction)]
        printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    for name, value in found.items():
        print(f"{name:40} {value:,}" if isinstance(value, int) else f"{name:40} {value:.2f}")
    if write:
        row = {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 2), "epochs": epochs} | {
            name: round(value, 2) for name, value in found.items()
        }
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            rows = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                rows.writeheader()
            rows.writerow(row)


def make(data: Path, images: int, classes: int) -> None:
    """Write the list, and link its images."""
    random = np.random.default_rng(0)
    sizes = class_sizes(random, images, classes)
    names = [row.tobytes().hex() for row in random.integers(0, 256, (images, 8), np.uint8)]
    landmarks = np.sort(random.choice(203_094, classes, replace=False)).tolist()
    data.mkdir(parents=True, exist_ok=True)
    originals = []
    for number in range(-(-images // LINKS)):
        originals.append(f"{data}/{number}.jpg")
        Image.fromarray(random.integers(0, 256, (32, 48, 3), np.uint8)).save(originals[-1])
    made = set[str]()
    for number, name in enumerate(names):
        folder = f"{data}/train/{name[0]}/{name[1]}/{name[2]}"
        if folder not in made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103, a path object for each image takes a minute
            made.add(folder)
        os.link(originals[number // LINKS], f"{folder}/{name}.jpg")
    ends = np.cumsum(sizes).tolist()
    with (data / "train_clean.csv").open("w") as file:
        file.write("landmark_id,images\n")
        for landmark, start, end in zip(landmarks, [0, *ends], ends, strict=False):
            file.write(f"{landmark},{' '.join(names[start:end])}\n")


def class_sizes(random: np.random.Generator, images: int, classes: int) -> NDArray[np.int64]:
    """Return sizes of at least two with that sum; most classes are small, and a few have thousands of images."""
    shares = random.lognormal(0, 1.2, classes)
    sizes: NDArray[np.int64] = 2 + np.floor(shares / shares.sum() * (images - 2 * classes)).astype(np.int64)
    sizes[: images - int(sizes.sum())] += 1
    return sizes


def plan(data: Path, epochs: int, test_fraction: float) -> dict[str, float]:
    """Plan a run, and return the seconds of each stage and of all, and the largest memory in megabytes."""
    from recallk.runs.config import make_config
    from recallk.training.plan import prepare

    seconds = dict.fromkeys(STAGES, 0.0)
    config = make_config(
        {
            **{"data": str(data), "dataset": "gldv2-clean", "test_fraction": test_fraction, "select": "validation"},
            **{"batch_size": 4096, "epochs": epochs},
        }
    )
    before = _memory()
    started, started_cpu = time.perf_counter(), time.process_time()
    with ExitStack() as patched:
        for stage, (module, name) in STAGES.items():
            patched.enter_context(_timed(module, name, stage, seconds))
        found = prepare(config)
    laid_out = time.perf_counter()
    steps = found.steps
    counted = time.perf_counter()
    text = found.data.split.in_words()
    ended, ended_cpu = time.perf_counter(), time.process_time()
    return {
        **seconds,
        "count the steps": counted - laid_out,
        "write the split as text": ended - counted,
        "all, seconds": ended - started,
        "of these on a processor": ended_cpu - started_cpu,
        "memory before, MB": before,
        "memory at most, MB": _memory(),
        "training images": len(found.data.train),
        "images set aside": len(found.data.validation or ()),
        "test images": len(found.data.test.labelled),
        "steps": steps,
        "characters of the split": len(text),
    }


def _timed(module: str, name: str, stage: str, seconds: dict[str, float]) -> Any:
    whole = getattr(sys.modules[module], name)

    @wraps(whole)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return whole(*args, **kwargs)
        finally:
            seconds[stage] += time.perf_counter() - started

    return patch(f"{module}.{name}", timed)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["plan"]:
        print(json.dumps(plan(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
    else:
        typer.run(main)
