import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from recallk import InputError
from recallk.data.item import Record
from recallk.data.source import check_images, check_test_positives, limit_classes, part, read_data, split_classes
from tests.data.limits import seconds

PIXELS = np.zeros((2, 2), np.uint8)


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def test_folders_within_folders(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/x/2.PNG", "b/y/3.jpeg", ".hidden/4.jpg", "b/x/.5.jpg"):
        save(tmp_path / name)
    (tmp_path / "a/notes.txt").write_text("passed over")
    records, _ = read_data(str(tmp_path))
    assert [(str(r.image.relative_to(tmp_path)), r.label) for r in records if isinstance(r.image, Path)] == [
        ("a/1.jpg", "a"),
        ("b/x/2.PNG", "b/x"),
        ("b/y/3.jpeg", "b/y"),
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        path.write_text('path,label,split,price\r\na.jpg,007,train,1\r\n"b,c.jpg",7,test,2\r\n')
    else:
        columns = {"path": ["a.jpg", "b,c.jpg"], "label": ["007", "7"], "split": ["train", "test"]}
        parquet.write_table(pyarrow.table(columns), path)
    assert read_data(str(path))[0] == [
        Record(tmp_path / "a.jpg", "007", "train"),
        Record(tmp_path / "b,c.jpg", "7", "test"),
    ]


def test_whole_number_labels_of_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"path": ["a", "b"], "label": [12, 3]}), tmp_path / "t.parquet")
    assert [record.label for record in read_data(str(tmp_path / "t.parquet"))[0]] == ["12", "3"]


def table(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "t.csv").write_text(text)
        return folder / "t.csv"

    return make


def loose(folder: Path) -> Path:
    save(folder / "loose.jpg")
    return folder


def not_a_table(folder: Path) -> Path:
    (folder / "data.txt").write_text("x")
    return folder / "data.txt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "nowhere: no such folder"),
        (lambda folder: folder / "no.csv", "no such table"),
        (lambda folder: folder, "no images below this folder"),
        (loose, "outside any class"),
        (not_a_table, "neither a folder nor"),
        (table("path,class\na,b\n"), "no column 'label'; the columns are path, class"),
        (table("path,label\na.jpg,\n"), "row 1: empty label"),
        (table("path,label\na.jpg,x\na.jpg,y\n"), "row 2: a.jpg stands in row 1 already"),
        (table("path,label,split\na.jpg,x,valid\n"), "row 1: split is 'valid'"),
        (table("path,label\n"), "no rows"),
        (table("path,label\na.jpg,x,y,z\n"), "not a readable CSV table"),
    ],
)
def test_bad_sources_get_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_data(str(make(tmp_path)))


def records(**images_of: int) -> list[Record]:
    return [Record(PIXELS, label) for label, count in images_of.items() for _ in range(count)]


def sides(given: list[Record], fraction: float, seed: int) -> dict[str, str | None]:
    return {record.label: record.split for record in split_classes(given, fraction, seed)}


