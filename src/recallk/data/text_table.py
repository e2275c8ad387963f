"""A person's own texts: a table with the columns text, label and, if wanted, split, role and id."""

import os
from collections.abc import Sequence
from pathlib import Path

from pyarrow import parquet, types

from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.core.text import shown
from recallk.data.columns import Columns, cell, read_columns
from recallk.data.given_split import COLUMNS, given_by_columns
from recallk.data.item import Record
from recallk.data.layout import USUAL, Layout
from recallk.data.texts import Text

READ = ("text", "label", *COLUMNS, "id")
"""The columns that are no further ones."""


def text_table(path: Path, layout: Layout = USUAL, *, labels_needed: bool = True) -> list[Record]:
    """Return a record for every row, whose item is a `Text`; a `layout` says what the columns are called.

    Without `labels_needed` the table may have none; then they are "".

    Raises InputError, with the row where there is one, as `read_columns`, for a column of a Parquet table that holds no
    texts, an empty text, label or id, an id twice, and as `given_by_columns`.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such table")
    if layout.root is not None:
        raise InputError(f"--root {layout.root}: texts have no paths that could start there; leave it out")
    needed = ("text", "label") if labels_needed or "label" in layout.columns else ("text",)
    columns = read_columns(path, needed, READ, layout)
    _require_text(path, layout.columns.get("text", "text"))
    texts = columns["text"]
    labels = columns.get("label", [""] * len(texts))
    try:
        found, numbers = given_by_columns(columns, len(texts))
    except InputError as error:
        raise InputError(f"{path}, {error}") from None
    ids: Sequence[str | None] = _unique(path, columns) if "id" in columns else [None] * len(texts)
    records = list[Record]()
    for row, (text, label, own, number) in enumerate(zip(texts, labels, ids, numbers, strict=True)):
        if text is None or not text.strip() or (not label and labels_needed):
            empty = "label" if text and text.strip() else "text"
            raise InputError(f"{path}, row {row + 1}: empty {empty}")  # a person counts rows from 1, after the header
        records.append(Record(Text(text, row, own), label or "", found[number].split, found[number].role))
    if not records:
        raise InputError(f"{path}: the table has no rows")
    return records


def _unique(path: Path, columns: Columns) -> Sequence[str | None]:
    rows = dict[str, int]()
    for row, name in enumerate(columns["id"], 1):
        if not name:
            raise InputError(f"{path}, row {row}: empty id")
        if rows.setdefault(name, row) != row:
            raise InputError(f"{path}, row {row}: the id {cell(name)} stands in row {rows[name]} already")
    return columns["id"]


def _require_text(path: Path, name: str) -> None:
    """Raise InputError where the column of a Parquet table holds numbers or the like."""
    if path.suffix.lower() != ".parquet":
        return
    schema = read_file(path, parquet.read_schema, "a readable PARQUET table", "write it again")
    kinds = {field.name: field.type for field in schema}
    kind = kinds.get(name) or next(kind for own, kind in kinds.items() if own.casefold() == name.casefold())
    if types.is_dictionary(kind):
        kind = kind.value_type
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    if not any(is_kind(kind) for is_kind in texts):
        raise InputError(f"{path}: column {name!r} holds {shown(kind)}; write it as text")
