"""Columns of a table that are not trained on are seen in the report."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import recallk
from recallk.data.further import further_cells
from recallk.data.layout import USUAL, Layout
from recallk.data.vectors import Vector, VectorTable
from recallk.reporting.comparison import report_comparison
from tests.data.test_dataset import save_classes
from tests.miniature_run import SMALL

HEADER = ["Price", "path", "title", "label", "note"]
ROWS: list[dict[str, Any]] = [
    {"Price": f"{number + row / 10}", "path": f"{label}/{number}.png", "title": f"{label} no. {number}", "label": label}
    | {"note": "" if number else "first; <b>bold</b>"}
    for row, label in enumerate("abcd")
    for number in range(4)
]


def written(path: Path, rows: list[dict[str, Any]] = ROWS, header: list[str] = HEADER) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows))
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ";"
            lines = csv.DictWriter(file, header, delimiter=delimiter)
            lines.writeheader()
            file.write("\n")  # a blank line is no row
            lines.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_cells_are_those_of_the_row(tmp_path: Path, suffix: str) -> None:
    table = written(tmp_path / f"table{suffix}")
    items = [tmp_path / "b" / "2.png", tmp_path / "d" / "0.png", tmp_path / "elsewhere.png"]
    first, second, none = further_cells(str(table), USUAL, items)
    assert first == {"Price": "2.1", "title": "b no. 2"}
    assert second == {"Price": "0.3", "title": "d no. 0", "note": "first; <b>bold</b>"}
    assert none == {}
    layout = Layout({"label": "title"}, tmp_path / "photos")
    other = {"Price": "2.1", "label": "b"}  # which is not the label here
    assert further_cells(str(table), layout, [tmp_path / "photos" / "b" / "2.png"]) == [other]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_no_name_is_ours(tmp_path: Path, suffix: str) -> None:
    rows = [{"Bild": "a.png", "Klasse": "x", "Preis": "3,50", "id": "SKU1", "text": "a red dress"}]
    table = written(tmp_path / f"t{suffix}", rows, list(rows[0]))
    cells = further_cells(str(table), Layout({"path": "bild", "label": "klasse"}), [tmp_path / "a.png"])
    assert cells == [{"Preis": "3,50", "id": "SKU1", "text": "a red dress"}]


def test_what_cannot_be_had_costs_nothing(tmp_path: Path) -> None:
    items: list[Any] = [tmp_path / "a" / "0.png", np.zeros((3, 3), np.uint8)]
    for data in (tmp_path, tmp_path / "gone.csv", tmp_path / "gone.npy", Path("glyphs")):
        assert further_cells(str(data), USUAL, items) == [{}, {}]
    assert further_cells(str(written(tmp_path / "t.csv")), USUAL, []) == []


def test_long_cells_many_columns_and_numbers_of_parquet(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "a.png", "label": "a", "count": 3, "lists": [1, 2], "bytes": b"x", "long": "y" * 100}
        | {"none": float("nan"), "when": np.datetime64("2026-11-30T12:00:00.000000001"), "odd\u202e\n": "x"}
        | {f"more{number:02}": number for number in range(20)}
    ]
    cells = further_cells(str(written(tmp_path / "t.parquet", rows)), USUAL, [tmp_path / "a.png"])[0]
    assert cells["count"] == "3"
    assert cells["long"] == "y" * 60 + "..."
    assert cells["when"] == "2026-11-30 12:00:00.000000001"
    assert "none" not in cells
    assert list(cells) == [
        "count",
        "long",
        "when",
        "odd\\u202e\\n",
        *(f"more{number:02}" for number in range(3)),
    ]


def test_vectors_are_found_by_their_row(tmp_path: Path) -> None:
    rows = [{"embedding": [float(row), 1.0], "label": "a", "colour": f"colour {row}"} for row in range(9)]
    path = written(tmp_path / "v.parquet", rows)
    table = VectorTable(path, np.zeros((9, 2), np.float32))
    assert further_cells(str(path), USUAL, [Vector(table, 7), Vector(table, 2)]) == [
        {"colour": "colour 7"},
        {"colour": "colour 2"},
    ]
    written(tmp_path / "w.csv", [{"label": "a", "size": f"{row} cm"} for row in range(9)], ["label", "size"])
    assert further_cells(str(tmp_path / "w.npy"), USUAL, [Vector(table, 5)]) == [{"size": "5 cm"}]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_page_shows_them(tmp_path: Path, suffix: str) -> None:
    save_classes(tmp_path, ["a", "b", "c", "d"])
    values = SMALL | {"data": str(written(tmp_path / f"table{suffix}")), "select": "last", "batch_size": 4}
    recallk.train(values | {"columns": "label=label"}, tmp_path / "run")
    assert recallk.report(tmp_path / "run") == []
    page = (tmp_path / "run" / "report.html").read_text()
    shown = set(re.findall(r"title: (\w) no\. \d", page))
    assert len(shown) == 2, "those of the test classes"
    assert "note: first; &lt;b&gt;bold&lt;/b&gt;" in page
    assert re.search(r'class="result" title="\w · \d\.png[^"]* · Price: \d\.\d', page)
    losses = ["recall@k", "contrastive"]
    recallk.compare(values | {"epochs": 1}, tmp_path / "compared", losses=losses, rates=(1,), seeds=1)
    report_comparison([tmp_path / "compared"])
    assert "title: " in (tmp_path / "compared" / "comparison.html").read_text()
