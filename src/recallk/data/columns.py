"""The columns of a table, as text: CSV, TSV, Parquet or JSON Lines."""

import csv
import json
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
from recallk.data.label_sets import SEPARATOR
from recallk.data.layout import NAMES, USUAL, Layout

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
LABEL = "label"
"""The column that may hold lists: several labels of an item."""
_SHOWN = 60  # characters of a cell

Columns = Mapping[str, Sequence[str | None]]
"""By the name of a column, a cell for each row."""


def read_columns(path: Path, needed: Sequence[str], optional: Sequence[str], layout: Layout = USUAL) -> Columns:
    """Return the columns that are needed, and those of the optional ones that are there; other columns are passed over.

    By our names, whatever the `layout` says that the table calls them: one that it names must be there.

    A name may be in another letter case in the table. The columns of text stand between commas, semicolons or tabs,
    whichever gives those that are needed. Cells are taken as they are written ("007" is not "7"); None is a cell
    without a value. Raises InputError, one line, for a table that cannot be read, a column that is missing or there
    twice, and one of lists or the like.

    What PyArrow raises becomes one line; a file made to crash it (it is written in C++) ends the process.
    """
    if unread := [name for name in layout.columns if name not in (*needed, *optional)]:
        read = ", ".join(dict.fromkeys((*needed, *optional)))
        raise InputError(f"{path}: columns says what {unread[0]} is called, which is not read here: {read} are")
    taken = {own.casefold() for own in layout.columns.values()}
    named = list(dict.fromkeys([*needed, *(name for name in optional if name in layout.columns)]))
    others = [name for name in optional if name not in named and name not in taken]
    own = [layout.columns.get(name, name).casefold() for name in named]
    if twice := next((name for number, name in enumerate(own) if name in own[:number]), None):
        raise InputError(f"{path}: column {cell(twice)} would be two; say of both what they are called (--columns)")
    ours = dict(zip([*own, *others], [*named, *others], strict=True))
    return {ours[name]: cells for name, cells in _read(path, own, others).items()}


def _read(path: Path, needed: Sequence[str], optional: Sequence[str]) -> Columns:
    def of_parquet(path: Path) -> dict[str, list[str | None]]:
        return _parquet(path, needed, optional)

    def of_csv(path: Path) -> dict[str, list[str | None]]:
        return _csv(path, needed, optional)

    def of_json_lines(path: Path) -> dict[str, list[str | None]]:
        return _json_lines(path, needed, optional)

    if path.suffix.lower() == ".parquet":
        return read_file(path, of_parquet, "a readable PARQUET table", "write it again, or give a .csv file")
    if path.suffix.lower() == ".jsonl":
        return read_file(path, of_json_lines, "a readable table of JSON Lines", "write an object of JSON in each line")
    return read_file(
        path,
        of_csv,
        "a readable CSV table",
        "save it again as UTF-8, with commas, semicolons or tabs between the columns",
    )


