"""The item: what is embedded and searched. Every data set hands its items over in the same shape."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from recallk.data.vectors import Vector, VectorRows, rows_of_one_table


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file inside of an uncompressed `.tar` archive: `size` bytes from `offset` on, read without unpacking."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}, {self.name}"


File = Path | ArchiveMember


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image, such as the box that a benchmark draws around what a query asks for.

    `box` is left, top, right, bottom, in pixels of the upright image.
    """

    image: File | NDArray[np.uint8]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that is drawn when it is read, `side` pixels wide and high.

    `name` tells it from the others of its data set, as "mdi:home"; `body` is what an SVG document holds; `box`
    (left, top, width, height) is the part of its plane that lies in the middle of the picture, as large as fits in.
    """

    name: str
    body: str = field(repr=False)
    box: tuple[float, float, float, float]
    side: int

    def __str__(self) -> str:
        return self.name


Depicted = File | NDArray[np.uint8] | Region | Drawing
"""What is read as an image: a file, alone or in an archive; pixels `(H, W)` grey or `(H, W, 3)` RGB, uint8; a part of
either; or a drawing."""

Item = Depicted | NDArray[Any] | Vector | str
"""An image; a vector, alone `(D,)` or as a row of a table; or a text.

The embedder takes images, vectors or texts: one of the three."""


def file_of(item: Item) -> File | None:
    """Return the file that an item is read from; None where it is in memory."""
    source = item.image if isinstance(item, Region) else item
    return source if isinstance(source, File) else None


class Record:
    """One item of a data set, with its label.

    `split` is "train", "validation", "test" or what a benchmark calls its test sets, and None where nothing is split
    yet.

    Of a file, `file` is the path as text, and its `Path` is made when asked for: a million of them take half a gigabyte
    and five seconds. Of any other item, `file` is None.
    """

    __slots__ = ("_item", "file", "label", "split")

    def __init__(self, item: Item, label: str, split: str | None = None) -> None:
        self._item: Item | None = None if isinstance(item, Path) else item
        self.file: str | None = str(item) if isinstance(item, Path) else None
        self.label, self.split = label, split

    @classmethod
    def of_file(cls, file: str, label: str, split: str | None = None) -> "Record":
        """Return the record of a file, whose path is written as `Path` writes it."""
        record = cls.__new__(cls)
        record._item, record.file, record.label, record.split = None, file, label, split
        return record

    def in_split(self, split: str | None) -> "Record":
        """Return the same item in another split, or in none."""
        record = Record.__new__(Record)
        record._item, record.file, record.label, record.split = self._item, self.file, self.label, split
        return record

    @property
    def item(self) -> Item:
        """The item itself."""
        return self._item if self.file is None else Path(self.file)  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (self.item, self.label, self.split) == (other.item, other.label, other.split)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Record({self.item!r}, {self.label!r}, {self.split!r})"


VALIDATION = "validation"
"""The split to choose an epoch by: given with the data, or training classes set aside."""
SPLITS: Sequence[str | None] = (None, "train", "test", VALIDATION)
"""That a record of a person's own data may be in."""
_NUMBERS = {split: number for number, split in enumerate(SPLITS)}


@dataclass(frozen=True, eq=False)
class VectorRecords(Sequence[Record]):
    """Records of `vectors` in columns: two million of them are listed and split in seconds.

    `labels (N,)` are numbers into `classes`, which are in order and may be more than there are; `splits (N,)` into
    `SPLITS`. Each `Record` is made when asked for.
    """

    vectors: VectorRows
    classes: Sequence[str]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "VectorRecords": ...
    def __getitem__(self, place: int | slice) -> "Record | VectorRecords":
        if isinstance(place, slice):
            return self.chosen(np.arange(len(self))[place])
        return Record(self.vectors[place], self.classes[self.labels[place]], SPLITS[self.splits[place]])

    def chosen(self, places: NDArray[Any]) -> "VectorRecords":
        """Return those at some places, or where a mask is true."""
        vectors = VectorRows(self.vectors.table, self.vectors.rows[places])
        return VectorRecords(vectors, self.classes, self.labels[places], self.splits[places])

    def in_splits(self, split_of: Mapping[str, str]) -> "VectorRecords":
        """Return the same vectors, each class in the split that is given for it; in none, where it is another."""
        of_class = np.array([_NUMBERS.get(split_of.get(name), 0) for name in self.classes], np.int8)
        return VectorRecords(self.vectors, self.classes, self.labels, of_class[self.labels])


def labels_of(records: Sequence[Record]) -> set[str]:
    """Return the labels that there are."""
    if isinstance(records, VectorRecords):
        return {records.classes[number] for number in _present(records.labels)}
    return {record.label for record in records}


