"""An item is a file, pixels, a vector or a text, and is called by what it is."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk.data import records
from recallk.data.item import ArchiveMember, Drawing, Files, Record, Region, file_of
from recallk.data.records import labelled


def test_the_example_of_the_docstring() -> None:
    found = doctest.testmod(records)
    assert found.attempted == 1
    assert found.failed == 0


@pytest.mark.parametrize(
    ("one", "noun"),
    [
        (Path("a.jpg"), "images"),
        (np.zeros((4, 5), np.uint8), "images"),
        (np.zeros((4, 5, 3), np.uint8), "images"),
        (Drawing("mdi:home", "<path/>", (0, 0, 24, 24), 64), "images"),
        (np.zeros(7, np.float32), "vectors"),
        ("a red chair", "texts"),
    ],
)
def test_items_are_called_by_what_they_are(one: Any, noun: str) -> None:
    items = labelled([Record(one, label) for label in "abab"])
    assert items.noun == noun
    assert items.counted == f"4 {noun} of 2 classes"


def test_many_are_counted_with_commas() -> None:
    items = labelled([Record("x", str(number % 1500)) for number in range(3000)])
    assert items.counted == "3,000 texts of 1,500 classes"


def test_classes_are_numbered_in_the_order_of_their_names_and_items_stay_in_theirs() -> None:
    records = [Record(f"text {number}", label) for number, label in enumerate(["b", "c", "a", "b", "é"])]
    items = labelled(records)
    assert items.classes == ["a", "b", "c", "é"]
    assert items.labels.tolist() == [1, 2, 0, 1, 3]
    assert items.labels.dtype == np.int64
    assert items.items == ["text 0", "text 1", "text 2", "text 3", "text 4"]
    assert items.records == records
    assert len(items) == 5


def test_no_items() -> None:
    nothing = labelled([])
    assert (len(nothing), nothing.items, nothing.classes, nothing.labels.shape) == (0, [], [], (0,))
    assert nothing.labels.dtype == np.int64
    assert nothing.counted == "0 items of 0 classes"


def test_the_file_of_an_item() -> None:
    path, pixels = Path("a.jpg"), np.zeros((4, 4), np.uint8)
    member = ArchiveMember(Path("0.tar"), "a.jpg", 512, 100)
    for file in (path, member):
        assert file_of(file) == file_of(Region(file, (0, 0, 2, 2))) == file
    for item_in_memory in (pixels, Region(pixels, (0, 0, 2, 2)), "a.jpg", np.zeros(4)):
        assert file_of(item_in_memory) is None
    assert str(member) == "0.tar, a.jpg"


def test_a_drawing_is_no_file_and_is_called_by_its_name() -> None:
    drawing = Drawing("mdi:home", "<path/>" * 1000, (0, 0, 24, 24), 64)
    assert file_of(drawing) is None
    assert Record(drawing, "home").file is None
    assert str(drawing) == "mdi:home"
    assert "<path/>" not in repr(Record(drawing, "home"))


def test_a_record_keeps_a_file_as_text_and_gives_it_as_a_path() -> None:
    made, named = Record(Path("a/b.jpg"), "x", "train"), Record.of_file("a/b.jpg", "x", "train")
    assert made == named
    assert made.file == named.file == "a/b.jpg"
    assert made.item == named.item == Path("a/b.jpg")
    assert repr(named) == f"Record({Path('a/b.jpg')!r}, 'x', 'train')"
    assert named.in_split("test") == Record(Path("a/b.jpg"), "x", "test")
    assert named.split == "train"
    assert made != Record("a/b.jpg", "x", "train")
    assert made != "a/b.jpg"


def test_another_item_is_kept_as_it_is() -> None:
    pixels = np.zeros((4, 5), np.uint8)
    record = Record(pixels, "x")
    assert record.file is None
    assert record.item is record.in_split("test").item is pixels


def test_files_are_paths_when_asked_for() -> None:
    names = [f"{number}.jpg" for number in range(5)]
    files = labelled([Record(Path(name), "x") for name in names]).items
    assert isinstance(files, Files)
    assert list(files) == [files[place] for place in range(5)] == list(map(Path, names))
    assert files[-1] == Path("4.jpg")
    assert list(files[1:3]) == [Path("1.jpg"), Path("2.jpg")]
    assert len(files) == 5
    assert Path("3.jpg") in files
    mixed = labelled([Record(Path("0.jpg"), "x"), Record("a text", "x")]).items
    assert mixed == [Path("0.jpg"), "a text"]
