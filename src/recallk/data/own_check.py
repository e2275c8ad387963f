"""What a person should know of own data before training: sizes, broken files, duplicates, images that are small."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recallk.core.cores import own_cores
from recallk.core.csv_files import write_csv
from recallk.core.errors import InputError
from recallk.core.progress import Advance, silent
from recallk.core.text import shown
from recallk.data.findings import Finding
from recallk.data.images import check_image, read_image
from recallk.data.item import Record
from recallk.data.label_sets import LabelSets, label_set
from recallk.data.layout import USUAL, Layout
from recallk.data.records import labelled
from recallk.data.source import read_own
from recallk.data.unreadable import begin_alone

Kind = Literal["broken image", "the same file", "looks the same", "small image"]
ALIKE = 4
"""Of the 64 bits of two perceptual hashes, how many may differ: then the images look the same."""
_BLOCK = 32  # files that a process is given at a time
_QUERIES = 256  # hashes that are compared with all others at a time


@dataclass(frozen=True)
class Side:
    """What is in a split, or has a role in it: `sizes` are the fewest, the median and the most items of a class."""

    name: str
    items: int
    classes: int
    sizes: tuple[int, int, int]
    alone: int  # classes of one item


@dataclass(frozen=True)
class Remark:
    """Something about a file that a person should know; `other` is the file that it is like."""

    kind: Kind
    file: str
    other: str
    message: str


@dataclass(frozen=True)
class OwnCheck:
    """What a check of own data found; all `files` were decoded."""

    sides: Sequence[Side]
    files: int
    remarks: Sequence[Remark]
    notes: Sequence[Finding]

    @property
    def counts(self) -> Counter[Kind]:
        """How many remarks there are of each kind."""
        return Counter(remark.kind for remark in self.remarks)


def check_own(data: str, image_size: int = 224, layout: Layout = USUAL, advance: Advance = silent) -> OwnCheck:
    """Read own data as a training does, and decode every image file.

    Duplicates are files of the same bytes, and images whose perceptual hashes (pHash, 64 bits) differ in at most
    `ALIKE`, in two classes or two splits: then a class leaks into another, or the test into the training. Small images
    have a shorter side than `image_size`. Raises InputError for whatever cannot be read as `source.read_own` says.
    """
    records, notes = read_own(data, layout=layout)
    files = [record for record in records if record.file is not None]
    looks = list(_looks([str(record.file) for record in files], advance))
    remarks = [
        Remark("broken image", str(record.file), "", look)
        for record, look in _paired(files, looks)
        if isinstance(look, str)
    ]
    whole = [(record, look) for record, look in _paired(files, looks) if isinstance(look, _Look)]
    same = list(_same(whole))
    remarks += same
    told = {remark.file for remark in same}
    remarks += _alike([(record, look) for record, look in whole if str(record.file) not in told], advance)
    remarks += [
        Remark("small image", str(record.file), "", f"{look.width} x {look.height} pixels")
        for record, look in whole
        if min(look.width, look.height) < image_size
    ]
    return OwnCheck(_sides(records), len(files), remarks, notes)


def write_remarks(found: OwnCheck, path: Path) -> None:
    """Write a line for each remark as CSV. Raises InputError where that cannot be, as `require_new`."""
    rows = ((remark.kind, remark.file, remark.other, remark.message) for remark in found.remarks)
    write_csv(path, ("kind", "file", "other", "message"), rows)


@dataclass(frozen=True)
class _Look:
    """What was seen of a file."""

    digest: bytes
    hash: bytes  # 64 bits
    width: int
    height: int


def _paired(files: Sequence[Record], looks: Sequence["_Look | str"]) -> Iterator[tuple[Record, "_Look | str"]]:
    return zip(files, looks, strict=True)


def _sides(records: Sequence[Record]) -> list[Side]:
    names = {(record.split, record.role): None for record in records}
    sides = []
    for split, role in names:
        items = labelled([record for record in records if (record.split, record.role) == (split, role)])
        counts = np.bincount(LabelSets.of(items.classes, items.labels).labels)
        sizes = int(counts.min()), int(np.median(counts)), int(counts.max())
        name = " ".join(filter(None, (split, role))) or "all"
        sides.append(Side(name, len(items), len(counts), sizes, int((counts == 1).sum())))
    return sides


def _looks(files: Sequence[str], advance: Advance) -> Iterator["_Look | str"]:
    """Yield what is seen of each file, in their order, or why it cannot be read; several processes decode them."""
    if not files:
        return
    try:
        with ProcessPoolExecutor(own_cores(), initializer=begin_alone) as pool:
            for done, look in enumerate(pool.map(_look, files, chunksize=_BLOCK), 1):
                yield look
                if done % _BLOCK == 0 or done == len(files):
                    advance("opening images", done, len(files))
    except BrokenProcessPool:
        told = "a process that opens images ended; it may have run out of memory, or a file has broken it"
        raise InputError(told) from None


def _look(file: str) -> "_Look | str":
    import imagehash

    path = Path(file)
    try:
        check_image(path)
        image = read_image(path)
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except InputError as error:
        return str(error).removeprefix(f"{shown(path)}: ")
    except OSError as error:
        return shown(str(error))
    return _Look(digest, np.packbits(imagehash.phash(image).hash).tobytes(), *image.size)


def _place(record: Record) -> str:
    """Say in words where a file is: its class, and its split."""
    where = " ".join(filter(None, (record.split, record.role)))
    return shown(f"class {record.label}" + (f", {where}" if where else ""))


def _same(whole: Sequence[tuple[Record, _Look]]) -> Iterator[Remark]:
    first: dict[bytes, Record] = {}
    for record, look in whole:
        other = first.setdefault(look.digest, record)
        if other is not record:
            yield Remark("the same file", str(record.file), str(other.file), f"{_place(record)}; {_place(other)}")


def _alike(whole: Sequence[tuple[Record, _Look]], advance: Advance) -> Iterator[Remark]:
    """Yield for each image the earlier one of another class or split that is most like it, where one looks the same."""
    import faiss

    if not whole:
        return
    hashes: NDArray[np.uint8] = np.frombuffer(b"".join(look.hash for _, look in whole), np.uint8).reshape(-1, 8)
    number: dict[tuple[str, str | None], int] = {}  # of a class in a split
    group = np.array([number.setdefault((record.label, record.split), len(number)) for record, _ in whole])
    kept = _first_of_two_groups([look.hash for _, look in whole], group.tolist())
    index = faiss.IndexBinaryFlat(64)
    index.add(hashes[kept])
    for start in range(0, len(whole), _QUERIES):
        ends, distances, found = index.range_search(hashes[start : start + _QUERIES], ALIKE + 1)
        for place, (begin, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True), start):
            others, record = kept[found[begin:end]], whole[place][0]
            earlier = (others < place) & (group[others] != group[place])
            earlier[earlier] = [_is_apart(record, whole[other][0]) for other in others[earlier].tolist()]
            if not earlier.any():
                continue
            nearest = np.lexsort((others[earlier], distances[begin:end][earlier]))[0]
            like = whole[int(others[earlier][nearest])][0]
            yield Remark("looks the same", str(record.file), str(like.file), f"{_place(record)}; {_place(like)}")
        advance("comparing images", min(start + _QUERIES, len(whole)), len(whole))


def _is_apart(one: Record, other: Record) -> bool:
    """Whether two items are in different splits, or have no label in common."""
    return one.split != other.split or not label_set(one.label) & label_set(other.label)


def _first_of_two_groups(hashes: Sequence[bytes], groups: Sequence[int]) -> NDArray[np.int64]:
    """Return the places of the first of each hash, and of the first of another group: one of the two is the answer.

    Thousands of blank images would otherwise be compared with each other.
    """
    first: dict[bytes, int] = {}
    second: dict[bytes, int] = {}
    for place, (own, group) in enumerate(zip(hashes, groups, strict=True)):
        if groups[first.setdefault(own, place)] != group:
            second.setdefault(own, place)
    return np.array(sorted([*first.values(), *second.values()]), np.int64)