def splits_of(records: Sequence[Record]) -> set[str | None]:
    """Return the splits that there are."""
    if isinstance(records, VectorRecords):
        return {SPLITS[number] for number in _present(records.splits)}
    return {record.split for record in records}


def in_classes(records: Sequence[Record], classes_of: Mapping[str, Collection[str]]) -> Sequence[Record]:
    """Return the records of some classes of each split; of a split that is not named, none."""
    if isinstance(records, VectorRecords):
        mask = np.zeros(len(records), dtype=np.bool_)
        for split, names in classes_of.items():
            chosen = np.array([name in names for name in records.classes], dtype=np.bool_)
            mask |= (records.splits == _NUMBERS.get(split, -1)) & chosen[records.labels]
        return records.chosen(mask)
    return [record for record in records if record.label in classes_of.get(record.split or "", ())]


def of_split(records: Sequence[Record], split: str) -> Sequence[Record]:
    """Return the records of a split."""
    if isinstance(records, VectorRecords):
        return records.chosen(records.splits == _NUMBERS.get(split, -1))
    return [record for record in records if record.split == split]


def not_of_split(records: Sequence[Record], split: str) -> Sequence[Record]:
    """Return the records of all other splits."""
    if isinstance(records, VectorRecords):
        return records.chosen(records.splits != _NUMBERS.get(split, -1))
    return [record for record in records if record.split != split]


def in_splits(records: Sequence[Record], split_of: Mapping[str, str]) -> Sequence[Record]:
    """Return the same items, each class in the split that is given for it."""
    if isinstance(records, VectorRecords):
        return records.in_splits(split_of)
    return [record.in_split(split_of[record.label]) for record in records]


def without_splits(records: Sequence[Record]) -> Sequence[Record]:
    """Return the same items, in no split."""
    if isinstance(records, VectorRecords):
        return records.in_splits({})
    return [record.in_split(None) for record in records]


def chosen_records(records: Sequence[Record], mask: NDArray[np.bool_]) -> Sequence[Record]:
    """Return the records where a mask `(N,)` is true."""
    if isinstance(records, VectorRecords):
        return records.chosen(mask)
    return [records[place] for place in np.flatnonzero(mask).tolist()]


def _present(numbers: NDArray[Any]) -> list[int]:
    found: list[int] = np.flatnonzero(np.bincount(numbers)).tolist()
    return found


class Files(Sequence[Path]):
    """Files by their paths as text; each `Path` is made when asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> "Files": ...
    def __getitem__(self, place: int | slice) -> "Path | Files":
        chosen = self.names[place]
        return Path(chosen) if isinstance(chosen, str) else Files(chosen)


def files_of(records: Iterable[Record]) -> Files:
    """Return the files among the items."""
    if isinstance(records, VectorRecords):
        return Files([])
    return Files([record.file for record in records if record.file is not None])


@dataclass(frozen=True)
class LabelledItems:
    """Items with their classes as numbers: `labels (N,)` int64, into `classes`."""

    records: Sequence[Record]
    classes: Sequence[str]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    @property
    def items(self) -> Sequence[Item]:
        """The items alone."""
        if isinstance(self.records, VectorRecords):
            return self.records.vectors
        files = files_of(self.records)
        if files and len(files) == len(self):
            return files
        items = [record.item for record in self.records]
        return rows_of_one_table(items) or items

    @property
    def noun(self) -> str:
        """What the items are called: "images", "vectors" or "texts"; "items" where there are none."""
        if not self.records:
            return "items"
        first = self.records[0].item
        if isinstance(first, str):
            return "texts"
        is_vector = isinstance(first, Vector) or (isinstance(first, np.ndarray) and first.ndim == 1)
        return "vectors" if is_vector else "images"

    @property
    def counted(self) -> str:
        """Say in words how many there are, such as "1,200 images of 300 classes"."""
        return f"{len(self):,} {self.noun} of {len(self.classes):,} classes"


def labelled(records: Sequence[Record]) -> LabelledItems:
    """Return the records' items, with class numbers in the order of the class names.

    >>> labelled([Record("a cat", "cat"), Record("a dog", "dog"), Record("a black cat", "cat")]).labels
    array([0, 1, 0])

    """
    if isinstance(records, VectorRecords):
        there = _present(records.labels)
        number_of = np.zeros(len(records.classes), np.int64)
        number_of[there] = np.arange(len(there))
        return LabelledItems(records, [records.classes[old] for old in there], number_of[records.labels])
    classes = sorted(labels_of(records))
    number = {name: i for i, name in enumerate(classes)}
    return LabelledItems(records, classes, np.array([number[record.label] for record in records], dtype=np.int64))
