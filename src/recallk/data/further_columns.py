"""What a person's table says of items beyond what is trained on, as whole columns: for what is kept of every item."""

import csv
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from recallk.core.errors import InputError
from recallk.core.files import read_file, user_path
from recallk.core.text import shown
from recallk.data import vector_files
from recallk.data.columns import SUFFIXES, delimiter_of, of_json
from recallk.data.further import plain_names, used_columns, without_time
from recallk.data.kind import ARRAYS, ItemKind
from recallk.data.layout import Layout


def further_columns(data: str, layout: Layout, kind: ItemKind) -> pyarrow.Table:
    """Return the further columns of a table of items of a kind: a row for each of its rows.

    Of a Parquet table texts, numbers and truth values are as they are there, and times are text; of other tables all is
    text. Empty cells are null. What is no table has no further columns. Raises InputError, one line, for a table that
    cannot be read, and where a name stands twice.
    """
    path = user_path(data)
    if path.suffix.lower() in ARRAYS:
        try:
            path = vector_files.table_beside(path)
        except InputError:
            return pyarrow.table({})  # vectors alone
    if path.suffix.lower() not in SUFFIXES:
        return pyarrow.table({})
    used = used_columns(layout, kind)

    def parse(path: Path) -> pyarrow.Table:
        of = {".parquet": _of_parquet, ".jsonl": _of_json_lines}.get(path.suffix.lower(), _of_csv)
        found = of(path, used)
        names = [name.casefold() for name in found.column_names]
        if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
            raise InputError(f"{path}: two columns {shown(twice)!r}, but for capitals; rename or remove one")
        return found

    return read_file(path, parse, "a readable table", "write it again")


def _of_parquet(path: Path, used: set[str]) -> pyarrow.Table:
    with parquet.ParquetFile(path) as file:
        names = [name for name in plain_names(file.schema_arrow) if name.casefold() not in used]
        read = file.read(columns=names)
        return pyarrow.table({name: without_time(read[name]) for name in names})


def _of_csv(path: Path, used: set[str]) -> pyarrow.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True, delimiter=delimiter_of(path, sorted(used), ()))
        header = [name.strip() for name in next(lines, [])]
        rows = [fields for fields in lines if fields]  # blank lines are no rows
    places = [(place, name) for place, name in enumerate(header) if name.casefold() not in used]
    return _texts([name for _, name in places], [[fields[place] or None for fields in rows] for place, _ in places])


def _of_json_lines(path: Path, used: set[str]) -> pyarrow.Table:
    with path.open(encoding="utf-8-sig") as file:
        rows = [of_json(line) for line in file if line.strip()]
    plain = [{name: value for name, value in row.items() if isinstance(value, str | bool)} for row in rows]
    names = [name for name in dict.fromkeys(name for row in plain for name in row) if name.casefold() not in used]
    return _texts(names, [[_text(row.get(name)) for row in plain] for name in names])


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _texts(names: list[str], columns: list[list[str | None]]) -> pyarrow.Table:
    return pyarrow.table([pyarrow.array(cells, pyarrow.string()) for cells in columns], names=names)
