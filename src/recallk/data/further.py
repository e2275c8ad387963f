"""What a person's table says of items beyond what is trained on: looked up for the few that are shown."""

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from pyarrow import ChunkedArray, DataType, Schema, parquet, string, types

from recallk.core.errors import InputError
from recallk.core.files import read_file, user_path
from recallk.data import given_split, text_table, vector_files
from recallk.data.columns import SUFFIXES, cell, delimiter_of, of_json, read_columns, texts
from recallk.data.item import Item
from recallk.data.kind import ARRAYS, EMBEDDING, ItemKind
from recallk.data.layout import Layout
from recallk.data.texts import Text
from recallk.data.vectors import Vector

MOST = 8
"""Columns that are shown of an item, the first ones of the table."""

Cells = Mapping[str, str]
"""By the name of a column, what stands there; those that are empty are left out."""
_Rows = dict[int, dict[str, str]]


def further_cells(data: str, layout: Layout, items: Sequence[Item]) -> list[Cells]:
    """Return the further cells of each item; none of data that is no table, or that cannot be read by now."""
    path = user_path(data)
    if path.suffix.lower() not in SUFFIXES | ARRAYS:
        return [{} for _ in items]
    kind = _kind(items)
    own = used_columns(layout, kind)
    try:
        path = vector_files.table_beside(path) if path.suffix.lower() in ARRAYS else path
        rows = [item.row if isinstance(item, Vector | Text) else None for item in items]
        if kind == "images":
            rows = _rows_of(path, layout, items)
        found = _read(path, own, {row for row in rows if row is not None})
    except InputError:  # a page must not be lost for it
        return [{} for _ in items]
    return [{} if row is None else found.get(row, {}) for row in rows]


def _kind(items: Sequence[Item]) -> ItemKind:
    of_rows = next((item for item in items if isinstance(item, Vector | Text)), None)
    return "images" if of_rows is None else "texts" if isinstance(of_rows, Text) else "vectors"


def used_columns(layout: Layout, kind: ItemKind) -> set[str]:
    """Return the names, in small letters, of the columns of a table of such items that are no further ones."""
    used = {
        "images": ("path", "label", *given_split.COLUMNS),
        "vectors": vector_files.READ,
        "texts": text_table.READ,
    }[kind]
    return {*(layout.columns.get(name, name).casefold() for name in used), *([EMBEDDING] if kind == "vectors" else [])}


def _rows_of(path: Path, layout: Layout, items: Sequence[Item]) -> list[int | None]:
    """Return in which row of the table each file stands, counted from 0."""
    own = {"path": layout.columns["path"]} if "path" in layout.columns else {}
    folder, wanted = layout.root_of(path), {_last(str(item)) for item in items}
    rows = {
        str(folder / name): row
        for row, name in enumerate(read_columns(path, ("path",), (), Layout(own))["path"])
        if name and _last(name) in wanted  # of a million, few are worth a `Path`
    }
    return [rows.get(str(item)) for item in items]


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _read(path: Path, used: Collection[str], rows: Collection[int]) -> _Rows:
    """Return the cells of some rows, but for the columns that are used, by their names in small letters."""

    def shown(names: Sequence[str]) -> list[str]:
        return [name for name in names if name.casefold() not in used][:MOST]

    def of_csv(path: Path) -> _Rows:
        return _csv(path, delimiter_of(path, sorted(used), ()), shown, rows)

    def of_json_lines(path: Path) -> _Rows:
        return _json_lines(path, shown, rows)

    def of_parquet(path: Path) -> _Rows:
        return _parquet(path, shown, rows)

    kind = path.suffix.lower()
    of_file = of_parquet if kind == ".parquet" else of_json_lines if kind == ".jsonl" else of_csv
    return read_file(path, of_file, "a readable table", "write it again")


def _csv(path: Path, delimiter: str, shown: Callable[[Sequence[str]], list[str]], rows: Collection[int]) -> _Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter)
        header = [name.strip() for name in next(lines, [])]
        places = {cell(name): header.index(name) for name in shown(header)}
        written = (fields for fields in lines if fields)  # blank lines are no rows
        return {
            row: {name: cell(fields[place]) for name, place in places.items() if fields[place]}
            for row, fields in enumerate(written)
            if row in rows
        }


def _json_lines(path: Path, shown: Callable[[Sequence[str]], list[str]], rows: Collection[int]) -> _Rows:
    found: _Rows = {}
    with path.open(encoding="utf-8-sig") as file:
        for row, line in enumerate(line for line in file if line.strip()):
            if row in rows:
                values = {name: value for name, value in of_json(line).items() if isinstance(value, str | bool)}
                found[row] = {cell(name): cell(str(values[name])) for name in shown(list(values)) if values[name] != ""}
    return found


def _parquet(path: Path, shown: Callable[[Sequence[str]], list[str]], rows: Collection[int]) -> _Rows:
    wanted = np.array(sorted(rows), dtype=np.int64)
    found: _Rows = {}
    with parquet.ParquetFile(path) as file:
        names, start = shown(plain_names(file.schema_arrow)), 0
        for group in range(file.num_row_groups if names else 0):
            end = start + file.metadata.row_group(group).num_rows
            of_group = wanted[(wanted >= start) & (wanted < end)]
            if len(of_group):
                taken = file.read_row_group(group, columns=names).take(of_group - start)
                columns = {cell(name): texts(without_time(taken[name])) for name in names}
                for place, row in enumerate(of_group.tolist()):
                    found[row] = {name: cell(text) for name, column in columns.items() if (text := column[place])}
            start = end
    return found


def plain_names(schema: Schema) -> list[str]:
    """Return the columns of a Parquet table that hold texts, numbers and the like."""
    return [field.name for field in schema if not (types.is_nested(field.type) or _binary(field.type))]


def without_time(column: ChunkedArray) -> ChunkedArray:
    """Return a column of times as text: Python has no nanoseconds."""
    return column.cast(string()) if types.is_temporal(column.type) else column


def _binary(kind: DataType) -> bool:
    return any(is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary))