def test_classes_are_split_disjoint_seeded_and_as_asked() -> None:
    given = records(**{f"c{i}": 3 for i in range(400)})
    split = split_classes(given, 0.3, seed=1)
    train, test = part(split, "train"), part(split, "test")
    assert not set(train.classes) & set(test.classes)
    assert len(train.classes) + len(test.classes) == 400
    assert abs(len(test.classes) - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5  # four standard deviations
    assert len(train.labels) + len(test.labels) == 1200
    assert split == split_classes(given, 0.3, seed=1)
    assert split != split_classes(given, 0.3, seed=2)
    assert [train.classes[label] for label in train.labels] == [record.label for record in train.records]


@pytest.mark.parametrize("count", [20, 50, 200])
def test_a_class_stays_on_its_side_when_others_come(count: int) -> None:
    given = records(**{f"c{i}": 1 for i in range(count)})
    before = sides(given, 0.5, 0)
    for more in (1, 2, 30):
        after = sides([*records(**{f"new{i}": 1 for i in range(more)}), *given], 0.5, 0)
        assert {name: after[name] for name in before} == before


def test_a_larger_test_fraction_only_adds_classes() -> None:
    given = records(**{f"c{i}": 1 for i in range(100)})
    tests = [{n for n, side in sides(given, fraction, 3).items() if side == "test"} for fraction in (0.2, 0.5, 0.8)]
    assert tests[0] < tests[1] < tests[2]


def test_the_split_is_the_same_in_every_version() -> None:
    """Written down once: a run is evaluated on the classes that it was not trained on."""
    split = sides(records(**dict.fromkeys("abcdefghijkl", 1), é=1), 0.5, 0)
    assert "".join(name for name, side in split.items() if side == "test") == "bcefgjkl"


@pytest.mark.parametrize(("classes", "fewest"), [(2, 1), (3, 1), (4, 2), (5, 2), (9, 2)])
@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_few_classes_leave_no_side_empty(classes: int, fewest: int, fraction: float) -> None:
    for seed in range(20):
        given = records(**{f"c{i}": 1 for i in range(classes)})
        found = list(sides(given, fraction, seed).values())
        assert min(found.count("train"), found.count("test")) >= fewest
        if fraction != 0.5:
            assert min(found.count("train"), found.count("test")) == fewest


def test_each_side_gets_a_class() -> None:
    for fraction in (0.01, 0.99):
        split = split_classes(records(a=2, b=2), fraction, 0)
        assert {record.split for record in split} == {"train", "test"}


def test_a_given_split_is_kept_and_checked() -> None:
    given = [Record(PIXELS, "a", "train"), Record(PIXELS, "b", "test")]
    assert split_classes(given, 0.5, 0) == given
    with pytest.raises(InputError, match="no test images"):
        split_classes([Record(PIXELS, "a", "train"), Record(PIXELS, "b", "train")], 0.5, 0)
    with pytest.raises(InputError, match="class a is in the train and in the test split"):
        split_classes([*given, Record(PIXELS, "a", "test")], 0.5, 0)


def test_one_class_and_lonely_test_images() -> None:
    with pytest.raises(InputError, match=r"only one class \(a\)"):
        split_classes(records(a=5), 0.5, 0)
    with pytest.raises(InputError, match="no images"):
        split_classes([], 0.5, 0)
    with pytest.raises(InputError, match="every test class has one image"):
        check_test_positives(part(records(a=1, b=1), None))


def test_queries_and_gallery_keep_the_same_classes() -> None:
    splits = {"train": "fbdhj", "gallery": "abcdeg", "query": "cedx"}
    given = [Record(PIXELS, label, split) for split, labels in splits.items() for label in labels for _ in range(2)]
    limited = limit_classes(given, 2)
    kept = {split: {record.label for record in limited if record.split == split} for split in splits}
    assert kept == {"train": {"b", "d"}, "gallery": {"c", "d"}, "query": {"c", "d"}}
    assert len(limited) == 12
    with pytest.raises(InputError, match="no class is in query and in gallery"):
        limit_classes([Record(PIXELS, "a", "query"), Record(PIXELS, "b", "gallery")], 1)


def test_limited_classes_are_the_first_of_each_split() -> None:
    given = [Record(PIXELS, label, split) for split in ("train", "test-800", "test-1600") for label in "zyx"]
    assert limit_classes(given, 2) == [record for record in given if record.label in "xy"]


def test_a_broken_image_is_found_before_any_work(tmp_path: Path) -> None:
    save(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_text("x")
    check_images([Record(tmp_path / "good.jpg", "a")])
    with pytest.raises(InputError, match=r"bad\.jpg"):
        check_images([Record(tmp_path / "good.jpg", "a"), Record(tmp_path / "bad.jpg", "a")])


def test_a_pipe_among_the_images_of_a_table_is_found_before_any_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with seconds(10), pytest.raises(InputError, match=r"pipe\.jpg: a pipe or a device"):
        check_images([Record(tmp_path / "pipe.jpg", "a")])
