"""The columns of a CSV or Parquet table, as text."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet, types

from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.core.text import shown

SUFFIXES = frozenset({".csv", ".parquet"})
_SHOWN = 60  # characters of a cell

Columns = Mapping[str, Sequence[str | None]]
"""By the name of a column, a cell for each row."""


def read_columns(path: Path, needed: Sequence[str], optional: Sequence[str]) -> Columns:
    """Return the columns that are needed, and those of the optional ones that are there; other columns are passed over.

    Cells are taken as they are written ("007" is not "7"); None is a cell without a value. Raises InputError, one line,
    for a table that cannot be read, a column that is missing or there twice, and one of lists or the like.

    What PyArrow raises becomes one line; a file made to crash it (it is written in C++) ends the process.
    """

    def of_parquet(path: Path) -> dict[str, list[str | None]]:
        return _parquet(path, needed, optional)

    def of_csv(path: Path) -> dict[str, list[str | None]]:
        return _csv(path, needed, optional)

    if path.suffix.lower() == ".parquet":
        return read_file(path, of_parquet, "a readable PARQUET table", "write it again, or give a .csv file")
    return read_file(path, of_csv, "a readable CSV table", "save it again as UTF-8, with commas between the columns")


def cell(text: str) -> str:
    """Return a cell as it may be shown: in one line, its beginning if it is long."""
    return shown(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _csv(path: Path, needed: Sequence[str], optional: Sequence[str]) -> dict[str, list[str | None]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            places = _places(path, header, needed, optional)
            columns: dict[str, list[str | None]] = {name: [] for name in places}
            once: dict[str, str] = {}  # a label of a million rows is one string
            number = 0
            for fields in rows:
                if not fields:  # a blank line
                    continue
                number += 1
                if len(fields) != len(header):
                    raise ValueError(f"row {number} has {len(fields)} fields, the header {len(header)}")
                for name, place in places.items():
                    columns[name].append(once.setdefault(fields[place], fields[place]))
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.object[error.start]:#04x} is no UTF-8") from None
    return columns


def _parquet(path: Path, needed: Sequence[str], optional: Sequence[str]) -> dict[str, list[str | None]]:
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        places = _places(path, schema.names, needed, optional)
        for name in places:
            kind = schema.field(name).type
            if types.is_dictionary(kind):
                kind = kind.value_type
            if not _is_text(kind) and (name == "path" or types.is_nested(kind) or types.is_binary(kind)):
                raise InputError(f"{path}: column {name!r} holds {shown(kind)}; write it as text")
    # texts as numbers into those that differ: of a million labels, most are alike
    with parquet.ParquetFile(path, read_dictionary=[n for n in places if _is_text(schema.field(n).type)]) as file:
        read = file.read(columns=list(places))
    return {name: _texts(read[name]) for name in places}


def _texts(column: pyarrow.ChunkedArray) -> list[str | None]:
    """Return the cells as text; those that are alike are one string."""
    once, texts = dict[str | None, str | None](), list[str | None]()
    for chunk in column.chunks:
        encoded = chunk if types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        names = [once.setdefault(text, text) for text in map(_text, encoded.dictionary.to_pylist())]
        numbers = encoded.indices.fill_null(len(names)).to_numpy()  # the last one: a cell without a value
        texts += np.array([*names, None], dtype=object)[numbers].tolist()
    return texts


def _is_text(kind: pyarrow.DataType) -> bool:
    # a column without any value has the type null, and gets the message of an empty cell
    return any(
        is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )


def _text(value: Any) -> str | None:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return None if missing else str(value)


def _places(path: Path, header: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
    """Return where the columns are that are used. Raises InputError for one that is missing or there twice."""
    for name in needed:
        if name not in header:
            names = ", ".join(cell(name) for name in header[:20])
            raise InputError(f"{path}: no column {name!r}; the columns are {names or 'none'}")
    for name in (*needed, *optional):
        if header.count(name) > 1:
            raise InputError(f"{path}: {header.count(name)} columns {name!r}; rename or remove one")
    return {name: header.index(name) for name in (*needed, *optional) if name in header}
