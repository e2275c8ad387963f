"""The split that a run was made with, as its folder keeps it: the data may change, the run's test items do not."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.core.files import read_file, write_text
from recallk.data.item import Drawing, Record
from recallk.data.records import SPLITS, VALIDATION, VectorRecords
from recallk.data.texts import Text
from recallk.data.vectors import Vector

VERSION = 1
Names = list[str] | int
"""Of the items of a class: paths below the data's folder, names of drawings, or ids of vectors that have them; of
others, how many there are."""


@dataclass(frozen=True)
class Split:
    """Which items are in which split: by the split's name, by the label, their names.

    `skipped` are the names of files that are in none, since they could not be read, each with the reason. Of a
    `closed_set` a class may be in several splits.
    """

    splits: Mapping[str, Mapping[str, Names]]
    skipped: Mapping[str, str] = field(default_factory=dict)
    closed_set: bool = False

    def in_words(self) -> str:
        """Return it as JSON."""
        skipped = {"skipped": self.skipped} if self.skipped else {}
        closed = {"closed_set": True} if self.closed_set else {}
        return json.dumps({"version": VERSION, "splits": self.splits} | skipped | closed)

    def counted(self, split: str, noun: str = "items") -> str:
        """Say in words how much is in a split, such as "1,200 images of 300 classes"."""
        labels = self.splits.get(split, {})
        items = sum(names if isinstance(names, int) else len(names) for names in labels.values())
        return f"{items:,} {noun} of {len(labels):,} classes"

    @property
    def validation(self) -> frozenset[str]:
        """The training classes that were set aside."""
        return frozenset(self.splits.get(VALIDATION, {}))


@dataclass(frozen=True)
class FoundRecords:
    """The records of a split that are there, and what is not as it was; `new` and `gone` are items by their label."""

    records: Sequence[Record]
    new: Counter[str]
    gone: Counter[str]
    first_gone: str = ""

    @property
    def told(self) -> list[str]:
        """What is to be said of it, a line each."""
        told = []
        if self.new:
            told.append(f"new since the run: {_counted(self.new)}; left out")
        if self.gone:
            first = f" ({self.first_gone}{', ...' if self.gone.total() > 1 else ''})" if self.first_gone else ""
            told.append(f"gone since the run: {_counted(self.gone)}{first}; measured on what is left")
        return told


def split_of(
    records_by_split: Mapping[str, Iterable[Record]],
    root: Path,
    skipped: Mapping[str, str] | None = None,
    *,
    closed_set: bool = False,
) -> Split:
    """Return the split of records whose files lie below `root`, and of the files that are `skipped`, with reasons."""
    below, splits = namer(root), dict[str, dict[str, Names]]()
    for split, records in records_by_split.items():
        labels: dict[str, Any] = splits.setdefault(split, {})
        if isinstance(records, VectorRecords):
            labels |= _rows_by_class(records)
            continue
        for record in records:
            if (own := _name(record, below)) is not None:
                labels.setdefault(record.label, []).append(own)
            else:
                labels[record.label] = labels.get(record.label, 0) + 1
    return Split(splits, {below(file): why for file, why in (skipped or {}).items()}, closed_set)


def save_split(split: Split, path: Path) -> None:
    """Write it. Raises InputError, one line, where that cannot be."""
    write_text(path, split.in_words())


def load_split(path: Path) -> Split:
    """Return the split in a file. Raises InputError, one line, where it is damaged or of another version."""
    return read_file(path, _parse, "the split of a run", "put it back from a copy, or start the run anew")


def find_records(
    split: Split, records: Sequence[Record], root: Path, *, by_split: bool = False, of_all: bool = True
) -> FoundRecords:
    """Return the records of the split, each as the run had it; training classes set aside are in "train".

    Of a closed set those to choose by are in "validation": no classes are set aside.

    With `by_split` a record must be in the same split now (a benchmark's lists say it); otherwise what the data itself
    says is passed over. Unless the split is `of_all` classes, those that it does not name are not new.
    """
    if isinstance(records, VectorRecords):
        by_id = any(isinstance(names, list) for labels in split.splits.values() for names in labels.values())
        return (_find_ids if by_id else _find_rows)(split, records, of_all=of_all)
    below, place, rest = namer(root), dict[tuple[str, str, str], str](), Counter[tuple[str, str]]()
    named, sides = set[str](), dict[str, list[str]]()
    for own_split, labels in split.splits.items():
        side = _side(split, own_split)
        named |= labels.keys()
        for label, names in labels.items():
            if isinstance(names, int):
                rest[side, label] += names
                sides.setdefault(label, []).append(side)
            else:
                place |= {(side if by_split else "", label, own): side for own in names}
    found, new = list[Record](), Counter[str]()
    for record in records:
        if (name := _name(record, below)) is not None:
            side_now = place.pop((record.split or "" if by_split else "", record.label, name), None)
        else:
            own_first = sorted(sides.get(record.label, []), key=lambda side: side != record.split)
            side_now = next((side for side in own_first if rest[side, record.label]), None)
            if side_now is not None:
                rest[side_now, record.label] -= 1
        if side_now is not None:
            found.append(record if record.split == side_now else record.in_split(side_now))
        elif (of_all or record.label in named) and name not in split.skipped:
            new[record.label] += 1
    gone = Counter(label for _, label, _ in place)
    gone.update({label: count for (_, label), count in rest.items() if count})
    return FoundRecords(found, new, gone, next((name for _, _, name in place), ""))


def _side(split: Split, name: str) -> str:
    return "train" if name == VALIDATION and not split.closed_set else name


def _side_number(split: Split, name: str) -> int:
    """Return the number of a side in `SPLITS`; 0 for one that own data cannot have."""
    side = _side(split, name)
    return SPLITS.index(side) if side in SPLITS else 0


def _name(record: Record, below: Callable[[str], str]) -> str | None:
    """Return the name of a file or a drawing, or the id of a vector or a text, and None for an item that has none."""
    if record.file is not None:
        return below(record.file)
    item = record.item
    if isinstance(item, Drawing):
        return item.name
    if isinstance(item, Text):
        return item.id
    return item.table.ids[item.row] if isinstance(item, Vector) and item.table.ids is not None else None


def _rows_by_class(records: VectorRecords) -> dict[str, Names]:
    """Return the ids of the vectors of each class; how many they are, where they have none."""
    ids = records.vectors.table.ids
    if ids is None:
        counts = np.bincount(records.labels, minlength=len(records.classes)).tolist()
        return {label: count for label, count in zip(records.classes, counts, strict=True) if count}
    found: dict[str, Names] = {}
    for row, label in zip(records.vectors.rows.tolist(), records.labels.tolist(), strict=True):
        found.setdefault(records.classes[label], []).append(ids[row])  # type: ignore[union-attr]
    return found


def _find_ids(split: Split, records: VectorRecords, *, of_all: bool) -> FoundRecords:
    """Find what `find_records` does among rows that have ids; where they have none by now, all are gone."""
    ids, place_of, named = records.vectors.table.ids, dict[str, tuple[str, int]](), set[str]()
    for own_split, labels in split.splits.items():
        side = _side_number(split, own_split)
        named |= labels.keys()
        for label, names in labels.items():
            if isinstance(names, list):
                place_of |= dict.fromkeys(names, (label, side))
    labels_now = [records.classes[number] for number in records.labels.tolist()]
    ids_now = ["" if ids is None else ids[row] for row in records.vectors.rows.tolist()]
    sides = np.zeros(len(records), np.int8)
    new, there = Counter[str](), set[str]()
    for row, (name, label) in enumerate(zip(ids_now, labels_now, strict=True)):
        own_label, side = place_of.get(name, ("", 0))
        if own_label == label:
            sides[row] = side
            there.add(name)
        elif of_all or label in named:
            new[label] += 1
    gone = [name for name in place_of if name not in there]
    found = replace(records, splits=sides).chosen(sides > 0)
    return FoundRecords(found, new, Counter(place_of[name][0] for name in gone), gone[0] if gone else "")


def _find_rows(split: Split, records: VectorRecords, *, of_all: bool) -> FoundRecords:
    """Find what `find_records` does among rows: of each class as many as there were, the first ones.

    Of a closed set, of each class on each side: rows that have no ids are told apart by the side that they say.
    """
    sides = len(SPLITS) if split.closed_set else 1
    place_of = {name: place * sides for place, name in enumerate(records.classes)}
    wanted, side_of = np.zeros(len(place_of) * sides, np.int64), np.zeros(len(place_of) * sides, np.int8)
    gone = Counter[str]()
    for own_split, labels in split.splits.items():
        side = _side_number(split, own_split)
        for label, names in labels.items():
            count = names if isinstance(names, int) else len(names)
            if label in place_of:
                place = place_of[label] + (side if split.closed_set else 0)
                wanted[place] += count
                side_of[place] = side
            else:
                gone[label] += count
    groups = records.labels * sides + (records.splits if split.closed_set else 0)
    sizes = np.bincount(groups, minlength=len(wanted))
    order = np.argsort(groups, kind="stable")
    within = np.empty(len(records), np.int64)  # its group, which place a row has
    within[order] = np.arange(len(records)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = replace(records, splits=side_of[groups]).chosen(within < wanted[groups])
    new = np.maximum(sizes - wanted, 0).reshape(-1, sides).sum(1)
    if not of_all:
        new[~wanted.reshape(-1, sides).any(1)] = 0
    gone.update(_counted_by_class(records, np.maximum(wanted - sizes, 0).reshape(-1, sides).sum(1)))
    return FoundRecords(found, Counter(_counted_by_class(records, new)), +gone)


def _counted_by_class(records: VectorRecords, counts: NDArray[np.int64]) -> dict[str, int]:
    return {records.classes[place]: int(counts[place]) for place in np.flatnonzero(counts).tolist()}


def namer(root: Path) -> Callable[[str], str]:
    """Return a function from a file to its name, the path below `root`; a million are named in a second."""
    here = str(root) == "."
    top = "" if here else f"{root}{os.sep}"

    def name(file: str) -> str:
        inside = not file.startswith(os.sep) if here else file.startswith(top)
        below = file[len(top) :] if inside else os.path.relpath(file, root)
        return below.replace(os.sep, "/")

    return name


def _parse(path: Path) -> Split:
    held = json.loads(path.read_bytes())
    version, splits = held["version"], held["splits"]
    if type(version) is not int:
        raise ValueError("its version is no number")
    if version != VERSION:
        raise InputError(f"{path}: written by another version of recallk (format {version}); use that one")
    for labels in splits.values():
        for names in labels.values():
            whole = isinstance(names, int) and not isinstance(names, bool) and names >= 0
            if not whole and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
                raise ValueError("a class has neither names nor a number of items")
    closed = held.get("closed_set", False)
    if not isinstance(closed, bool):
        raise ValueError("whether it is a closed set is no true or false")
    if not closed:
        _require_apart(splits)
    if not {"train"} < splits.keys():
        raise ValueError("no training items, or nothing to test on")
    skipped = held.get("skipped", {})
    if not isinstance(skipped, dict) or not all(isinstance(why, str) for why in skipped.values()):
        raise ValueError("a file was left out without a reason")
    return Split(splits, skipped, closed)


def _require_apart(splits: Mapping[str, Mapping[str, Names]]) -> None:
    """Raise ValueError where a class is on two sides."""
    trained, tested = set[str](), set[str]()
    for split, labels in splits.items():
        side = trained if split in ("train", VALIDATION) else tested
        if split == "train" and labels.keys() & splits.get(VALIDATION, {}).keys():
            raise ValueError("a class is trained on and set aside")
        side |= labels.keys()
    if both := trained & tested:
        raise ValueError(f"the class {min(both)} is trained and tested on")


def _counted(items: Counter[str]) -> str:
    count, classes = items.total(), len(items)
    return f"{count:,} item{'s' if count > 1 else ''} of {classes:,} class{'es' if classes > 1 else ''}"
