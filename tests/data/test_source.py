from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from recallk import InputError
from recallk.data.item import Record
from recallk.data.source import read_benchmark, read_own, read_to_embed
from tests.data.miniatures import make


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def test_folders_within_folders(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/x/2.PNG", "b/y/3.jpeg", ".hidden/4.jpg", "b/x/.5.jpg"):
        save(tmp_path / name)
    (tmp_path / "a/notes.txt").write_text("passed over")
    records, _ = read_own(str(tmp_path))
    assert [(str(r.item.relative_to(tmp_path)), r.label) for r in records if isinstance(r.item, Path)] == [
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
    assert read_own(str(path))[0] == [
        Record(tmp_path / "a.jpg", "007", "train"),
        Record(tmp_path / "b,c.jpg", "7", "test"),
    ]


def test_whole_number_labels_of_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"path": ["a", "b"], "label": [12, 3]}), tmp_path / "t.parquet")
    assert [record.label for record in read_own(str(tmp_path / "t.parquet"))[0]] == ["12", "3"]


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
        (table("path,label,split\na.jpg,x,dev\n"), "row 1: split is 'dev'"),
        (table("path,label\n"), "no rows"),
        (table("path,label\na.jpg,x,y,z\n"), "not a readable CSV table"),
    ],
)
def test_bad_sources_get_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_own(str(make(tmp_path)))


def test_a_folder_without_classes_is_embedded_without_labels(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg"):
        save(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("passed over")
    assert read_to_embed(str(tmp_path), "images") == read_own(str(tmp_path))
    save(tmp_path / "3.jpg")
    records, notes = read_to_embed(str(tmp_path), "images")
    assert records == [Record(tmp_path / name, "") for name in ("3.jpg", "a/1.jpg", "b/2.jpg")]
    assert [note.message for note in notes] == [
        "passed over 1 file that is no image: 1 .txt",
        "images outside any class: taken as a folder without classes",
    ]


@pytest.mark.parametrize("name", ["cub", "inshop", "vehicleid", "gldv2-clean"])
def test_a_benchmark_is_embedded_each_image_once(tmp_path: Path, name: str) -> None:
    root = make(name, tmp_path)
    records, notes = read_to_embed(str(root), "images", name)
    every, _ = read_benchmark(name, str(root))
    assert [record.file for record in records] == list(dict.fromkeys(record.file for record in every))
    trained = {record.file for record in every if record.split == "train"}
    tested = {"test"} if any(record.split for record in every) else {None}
    assert {record.split for record in records if record.file not in trained} == tested
    assert {record.split for record in records if record.file in trained} <= {"train"}
    told = [note.message for note in notes]
    assert not any("become test" in message for message in told) or name == "vehicleid"
    roles = {record.role for record in records if record.file not in trained}
    assert roles == ({"query", "gallery"} if name == "inshop" else {None})
    assert {record.role for record in records if record.file in trained} <= {None}
