"""Vectors as items: rows of one array, alone and together."""

from pathlib import Path

import numpy as np
import pytest

from recallk.data.item import Record
from recallk.data.records import (
    LabelledItems,
    VectorRecords,
    chosen_records,
    files_of,
    in_splits,
    labelled,
    labels_of,
    of_split,
    splits_of,
)
from recallk.data.sides import limit_classes, set_aside, split_classes
from recallk.data.split import Split, find_records, split_of
from recallk.data.vectors import Vector, VectorRows, VectorTable, rows_of_one_table

ARRAY = np.arange(12, dtype=np.float32).reshape(6, 2)
TABLE = VectorTable(Path("v.npy"), ARRAY, ids=[*"abcdef"])


def test_a_vector_is_its_row() -> None:
    vector = Vector(TABLE, 2)
    assert np.array_equal(np.asarray(vector), ARRAY[2])
    assert np.asarray(vector, dtype=np.float64).dtype == np.float64
    assert (str(vector), str(Vector(VectorTable(Path("v.npy"), ARRAY), 2))) == ("v.npy, c", "v.npy, row 3")
    assert "array" not in repr(vector)
    other = VectorTable(Path("v.npy"), ARRAY)
    assert vector == Vector(TABLE, 2)
    assert vector not in (Vector(TABLE, 3), Vector(other, 2), 2)
    assert len({vector, Vector(TABLE, 2), Vector(TABLE, 3)}) == 2


def test_rows_are_made_when_asked_for() -> None:
    rows = VectorRows(TABLE, np.array([4, 0, 2]))
    assert [vector.row for vector in rows] == [4, 0, 2]
    assert (len(rows), rows[1], rows[-1]) == (3, Vector(TABLE, 0), Vector(TABLE, 2))
    assert list(rows[1:]) == [Vector(TABLE, 0), Vector(TABLE, 2)]


def test_rows_of_one_table_are_found_again() -> None:
    rows = VectorRows(TABLE, np.array([4, 0]))
    found = rows_of_one_table(list(rows))
    assert found is not None
    assert found.rows.tolist() == [4, 0]
    assert rows_of_one_table(rows) is rows
    assert rows_of_one_table(iter(rows)) is not None
    assert rows_of_one_table([]) is None
    assert rows_of_one_table([*rows, "a text"]) is None
    assert rows_of_one_table([*rows, Vector(VectorTable(Path("v.npy"), ARRAY), 1)]) is None


def records(split: bool, ids: bool = False) -> tuple[VectorRecords, list[Record]]:
    """Return 60 records in columns, and the same in a list."""
    random = np.random.default_rng(0)
    names = [f"row {n}" for n in range(60)] if ids else None
    table = VectorTable(Path("v.npy"), np.ones((60, 2), np.float32), names)
    classes, labels = [f"class {letter}" for letter in "abcdefghijklmn"], random.integers(0, 13, 60)
    sides = 1 + labels % 2 if split else np.zeros(60)
    columns = VectorRecords(VectorRows(table, random.permutation(60)), classes, labels, sides.astype(np.int8))
    return columns, list(columns)


def same(one: LabelledItems, other: LabelledItems) -> bool:
    return (
        list(one.records) == list(other.records)
        and list(one.items) == list(other.items)
        and list(one.classes) == list(other.classes)
        and np.array_equal(one.labels, other.labels)
    )


@pytest.mark.parametrize("split", [False, True])
def test_records_in_columns_are_as_records_in_a_list(split: bool) -> None:
    columns, listed = records(split)
    assert columns[3] == listed[3]
    assert list(columns[10:20:3]) == listed[10:20:3]
    assert labels_of(columns) == labels_of(listed)
    assert splits_of(columns) == splits_of(listed)
    assert len(files_of(columns)) == len(files_of(listed)) == 0
    mask = columns.labels > 4
    assert list(chosen_records(columns, mask)) == chosen_records(listed, mask)
    assert same(labelled(columns), labelled(listed))
    assert same(labelled(columns.chosen(mask)), labelled(chosen_records(listed, mask)))
    apart, listed_apart = split_classes(columns, 0.5, 3), split_classes(listed, 0.5, 3)
    assert isinstance(apart, VectorRecords)
    assert list(apart) == listed_apart
    assert list(of_split(apart, "test")) == of_split(listed_apart, "test")
    assert list(limit_classes(apart, 3)) == limit_classes(listed_apart, 3)
    sides = {name: "test" if name < "class e" else "train" for name in columns.classes}
    assert list(in_splits(columns, sides)) == in_splits(listed, sides)


def test_classes_are_set_aside_in_columns_as_in_a_list() -> None:
    columns, _ = records(False)
    many = columns.chosen(np.tile(np.arange(60), 20))
    aside, other = (set_aside(labelled(given), 0.3, 0) for given in (many, list(many)))
    assert aside.validation is not None
    assert other.validation is not None
    assert isinstance(aside.train.records, VectorRecords)
    assert same(aside.train, other.train)
    assert same(aside.validation, other.validation)


def test_a_split_other_than_train_or_test_is_not_there() -> None:
    columns, _ = records(True)
    assert len(of_split(columns, "query")) == 0
    assert splits_of(in_splits(columns, dict.fromkeys(columns.classes, "query"))) == {None}
    found = find_records(Split({"train": {"class a": 2}, "query": {"class b": 2}}), columns, Path())
    assert labels_of(of_split(found.records, "train")) == {"class a"}
    assert splits_of(found.records) == {"train", None}


@pytest.mark.parametrize(
    ("changed", "ids"),
    [
        *[(changed, False) for changed in ("nothing", "fewer", "more", "a class less", "a class more")],
        *[(changed, True) for changed in ("nothing", "fewer", "a class less", "a class more", "in between")],
    ],
)
@pytest.mark.parametrize("of_all", [True, False])
def test_a_split_is_found_again_in_columns_as_in_a_list(changed: str, ids: bool, of_all: bool) -> None:
    columns, _ = records(True, ids)
    sides = {side: of_split(columns, side) for side in ("train", "test")}
    split, as_listed = (
        split_of({side: make(part) for side, part in sides.items()}, Path()) for make in (lambda x: x, list)
    )
    assert split == as_listed
    train = dict(split.splits["train"])
    split = Split({"train": train, "validation": {"class k": train.pop("class k")}, "test": split.splits["test"]})
    places = np.arange(60)
    if changed == "fewer":
        places = places[5:]
    elif changed == "more":
        places = np.append(places, [3, 4, 5])
    elif changed == "in between":  # of rows with ids the run's own are found, whatever stands before them
        sides = {side: of_split(columns.chosen(places[::2]), side) for side in ("train", "test")}
        split = split_of(sides, Path())
    elif changed == "a class less":
        places = places[columns.labels != 2]
    elif changed == "a class more":
        columns.labels[columns.labels == 2] = 13
    found = find_records(split, columns.chosen(places), Path(), of_all=of_all)
    expected = find_records(split, list(columns.chosen(places)), Path(), of_all=of_all)
    assert isinstance(found.records, VectorRecords)
    assert list(found.records) == list(expected.records)
    assert (found.new, found.gone, found.told) == (expected.new, expected.gone, expected.told)
    assert (changed == "nothing") == (not found.told)
