"""Retrieval-SfM-120k: photographs of sights, grouped by the 3D models that they were reconstructed to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recallk.core.errors import InputError
from recallk.core.text import brief
from recallk.data.benchmarks.annotations import Place, Reading, find_home
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Findings
from recallk.data.item import Record
from recallk.data.plain_pickle import read_plain_pickle

_NAME = "retrieval-SfM-120k"
_SPLITS = {"train": "train", "val": "test"}
_IMAGES, _PAIRS = ("cids", "cluster"), ("qidxs", "pidxs")
_FOLDERS = 6
"""Characters of a cid, from its end, that are the names of its folders, two of each."""


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the pickle: a table for each split, of the images' names (`cids`), their clusters, and pairs of them.

    A class is a cluster of one split, as "train/17": the same number in the other split is another 3D model. The
    validation part is for testing. Entries are counted from 1.
    """
    reading = Reading(findings)
    unpacked = f"the folder that holds {_NAME}.pkl and ims/"
    home = find_home(root, (_NAME, f"train/{_NAME}"), (f"{_NAME}.pkl",), unpacked, findings)
    if home is None:
        return []
    path = home / f"{_NAME}.pkl"
    try:
        held = read_plain_pickle(path, "tables of images and clusters", "get it again")
    except InputError as error:
        reading.report("missing file", path, str(error).removeprefix(f"{path}: "))
        return []
    for part, split in _SPLITS.items():
        columns = _columns(reading, path, part, held)
        if columns is None:
            continue
        cids, clusters, queries, positives = columns
        for number, (cid, cluster) in enumerate(zip(cids, clusters, strict=True), 1):
            place = Place(path, number, f"{part} entry")
            name, label = _path(reading, place, cid), _number(reading, place, "cluster", cluster)
            if name is not None and label is not None:
                reading.image(place, str(home / "ims"), name, f"{part}/{label}", split)
        for number, pair in enumerate(zip(queries, positives, strict=True), 1):
            for what, index in zip(_PAIRS, pair, strict=True):
                _number(reading, Place(path, number, f"{part} pair"), what, index, len(cids) - 1)
    return reading.records()


def _columns(reading: Reading, path: Path, part: str, held: Any) -> list[Sequence[Any]] | None:
    """Return a split's columns, those of one table equally long, or None, reported."""
    table = held.get(part) if isinstance(held, dict) else None
    if not isinstance(table, dict):
        reading.report("missing file", path, f"has no table {part!r}; get it again")
        return None
    columns = list[Sequence[Any]]()
    for key in (*_IMAGES, *_PAIRS):
        column = table.get(key)
        if isinstance(column, np.ndarray):
            column = column.tolist()
        if not isinstance(column, list | tuple):
            reading.report("missing file", path, f"has no list {key!r} in the table {part!r}; get it again")
            return None
        columns.append(column)
    for keys, lengths in ((_IMAGES, columns[:2]), (_PAIRS, columns[2:])):
        one, other = map(len, lengths)
        if one != other:
            told = f"{one:,} {keys[0]} and {other:,} {keys[1]} in the table {part!r}; as many are needed, get it again"
            reading.report("missing file", path, told)
            return None
    return columns


def _path(reading: Reading, place: Place, cid: Any) -> str | None:
    """Return the path of an image's file, or None, reported."""
    wrong = None
    if not isinstance(cid, str):
        wrong = "is no text"
    elif len(cid) < _FOLDERS:
        wrong = f"has fewer than {_FOLDERS} characters"
    elif "/" in cid or "\0" in cid or ".." in cid:
        wrong = "is no name of a file"
    if wrong is not None:
        reading.report("broken name", place, f"the cid {brief(cid)} {wrong}; get {place.file.name} again")
        return None
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"


def _number(reading: Reading, place: Place, what: str, value: Any, highest: int | None = None) -> int | None:
    """Return a whole number, as one of MATLAB's may be too, or None, reported."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return reading.number(place, what, "" if isinstance(value, bool) else str(value), highest=highest)


BENCHMARK = Benchmark(
    name="sfm120k",
    title="Retrieval-SfM-120k",
    what="98,045 photographs of 713 reconstructed sights",
    size="see home page",
    home="http://cmp.felk.cvut.cz/cnnimageretrieval/, https://github.com/filipradenovic/cnnimageretrieval-pytorch",
    terms="see home page",
    counts={"train": Count(91_642, 551, confirmed=False), "test": Count(6_403, 162, confirmed=False)},
    read=read,
)
