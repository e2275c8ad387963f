"""Texts that are searched: those of a table or a list, by texts that are typed, or by those of another table."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import brief, shown
from recallk.data.columns import SUFFIXES
from recallk.data.findings import Finding
from recallk.data.source import read_texts
from recallk.data.texts import Text
from recallk.retrieval.searched import Searched


def searched_texts(queries: Any, gallery: Any) -> Searched:
    """Return what `recallk.search` is given for a run on texts. Raises InputError, one line, for anything else.

    A text that is typed finds itself, where the gallery has it; of the gallery's own table none does.
    """
    notes, place = list[Finding](), Path("gallery")
    if isinstance(gallery, str | os.PathLike):
        place = user_path(gallery)
        records = read_texts(os.fspath(gallery), labels_needed=False)
        items = [record.item for record in records if record.role != "query"]
        if left_out := len(records) - len(items):
            told = f"{left_out:,} texts outside its gallery left out"
            notes.append(Finding("other counts", str(place), told))
    else:
        items = _listed(gallery, "gallery")
    asked, rows = list[Any](), list[int]()
    at = {item.row: number for number, item in enumerate(items) if isinstance(item, Text)}
    for query in _listed(queries, "queries"):
        path = _table(query)
        found: Sequence[Any] = [query] if path is None else [r.item for r in read_texts(query, labels_needed=False)]
        own = path is not None and path.resolve() == place.resolve()
        asked += found
        rows += [at.get(text.row, -1) if own else -1 for text in found]
    if not asked:
        raise InputError("no query: give at least one text to look for")
    return Searched(asked, items, rows, place, notes)


def _listed(given: Any, what: str) -> list[Any]:
    if isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        raise InputError(f"{what}: a list of texts is needed; write [text] for a single one")
    listed = list(given)
    if wrong := [each for each in listed if not isinstance(each, str)]:
        raise InputError(f"{what}: {brief(wrong[0])} is no text, and the run is on texts")
    return [text if isinstance(text, Text) else Text(text, row) for row, text in enumerate(listed)]


def _table(query: str) -> Path | None:
    """Return the table that a query names; None for a text. Raises InputError for another file."""
    try:
        path = user_path(query)
        there = path.is_file()
    except (InputError, OSError, ValueError):
        return None
    if there and path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{shown(query)}: a file, and the run is on texts: give a text, or a table of them")
    return path if there else None
