"""A person's own images: a CSV or Parquet table with the columns path, label and, if wanted, split."""

from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import csv, parquet

from recallk.core.errors import InputError
from recallk.data.record import Record

SUFFIXES = frozenset({".csv", ".parquet"})


def table(path: Path) -> list[Record]:
    """Return a record for every row; relative paths start at the table's folder.

    Labels are kept as they are written ("007" is not "7"). Raises InputError, with the row where there is one, for a
    table that cannot be read, a missing column, an empty cell, a path twice, or a split other than train and test.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    columns = _columns(path)
    for name in ("path", "label"):
        if name not in columns:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(columns)}")
    splits = columns.get("split", [None] * len(columns["path"]))
    records, seen = [], dict[str, int]()
    # a person counts rows from 1, after the header
    for row, (image, label, split) in enumerate(zip(columns["path"], columns["label"], splits, strict=True), 1):
        if not image or label in (None, ""):
            raise InputError(f"{path}, row {row}: empty {'label' if image else 'path'}")
        if image in seen:
            raise InputError(f"{path}, row {row}: {image} stands in row {seen[image]} already")
        seen[image] = row
        if "split" in columns and split not in ("train", "test"):
            raise InputError(f"{path}, row {row}: split is {split!r}; write train or test, or leave the column out")
        records.append(Record(path.parent / image, str(label), split))
    if not records:
        raise InputError(f"{path}: the table has no rows")
    return records


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        if path.suffix.lower() == ".parquet":
            read = parquet.read_table(path)
        else:
            with path.open("rb") as file:
                names = file.readline().decode("utf-8-sig").strip().replace('"', "").split(",")
            as_text = csv.ConvertOptions(column_types={name: pyarrow.string() for name in names})
            read = csv.read_csv(path, convert_options=as_text)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable {path.suffix[1:].upper()} table ({error})") from None
    return {name: [None if v is None else str(v) for v in read[name].to_pylist()] for name in read.column_names}