def cell(text: str) -> str:
    """Return a cell as it may be shown: in one line, its beginning if it is long."""
    return shown(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _csv(path: Path, needed: Sequence[str], optional: Sequence[str]) -> dict[str, list[str | None]]:
    delimiter = delimiter_of(path, needed, optional)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.reader(file, strict=True, delimiter=delimiter)
            header = [name.strip() for name in next(rows, [])]
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


def delimiter_of(path: Path, needed: Sequence[str], optional: Sequence[str]) -> str:
    """Return what stands between the columns: of what is usual the first that gives most of those looked for."""
    usual = ["\t", ",", ";"] if path.suffix.lower() == ".tsv" else [",", ";", "\t"]
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        header = file.readline(csv.field_size_limit())

    def found(delimiter: str) -> tuple[int, int]:
        names = [name.strip().casefold() for name in next(csv.reader([header], delimiter=delimiter), [])]
        return sum(name in names for name in needed), sum(name in names for name in optional)

    return max(usual, key=found)


def _json_lines(path: Path, needed: Sequence[str], optional: Sequence[str]) -> dict[str, list[str | None]]:
    wanted = {*needed, *optional}
    rows = list[tuple[int, dict[str, Any]]]()
    header = dict[str, None]()
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = of_json(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
            header |= dict.fromkeys(row)
            rows.append((number, {name: value for name, value in row.items() if name.casefold() in wanted}))
    names = list(header)
    once: dict[str, str] = {}  # a label of a million rows is one string
    columns = dict[str, list[str | None]]()
    for name, place in _places(path, names, needed, optional).items():
        columns[name] = cells = []
        for number, row in rows:
            value = row.get(names[place])
            if isinstance(value, list) and name == LABEL:
                value = joined_labels(value, f"{path}, line {number}")
            if isinstance(value, list | dict):
                raise InputError(f"{path}, line {number}: column {name!r} holds more than one value; write it as text")
            cells.append(None if value is None else once.setdefault(str(value), str(value)))
    return columns


def joined_labels(labels: Sequence[Any], where: str) -> str:
    """Return a list of labels as one text. Raises InputError for one that is no text or number, or has a separator."""
    for label in labels:
        if not isinstance(label, str | int | float) or SEPARATOR in str(label):
            told = f"a label is {shown(str(label))}: labels in a list are texts without {SEPARATOR}"
            raise InputError(f"{where}: {told}")
    return SEPARATOR.join(map(str, labels))


def of_json(line: str) -> dict[str, Any]:
    """Return the object of a line, its numbers as they are written. Raises ValueError for anything else."""
    row = json.loads(line, object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=_no_number)
    if not isinstance(row, dict):
        raise ValueError("no object")
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_number(_: str) -> None:
    """Take NaN and Infinity for a cell without a value."""


def _parquet(path: Path, needed: Sequence[str], optional: Sequence[str]) -> dict[str, list[str | None]]:
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        places = _places(path, schema.names, needed, optional)
        for name, place in places.items():
            kind = schema.field(place).type
            if types.is_dictionary(kind):
                kind = kind.value_type
            if name == LABEL and (types.is_list(kind) or types.is_large_list(kind)):
                continue
            if not _is_text(kind) and (name == "path" or types.is_nested(kind) or types.is_binary(kind)):
                raise InputError(f"{path}: column {name!r} holds {shown(kind)}; write it as text")

    # texts as numbers into those that differ: of a million labels, most are alike
    named = {name: schema.names[place] for name, place in places.items()}
    as_dictionary = [own for own in named.values() if _is_text(schema.field(own).type)]
    with parquet.ParquetFile(path, read_dictionary=as_dictionary) as file:
        read = file.read(columns=list(named.values()))
    return {name: _cells(read[own], path) for name, own in named.items()}


def _cells(column: pyarrow.ChunkedArray, path: Path) -> list[str | None]:
    """Return the cells as text, lists of labels as one."""
    if not types.is_list(column.type) and not types.is_large_list(column.type):
        return texts(column)
    once, cells = dict[str, str](), list[str | None]()
    for row, labels in enumerate(column.to_pylist(), 1):
        text = None if labels is None else joined_labels(labels, f"{path}, row {row}")
        cells.append(None if text is None else once.setdefault(text, text))
    return cells


def texts(column: pyarrow.ChunkedArray) -> list[str | None]:
    """Return the cells as text; those that are alike are one string."""
    once, cells = dict[str | None, str | None](), list[str | None]()
    for chunk in column.chunks:
        encoded = chunk if types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        names = [once.setdefault(text, text) for text in map(_text, encoded.dictionary.to_pylist())]
        numbers = encoded.indices.fill_null(len(names)).to_numpy()  # the last one: a cell without a value
        cells += np.array([*names, None], dtype=object)[numbers].tolist()
    return cells


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
    places = dict[str, int]()
    for name in (*needed, *optional):
        alike = [place for place, there in enumerate(header) if there.casefold() == name]
        exact = [place for place in alike if header[place] == name]
        if len(exact or alike) > 1:
            twice = header[(exact or alike)[0]], header[(exact or alike)[1]]
            others = " and ".join(repr(cell(other)) for other in twice)
            which = f"{len(exact)} columns {name!r}" if exact else f"columns {others}"
            raise InputError(f"{path}: {which}; rename or remove one")
        if exact or alike:
            places[name] = (exact or alike)[0]
        elif name in needed:
            names = ", ".join(cell(name) for name in header[:20])
            how = f"; say what it is called there: --columns {name}=NAME" if name in NAMES and names else ""
            raise InputError(f"{path}: no column {name!r}; the columns are {names or 'none'}{how}")
    return places
