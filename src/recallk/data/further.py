"""What a person's table says of items beyond what is trained on: looked up for the few that are shown."""

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from pyarrow import DataType, parquet, types

from recallk.core.errors import InputError
from recallk.core.files import read_file, user_path
from recallk.data.columns import SUFFIXES, cell, delimiter_of, of_json, read_columns
from recallk.data.item import Item
from recallk.data.kind import ARRAYS, EMBEDDING
from recallk.data.layout import NAMES, Layout
from recallk.data.vector_files import table_beside
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
    try:
        path = table_beside(path) if path.suffix.lower() in ARRAYS else path
        rows = _rows_of(path, layout, items)
        found = _read(path, layout, {row for row in rows if row is not None})
    except InputError:  # a page must not be lost for it
        return [{} for _ in items]
    return [{} if row is None else found.get(row, {}) for row in rows]


def _rows_of(path: Path, layout: Layout, items: Sequence[Item]) -> list[int | None]:
    """Return in which row of the table each item stands, counted from 0."""
    if all(isinstance(item, Vector) for item in items):
        return [item.row if isinstance(item, Vector) else None for item in items]
    folder, wanted = layout.root_of(path), {str(item) for item in items}
    own = {"path": layout.columns["path"]} if "path" in layout.columns else {}
    named = enumerate(read_columns(path, ("path",), (), Layout(own))["path"])
    rows = {file: row for row, name in named if name and (file := str(folder / name)) in wanted}
    return [rows.get(str(item)) for item in items]


def _read(path: Path, layout: Layout, rows: Collection[int]) -> _Rows:
    used = {*NAMES, EMBEDDING, *(own.casefold() for own in layout.columns.values())}

    def shown(names: Sequence[str]) -> list[str]:
        return [name for name in names if name.casefold() not in used][:MOST]

    def of_file(path: Path) -> _Rows:
        kind = path.suffix.lower()
        return (_parquet if kind == ".parquet" else _json_lines if kind == ".jsonl" else _csv)(path, shown, rows)

    return read_file(path, of_file, "a readable table", "write it again")


def _csv(path: Path, shown: Callable[[Sequence[str]], list[str]], rows: Collection[int]) -> _Rows:
    delimiter = delimiter_of(path, ("path",), NAMES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter)
        header = next(lines, [])
        places = {name: header.index(name) for name in shown(header)}
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
                found[row] = {name: cell(str(values[name])) for name in shown(list(values)) if values[name] != ""}
    return found


def _parquet(path: Path, shown: Callable[[Sequence[str]], list[str]], rows: Collection[int]) -> _Rows:
    wanted = np.array(sorted(rows), dtype=np.int64)
    found: _Rows = {}
    with parquet.ParquetFile(path) as file:
        plain = [field.name for field in file.schema_arrow if not (types.is_nested(field.type) or _binary(field.type))]
        names, start = shown(plain), 0
        for group in range(file.num_row_groups if names else 0):
            end = start + file.metadata.row_group(group).num_rows
            of_group = wanted[(wanted >= start) & (wanted < end)]
            if len(of_group):
                taken = file.read_row_group(group, columns=names).take(of_group - start).to_pylist()
                for row, cells in zip(of_group.tolist(), taken, strict=True):
                    found[row] = {name: cell(str(cells[name])) for name in names if cells[name] not in (None, "")}
            start = end
    return found


def _binary(kind: DataType) -> bool:
    return any(is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary))
