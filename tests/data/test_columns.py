"""Columns of tables as text, in which what is alike is one string."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recallk import InputError
from recallk.data.columns import Columns, read_columns

CELLS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "007", "é"])), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=CELLS, rows_of_a_group=st.integers(1, 5), kind=st.sampled_from(["string", "large", "dictionary"]))
def test_cells_of_parquet_are_as_they_were_written(
    tmp_path: Path, cells: list[str | None], rows_of_a_group: int, kind: str
) -> None:
    column: Any = pyarrow.array(cells, pyarrow.large_string() if kind == "large" else pyarrow.string())
    column = column.dictionary_encode() if kind == "dictionary" else column
    parquet.write_table(pyarrow.table({"label": column}), tmp_path / "t.parquet", row_group_size=rows_of_a_group)
    read = read_columns(tmp_path / "t.parquet", ("label",), ("split",))
    assert dict(read) == {"label": cells}
    assert len({id(cell) for cell in read["label"]}) == len(set(cells))


def test_numbers_become_text_and_missing_ones_none(tmp_path: Path) -> None:
    columns = {"label": [1.5, None, np.nan, 2.0], "split": pyarrow.array([3, None, 3, 10**12])}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert dict(read_columns(tmp_path / "t.parquet", ("label",), ("split",))) == {
        "label": ["1.5", None, None, "2.0"],
        "split": ["3", None, "3", "1000000000000"],
    }


@pytest.mark.parametrize("text", ["label,x\na b c,1\na b c,2\n", 'label,x\n"a b c",1\n\n"a b c",2\n'])
def test_cells_of_csv_that_are_alike_are_one_string(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    first, second = read_columns(tmp_path / "t.csv", ("label",), ())["label"]
    assert first == "a b c"
    assert first is second


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("t.csv", "path,label\na.jpg,x;1\nb.jpg,\n", "x;1"),
        ("t.csv", "path;label\na.jpg;x,1\nb.jpg;\n", "x,1"),
        ("t.csv", "path\tlabel\na.jpg\tx,1\nb.jpg\t\n", "x,1"),
        ("t.tsv", "path\tlabel\na.jpg\tx,1\nb.jpg\t\n", "x,1"),
        ("t.tsv", "path,label\na.jpg,x\nb.jpg,\n", "x"),
        ("T.CSV", '\ufeffweight;"path";label\n1,5;a.jpg;x,1\n2,5;b.jpg;\n', "x,1"),
    ],
)
def test_columns_of_text_stand_between_commas_semicolons_or_tabs(
    tmp_path: Path, name: str, text: str, label: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    read = read_columns(tmp_path / name, ("path", "label"), ("split",))
    assert dict(read) == {"path": ["a.jpg", "b.jpg"], "label": [label, ""]}


def test_json_lines_are_a_table(tmp_path: Path) -> None:
    lines = ['{"path": "a.jpg", "label": 7, "more": [1]}', "", '{"label": 7.50, "path": "é\\u00e9.jpg"}']
    lines += [
        '{"path": "c.jpg", "label": null, "split": "train"}',
        '{"path": "d.jpg", "label": NaN}',
        '{"path": "e.jpg"}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert dict(read_columns(tmp_path / "t.jsonl", ("path", "label"), ("split",))) == {
        "path": ["a.jpg", "éé.jpg", "c.jpg", "d.jpg", "e.jpg"],
        "label": ["7", "7.50", None, None, None],
        "split": [None, None, "train", None, None],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no column 'path'; the columns are none$"),
        ('{"path": "a"}\n', r"no column 'label'; the columns are path; say what .*: --columns label=NAME$"),
        (
            '{"path": "a", "label": "x"}\n{"path"',
            r"t.jsonl: not a readable table of JSON Lines \(line 2: .*\); write an object",
        ),
        ('{"path": "a", "label": "x"}\n["a", "x"]\n', r"line 2: no object"),
        ('{"path": "a", "label": "x", "path": "b"}\n', r"line 1: a name is there twice"),
        (
            '{"path": "a", "label": {"x": "y"}}\n',
            r"line 1: column 'label' holds more than one value; write it as text",
        ),
        (
            '{"path": {"bytes": ""}, "label": "x"}\n',
            r"line 1: column 'path' holds more than one value; write it as text$",
        ),
        ("[" * 100_000 + "\n", r"not a readable table of JSON Lines \(line 1: "),
    ],
)
def test_odd_json_lines_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_columns(tmp_path / "t.jsonl", ("path", "label"), ())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_may_be_in_another_letter_case(tmp_path: Path, suffix: str) -> None:
    def table(*names: str) -> Path:
        path = tmp_path / f"{len(names)}{names[-1]}{suffix}"
        if suffix == ".csv":
            path.write_text(f"{','.join(names)}\n{','.join(name + '1' for name in names)}\n")
        elif suffix == ".jsonl":
            path.write_text(json.dumps({name: f"{name}1" for name in names}))
        else:
            parquet.write_table(pyarrow.table({name: [f"{name}1"] for name in names}), path)
        return path

    def read(path: Path) -> Columns:
        return read_columns(path, ("path", "label"), ("split",))

    assert dict(read(table("Label", "PATH"))) == {"path": ["PATH1"], "label": ["Label1"]}
    assert dict(read(table("Label", "PATH", "label", "Split"))) == {
        "path": ["PATH1"],
        "label": ["label1"],  # the one that is spelled so
        "split": ["Split1"],
    }
    with pytest.raises(InputError, match="columns 'Label' and 'LABEL'; rename or remove one"):
        read(table("path", "Label", "LABEL"))


def test_what_stands_between_optional_columns_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("weight;text;id\n1,5;a, b;x\n")
    assert dict(read_columns(tmp_path / "t.csv", (), ("id", "text"))) == {"id": ["x"], "text": ["a, b"]}
