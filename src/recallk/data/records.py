"""Records of a data set, in a list or in columns: their splits and classes, and their items with class numbers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from recallk.core.relevance import Positives
from recallk.data.item import Files, Item, Record, Role
from recallk.data.label_sets import has_several, label_set, labels_in
from recallk.data.searches import Search
from recallk.data.vectors import Vector, VectorRows, rows_of_one_table

VALIDATION = "validation"
"""The split to choose an epoch by: given with the data, or training classes set aside."""
SPLITS: Sequence[str | None] = (None, "train", "test", VALIDATION)
"""That a record of a person's own data may be in."""
_NUMBERS = {split: number for number, split in enumerate(SPLITS)}
ROLES: Sequence[Role | None] = (None, "query", "gallery")


@dataclass(frozen=True, eq=False)
class VectorRecords(Sequence[Record]):
    """Records of `vectors` in columns: two million of them are listed and split in seconds.

    `labels (N,)` are numbers into `classes`, which are in order and may be more than there are; `splits (N,)` into
    `SPLITS`, and `roles (N,)` into `ROLES`, None where no vector has one. Each `Record` is made when asked for.
    """

    vectors: VectorRows
    classes: Sequence[str]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    roles: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "VectorRecords": ...
    def __getitem__(self, place: int | slice) -> "Record | VectorRecords":
        if isinstance(place, slice):
            return self.chosen(np.arange(len(self))[place])
        role = None if self.roles is None else ROLES[self.roles[place]]
        return Record(self.vectors[place], self.classes[self.labels[place]], SPLITS[self.splits[place]], role)

    def chosen(self, places: NDArray[Any]) -> "VectorRecords":
        """Return those at some places, or where a mask is true."""
        vectors = VectorRows(self.vectors.table, self.vectors.rows[places])
        roles = None if self.roles is None else self.roles[places]
        return VectorRecords(vectors, self.classes, self.labels[places], self.splits[places], roles)

    def in_splits(self, split_of: Mapping[str, str]) -> "VectorRecords":
        """Return the same vectors, each class in the split that is given for it; in none, where it is another."""
        of_class = np.array([_NUMBERS.get(split_of.get(name), 0) for name in self.classes], np.int8)
        return replace(self, splits=of_class[self.labels])


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


def with_roles(records: Sequence[Record]) -> Sequence[Record]:
    """Return the records that have a role; all, where none has one."""
    if isinstance(records, VectorRecords):
        return records if records.roles is None else records.chosen(records.roles > 0)
    found = [record for record in records if record.role is not None]
    return found or records


def chosen_records(records: Sequence[Record], mask: NDArray[np.bool_]) -> Sequence[Record]:
    """Return the records where a mask `(N,)` is true."""
    if isinstance(records, VectorRecords):
        return records.chosen(mask)
    return [records[place] for place in np.flatnonzero(mask).tolist()]


def _present(numbers: NDArray[Any]) -> list[int]:
    found: list[int] = np.flatnonzero(np.bincount(numbers)).tolist()
    return found


def files_of(records: Iterable[Record]) -> Files:
    """Return the files among the items."""
    if isinstance(records, VectorRecords):
        return Files([])
    return Files([record.file for record in records if record.file is not None])


@dataclass(frozen=True)
class LabelledItems:
    """Items with their classes as numbers: `labels (N,)` int64, into `classes`.

    Of items with several labels a class is a set of labels, which its name says: "red|round".
    """

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

    @cached_property
    def roles(self) -> NDArray[np.int8] | None:
        """Numbers `(N,)` into `ROLES`: 1 for queries and 2 for the gallery; None unless all items have a role."""
        if isinstance(self.records, VectorRecords):
            roles = self.records.roles
        else:
            roles = np.array([ROLES.index(record.role) for record in self.records], np.int8)
        return None if roles is None or not len(roles) or not roles.all() else roles

    @cached_property
    def label_sets(self) -> Sequence[frozenset[str]] | None:
        """Of each class the labels that its name says, where any says several; the classes are then sets of labels."""
        return [label_set(name) for name in self.classes] if has_several(self.classes) else None

    def positives(self, queries: NDArray[np.int64], gallery: NDArray[np.int64] | None = None) -> Positives:
        """Return who is relevant to whom where items, by number, search others, or each other."""
        return self.positives_of(self.labels[queries], None if gallery is None else self.labels[gallery])

    def positives_of(self, queries: NDArray[np.int64], gallery: NDArray[np.int64] | None = None) -> Positives:
        """Return who is relevant to whom of items of these classes: those of one class, or with a label in common."""
        if self.label_sets is None:
            return Positives.from_labels(queries, gallery)
        sides = [
            [self.label_sets[number] for number in side.tolist()] for side in (queries, gallery) if side is not None
        ]
        return Positives.from_label_sets(*sides)

    @property
    def search(self) -> Search:
        """Who searches what: the queries the gallery, where all items have a role; else each all the others."""
        if self.roles is None:
            return Search("", np.arange(len(self)))
        return Search("", np.flatnonzero(self.roles == 1), np.flatnonzero(self.roles == 2))

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """Of which classes `(C,)` a query has something to find."""
        queries, gallery = self.search.queries, self.search.gallery
        if self.label_sets is not None:
            able = queries[self.positives(queries, gallery).counts.numpy() > 0]
            return np.bincount(self.labels[able], minlength=len(self.classes)) > 0
        asked = np.bincount(self.labels[queries], minlength=len(self.classes))
        if gallery is None:
            return asked > 1
        return (asked > 0) & (np.bincount(self.labels[gallery], minlength=len(self.classes)) > 0)

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
        if self.label_sets is not None:
            return f"{len(self):,} {self.noun} with {len(labels_in(self.classes)):,} labels, several of an item"
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
