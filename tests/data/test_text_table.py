"""Texts of a person's own tables."""

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from recallk import InputError
from recallk.data.kind import kind_of
from recallk.data.layout import Layout
from recallk.data.source import read_own
from recallk.data.text_table import text_table
from recallk.data.texts import Text
from tests.miniature_texts import save_texts

ROWS = [("a red shoe", "shoe", "train"), ("a blue hat, old", "hat", "test"), ("שלום", "hat", "test")]


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    header = ("text", "label", "split")
    save_texts(tmp_path / "t.csv", ROWS, header)
    save_texts(tmp_path / "t.tsv", ROWS, header)
    table = pyarrow.table({name: [row[number] for row in ROWS] for number, name in enumerate(header)})
    parquet.write_table(table, tmp_path / "t.parquet")
    lines = [json.dumps(dict(zip(header, row, strict=True))) for row in ROWS]
    (tmp_path / "t.jsonl").write_text("\n\n".join(lines))
    for suffix in ("csv", "tsv", "parquet", "jsonl"):
        data = str(tmp_path / f"t.{suffix}")
        assert kind_of(data) == "texts", suffix
        records, _ = read_own(data)
        assert [(record.item, record.label, record.split) for record in records] == ROWS
        assert [record.item.row for record in records if isinstance(record.item, Text)] == [0, 1, 2]


def test_columns_may_be_called_otherwise_and_further_ones_are_passed_over(tmp_path: Path) -> None:
    path = save_texts(tmp_path / "t.csv", [("a shoe", "s", "9"), ("a hat", "h", "5")], ("Title", "class", "price"))
    assert kind_of(str(path)) == "images", "nothing tells that a title is a text"
    columns = {"text": "title", "label": "class"}
    assert kind_of(str(path), columns) == "texts"
    assert [(record.item, record.label) for record in text_table(path, Layout(columns))] == [
        ("a shoe", "s"),
        ("a hat", "h"),
    ]
    both = save_texts(tmp_path / "b.csv", [("a.png", "a shoe", "s")], ("path", "text", "label"))
    assert kind_of(str(both)) == "images", "the text is of an image"
    assert (
        kind_of(str(save_texts(tmp_path / "c.csv", [("a.png", "a", "s")], ("file", "text", "label"))), {"path": "file"})
        == "images"
    )


def test_a_text_knows_its_row_and_is_a_string() -> None:
    text = Text("a shoe", 4, "s-1")
    again = pickle.loads(pickle.dumps(text))
    assert text == "a shoe" == again
    assert (again.row, again.id, again.name) == (4, "s-1", "s-1")
    assert Text("a shoe", 4).name == "row 5"
    assert hash(text) == hash("a shoe")


def test_without_labels_where_none_are_needed(tmp_path: Path) -> None:
    path = save_texts(tmp_path / "t.csv", [("a shoe",), ("a hat",)], ("text",))
    assert [record.label for record in text_table(path, labels_needed=False)] == ["", ""]
    with pytest.raises(InputError, match="no column 'label'"):
        text_table(path)


def mistakes(tmp_path: Path) -> list[tuple[Path, str]]:
    def of(name: str, columns: dict[str, Any]) -> Path:
        parquet.write_table(pyarrow.table(columns), tmp_path / name)
        return tmp_path / name

    (tmp_path / "list.jsonl").write_text('{"text": ["a", "b"], "label": "x"}\n')
    (tmp_path / "null.jsonl").write_text('{"text": null, "label": "x"}\n')
    header = ("text", "label", "id")
    return [
        (save_texts(tmp_path / "e.csv", [("a", "x"), ("  ", "x")]), "row 2: empty text"),
        (save_texts(tmp_path / "l.csv", [("a", "x"), ("b", "")]), "row 2: empty label"),
        (save_texts(tmp_path / "i.csv", [("a", "x", "1"), ("b", "x", "1")], header), "row 2: the id 1 stands in row 1"),
        (save_texts(tmp_path / "j.csv", [("a", "x", "1"), ("b", "x", "")], header), "row 2: empty id"),
        (of("n.parquet", {"text": [1, 2], "label": ["x", "y"]}), "column 'text' holds int64; write it as text"),
        (of("b.parquet", {"text": [b"a"], "label": ["x"]}), "column 'text' holds binary"),
        (of("s.parquet", {"text": [["a"]], "label": ["x"]}), "column 'text' holds list"),
        (of("0.parquet", {"text": pyarrow.array([], pyarrow.string()), "label": []}), "the table has no rows"),
        (tmp_path / "list.jsonl", "line 1: column 'text' holds more than one value"),
        (tmp_path / "null.jsonl", "row 1: empty text"),
        (tmp_path / "gone.csv", "no such table"),
    ]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for path, told in mistakes(tmp_path):
        with pytest.raises(InputError) as raised:
            text_table(path)
        assert str(raised.value).startswith(str(path))
        assert told in str(raised.value), (path, raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="texts have no paths"):
        text_table(save_texts(tmp_path / "r.csv"), Layout(root=tmp_path))
    with pytest.raises(InputError, match=r"no table of texts; give a \.csv"):
        read_own(str(tmp_path), "texts")


def test_what_cannot_be_read_is_of_no_kind(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", b"\xff\xfe\x00"),
        ("a.jsonl", b"{"),
        ("b.jsonl", b""),
        ("b.csv", b""),
        ("a.parquet", b"P"),
    ):
        (tmp_path / name).write_bytes(content)
        assert kind_of(str(tmp_path / name)) == "images", name
    (tmp_path / "f.csv").mkdir()
    assert kind_of(str(tmp_path / "f.csv")) == "images"
