"""Tables that are damaged, ambiguous or name one file twice: one line each."""

import datetime
import os
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from recallk import InputError
from recallk.data.source import read_own
from tests.data.limits import seconds


def read(path: Path) -> Any:
    return read_own(str(path))[0]


def labels(path: Path) -> list[str]:
    return [record.label for record in read(path)]


def one_line(path: Path, message: str) -> None:
    with seconds(20), pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parquet_of(folder: Path, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,label\na,b,c\n", "2 columns 'label'"),
        ("path,path,label\na,b,c\n", "2 columns 'path'"),
        ("\n\n", "no column 'path'"),
        ("", "no column 'path'; the columns are none"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "not a readable CSV table .*UTF-8"),
        ("path,label\ncafé.jpg,x\n".encode("latin-1"), "not a readable CSV table .*0xe9 is no UTF-8.*save it again"),
        ("path,label\na.jpg,x\n".encode("utf-16"), "not a readable CSV table"),
        ('path,label\n"a.jpg,x\nb.jpg,y\n', "not a readable CSV table"),
        ("path,label\na.jpg\n", "row 1 has 1 fields, the header 2"),
        ("path,label\na\0.jpg,x\n", r"row 1: a\\x00.jpg cannot be read"),
        (f"path,label\n{'a' * 200_000},x\n", "not a readable CSV table"),
        (f"path,label\n{'a' * 9_000},x\n", r"row 1: a+\.\.\. cannot be read \(File name too long\)"),
        ("path,label\nhttps://example.org/a.jpg,x\n", "row 1: https://example.org/a.jpg is an address"),
        ("path,label\n.,x\n", "row 1: . is a folder"),
        ("path,label\n/dev/zero,x\n", "row 1: /dev/zero is a pipe or a device"),
        ("path,label\n,x\n", "row 1: empty path"),
        ("path,label,split\na,b,\x1b[2J\n", r"split is '\\x1b\[2J'"),
    ],
)
def test_csv_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    one_line(written(tmp_path, text), message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffpath,label\na,007\n", ["007"]),
        ('"path","label"\n"a","x, y"\n\n"b","x ""y"""\n', ["x, y", 'x "y"']),
        ('"a, b",label,path\n1,2,3\n', ["2"]),
        ('path,label\na,"two\nlines"\n', ["two\nlines"]),
        ("path,label\r\na,NA\r\nb,null\r\n", ["NA", "null"]),
        ("path,label\na,\x1b[2J\n", ["\x1b[2J"]),
    ],
)
def test_labels_are_kept_as_they_are_written(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert labels(written(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pyarrow.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pyarrow.array(["a", "b"], pyarrow.large_string()), ["a", "b"]),
        (pyarrow.array([7, 10**12]), ["7", "1000000000000"]),
        (pyarrow.array([datetime.date(2020, 1, 2), datetime.date(2020, 1, 3)]), ["2020-01-02", "2020-01-03"]),
        (pyarrow.array([True, False]), ["True", "False"]),
    ],
)
def test_kinds_of_parquet_columns(tmp_path: Path, values: Any, expected: list[str]) -> None:
    assert labels(parquet_of(tmp_path, path=["a", "b"], label=values, other=[[1], [2]])) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": [["a"]], "label": ["x"]}, "column 'path' holds list<"),
        ({"path": ["a"], "label": [["x|y"]]}, r"row 1: a label is x\|y: labels in a list are texts without \|"),
        ({"path": ["a"], "label": [{"x": 1}]}, "column 'label' holds struct<"),
        ({"path": ["a"], "label": [b"x"]}, "column 'label' holds binary"),
        ({"path": [1], "label": ["x"]}, "column 'path' holds int64"),
        ({"path": ["a"], "label": [None]}, "row 1: empty label"),
        ({"path": ["a", "b"], "label": ["x", None]}, "row 2: empty label"),
        ({"path": ["a"], "label": [float("nan")]}, "row 1: empty label"),
        ({"path": [None], "label": ["x"]}, "row 1: empty path"),
        ({"label": ["x"]}, "no column 'path'; the columns are label"),
    ],
)
def test_parquet_columns_that_are_no_labels(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    one_line(parquet_of(tmp_path, **columns), message)


def test_a_parquet_column_twice(tmp_path: Path) -> None:
    twice = pyarrow.table([["a"], ["x"], ["y"]], names=["path", "label", "label"])
    parquet.write_table(twice, tmp_path / "t.parquet")
    one_line(tmp_path / "t.parquet", "2 columns 'label'")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_mutated_tables_are_read_or_one_line(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        names = [f"image number {n}.jpg" for n in range(50)]
        whole = parquet_of(tmp_path, path=names, label=[str(n % 5) for n in range(50)]).read_bytes()
    else:
        whole = written(tmp_path, "path,label\n" + "".join(f'"{n}.jpg",{n}\n' for n in range(20))).read_bytes()
    path, told = tmp_path / f"t.{suffix}", 0
    dice = random.Random(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged[: dice.randrange(len(damaged))] if dice.random() < 0.2 else damaged)
        message = ""
        try:
            read(path)
        except InputError as error:
            message = str(error)
            told += 1
        assert "\n" not in message
    assert told > 50


@pytest.mark.parametrize("kind", ["detour", "absolute", "symbolic", "hard", "folder"])
def test_one_file_in_two_spellings(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a/1.jpg")
    other = {
        "detour": "a/../a/1.jpg",
        "absolute": str(tmp_path / "a/1.jpg"),
        "symbolic": "link.jpg",
        "hard": "hard.jpg",
        "folder": "b/1.jpg",
    }[kind]
    (tmp_path / "link.jpg").symlink_to("a/1.jpg")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "a/1.jpg")
    (tmp_path / "b").symlink_to("a")
    path = written(tmp_path, f"path,label,split\nx.jpg,x,train\n{other},x,train\na/1.jpg,y,test\nz.jpg,z,test\n")
    one_line(path, "row 3: a/1.jpg stands in row 2 already, as ")
    with pytest.raises(InputError) as caught:
        read(path)
    assert other[:60] in str(caught.value)


def test_several_files_are_several(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    assert len(read(written(tmp_path, "path,label\na.jpg,x\nb.jpg,x\ngone.jpg,x\nlost.jpg,x\n"))) == 4


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_no_regular_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    os.mkfifo(path)
    one_line(path, "a pipe or a device, not a file")
    path.unlink()
    path.mkdir()
    one_line(path, "a folder, not a file")
