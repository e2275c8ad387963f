"""A person's own images: a CSV or Parquet table with the columns path, label and, if wanted, split."""

import csv
import math
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet, types

from recallk.core.errors import InputError
from recallk.core.files import read_file, why
from recallk.core.text import shown
from recallk.data.identity import Identities
from recallk.data.item import Record

SUFFIXES = frozenset({".csv", ".parquet"})

_COLUMNS = ("path", "label", "split")
_SHOWN = 60  # characters of a cell
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def table(path: Path) -> list[Record]:
    """Return a record for every row; relative paths start at the table's folder.

    Labels are taken as they are written ("007" is not "7"). Raises InputError, with the row where there is one, for a
    table that cannot be read, a missing column or one twice, a column of lists or the like, an empty cell, a file
    twice (in whatever spelling), a path of a folder, a pipe or an address, or a split other than train and test.

    What PyArrow raises becomes one line; a file made to crash it (it is written in C++) ends the process.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such table")
    if path.suffix.lower() == ".parquet":
        columns = read_file(path, _parquet, "a readable PARQUET table", "write it again, or give a .csv file")
    else:
        columns = read_file(
            path, _csv, "a readable CSV table", "save it again as UTF-8, with commas between the columns"
        )
    splits = columns.get("split", [None] * len(columns["path"]))
    folder, records, rows, identities = path.parent, list[Record](), dict[str, int](), Identities()
    # a person counts rows from 1, after the header
    for row, (image, label, split) in enumerate(zip(columns["path"], columns["label"], splits, strict=True), 1):
        if not image or label in (None, ""):
            raise InputError(f"{path}, row {row}: empty {'label' if image else 'path'}")
        if rows.setdefault(image, row) != row:
            raise InputError(f"{path}, row {row}: {_cell(image)} stands in row {rows[image]} already")
        if "split" in columns and split not in ("train", "test"):
            wanted = "write train or test, or leave the column out"
            raise InputError(f"{path}, row {row}: split is {_cell(repr(split))}; {wanted}")
        file = folder / image
        if (wrong := _identify(file, image, row, identities)) is not None:
            raise InputError(f"{path}, row {row}: {_cell(image)} {wrong}")
        records.append(Record(file, label, split))
    if not records:
        raise InputError(f"{path}: the table has no rows")
    for first, second, *_ in identities.repeated():
        name, other = (_cell(columns["path"][row - 1] or "") for row in (second, first))
        raise InputError(f"{path}, row {second}: {name} stands in row {first} already, as {other}: they are one file")
    return records


def _identify(file: Path, written: str, row: int, identities: Identities) -> str | None:
    """Note which file it is, or say what else it is; a missing one is told before the training, with the images."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is an address; download the images, and give their paths" if _ADDRESS.match(written) else None
    except (OSError, ValueError) as error:
        return f"cannot be read ({why(error)})"
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        return f"is {kind}; give the path of an image file"
    identities.add(row, status.st_dev, status.st_ino)
    return None


def _csv(path: Path) -> dict[str, list[str | None]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            places = _places(path, header)
            columns: dict[str, list[str | None]] = {name: [] for name in places}
            number = 0
            for fields in rows:
                if not fields:  # a blank line
                    continue
                number += 1
                if len(fields) != len(header):
                    raise ValueError(f"row {number} has {len(fields)} fields, the header {len(header)}")
                for name, place in places.items():
                    columns[name].append(fields[place])
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.object[error.start]:#04x} is no UTF-8") from None
    return columns


def _parquet(path: Path) -> dict[str, list[str | None]]:
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        places = _places(path, schema.names)
        for name in places:
            kind = schema.field(name).type
            if types.is_dictionary(kind):
                kind = kind.value_type
            if not _is_text(kind) and (name == "path" or types.is_nested(kind) or types.is_binary(kind)):
                raise InputError(f"{path}: column {name!r} holds {shown(kind)}; write it as text")
        read = file.read(columns=list(places))
    return {name: [_text(value) for value in read[name].to_pylist()] for name in places}


def _is_text(kind: pyarrow.DataType) -> bool:
    # a column without any value has the type null, and gets the message of an empty cell
    return any(
        is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )


def _text(value: Any) -> str | None:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return None if missing else str(value)


def _places(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return where the columns are that are used. Raises InputError for one that is missing or there twice."""
    for name in ("path", "label"):
        if name not in header:
            names = ", ".join(_cell(name) for name in header[:20])
            raise InputError(f"{path}: no column {name!r}; the columns are {names or 'none'}")
    for name in _COLUMNS:
        if header.count(name) > 1:
            raise InputError(f"{path}: {header.count(name)} columns {name!r}; rename or remove one")
    return {name: header.index(name) for name in _COLUMNS if name in header}


def _cell(text: str) -> str:
    """Return a cell as it may be shown: in one line, its beginning if it is long."""
    return shown(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
