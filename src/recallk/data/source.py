"""From what a person types after --data to records with a split."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import shown
from recallk.data import table
from recallk.data.benchmarks.benchmark import Findings, Problem
from recallk.data.benchmarks.catalogue import benchmark_named
from recallk.data.folder import folder
from recallk.data.formats import require_image
from recallk.data.glyphs import glyphs
from recallk.data.images import check_image
from recallk.data.item import Record

OPENED = 2_000
"""Images that are opened before a training starts: more would keep a person waiting."""


@dataclass(frozen=True)
class Part:
    """The images of one split, their classes as numbers: `labels (N,)` int64, into `classes`."""

    records: Sequence[Record]
    classes: Sequence[str]
    labels: NDArray[np.int64]

    @property
    def images(self) -> list[Path | NDArray[np.uint8]]:
        """The files, or pixels."""
        return [record.image for record in self.records]


def read_data(data: str) -> tuple[list[Record], list[Problem]]:
    """Return the records of "glyphs", of a folder with a folder per class, or of a CSV or Parquet table.

    And what is worth knowing about them, such as how many files were passed over. Raises InputError, one line, for
    whatever cannot be read, and for a file that is there twice.
    """
    if data == "glyphs":
        return glyphs(), []
    path = user_path(data)
    if path.suffix.lower() in table.SUFFIXES:
        return table.table(path), []
    try:
        other = not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        other = False  # the reader of folders says what is wrong
    if other:
        raise InputError(f"{path}: neither a folder nor a .csv or .parquet table")
    return folder(path)


def read_benchmark(name: str, root: str) -> tuple[list[Record], list[Problem]]:
    """Return the records of a benchmark below `root`, and what is worth knowing about them.

    Raises InputError for a name that there is not, and with the first error that its reader reports.
    """
    benchmark = benchmark_named(name)
    findings = Findings()
    records = benchmark.read(user_path(root), findings)
    if findings.errors:
        others = findings.error_count - 1
        more = f" (and {others:,} more: recallk data check {name} --data {root} shows them)" if others else ""
        raise InputError(f"{findings.errors[0]}{more}")
    if not records:
        raise InputError(f"{root}: the lists of {benchmark.title} name no images; get them again")
    return records, findings.notes


def split_classes(records: Sequence[Record], test_fraction: float, seed: int) -> list[Record]:
    """Split the classes into disjoint train and test sets, unless the records are split already.

    The side of a class is a function of the seed and its name: both are hashed to a number from 0 to 1, and those below
    `test_fraction` are for testing. So other classes that come or go do not move it. Only where a side would have
    fewer than two classes (one, of two or three classes in all) do the nearest to the threshold change sides.

    Raises InputError for fewer than two classes, and for a given split that leaves a side empty or has a class on both.
    """
    classes = {record.label for record in records}
    if len(classes) < 2:
        only = f"only one class ({shown(*classes)})" if classes else "no images"
        raise InputError(f"{only}: retrieval is trained and tested on different classes")
    if records[0].split is None:
        test = _test_classes(classes, test_fraction, seed)
        return [replace(record, split="test" if record.label in test else "train") for record in records]
    sides = {side: {record.label for record in records if record.split == side} for side in ("train", "test")}
    for side, labels in sides.items():
        if not labels:
            raise InputError(f"the given split has no {side} images")
    both = sides["train"] & sides["test"]
    if both:
        raise InputError(
            f"class {shown(min(both))} is in the train and in the test split: retrieval is tested on unseen classes"
        )
    return list(records)


def _test_classes(classes: Set[str], test_fraction: float, seed: int) -> Set[str]:
    hashed = {name: _hashed(seed, name) for name in classes}
    in_order = sorted(classes, key=lambda name: (hashed[name], name))
    below = sum(number < test_fraction for number in hashed.values())
    fewest = min(2, len(classes) // 2)
    return set(in_order[: min(max(below, fewest), len(classes) - fewest)])


def _hashed(seed: int, name: str) -> float:
    """Return a number from 0 to below 1, the same in every process and version."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def part(records: Sequence[Record], split: str | None) -> Part:
    """Return the images of one split (None: of all), with class numbers in the order of the class names."""
    chosen = [record for record in records if split is None or record.split == split]
    classes = sorted({record.label for record in chosen})
    number = {name: i for i, name in enumerate(classes)}
    return Part(chosen, classes, np.array([number[record.label] for record in chosen], dtype=np.int64))


def limit_classes(records: Sequence[Record], classes: int) -> list[Record]:
    """Keep the first `classes` classes of each split, by name; of queries and a gallery, those that are in both.

    Raises InputError where queries and gallery have no class in common.
    """
    labels = {split: {r.label for r in records if r.split == split} for split in {r.split for r in records}}
    if {"query", "gallery"} <= labels.keys():
        # cut by itself, a gallery with more classes than the queries would lose what they are to find
        both = labels["query"] & labels["gallery"]
        if not both:
            raise InputError("no class is in query and in gallery: there is nothing to retrieve; get the lists again")
        labels |= {"query": both, "gallery": both}
    kept = {split: set(sorted(names)[:classes]) for split, names in labels.items()}
    return [record for record in records if record.label in kept[record.split]]


def check_images(records: Sequence[Record], opened: int = OPENED) -> int:
    """Open image files, before any work is done; return how many: all of them, or a random sample of `opened`.

    Raises InputError for the first that is missing, truncated or no image.
    """
    paths = [record.image for record in records if isinstance(record.image, Path)]
    for path in paths:
        require_image(path)
    if len(paths) > opened:
        paths = [paths[i] for i in np.random.default_rng(0).choice(len(paths), opened, replace=False)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(check_image, paths, chunksize=64):
            pass
    return len(paths)


def check_test_positives(test: Part) -> None:
    """Raise InputError where no test class has two images: no query would have anything to find."""
    if max(Counter(test.labels.tolist()).values()) < 2:
        raise InputError("every test class has one image: there is nothing to retrieve; give at least two of a class")
