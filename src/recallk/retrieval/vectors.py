"""Vectors that are searched: rows of files, of arrays, and those of the gallery that are named by their ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import shown
from recallk.data.findings import Finding
from recallk.data.kind import VECTOR_FILES
from recallk.data.vector_files import read_any_vectors
from recallk.data.vectors import Vector, VectorRows, VectorTable
from recallk.models.vector_embedder import array_of
from recallk.retrieval.searched import Searched


def searched_vectors(queries: Any, gallery: Any) -> Searched:
    """Return what `recallk.search` is given for a run on vectors. Raises InputError, one line, for anything else."""
    table, notes = _table(gallery, "gallery")
    asked = list[Vector]()
    for part in _parts(queries, gallery, table, notes):
        asked += part
    if not asked:
        raise InputError("no query: give at least one vector to look for")
    items = _all(table) if table.gallery is None else VectorRows(table, table.gallery)
    place = {row: number for number, row in enumerate(items.rows.tolist())}
    rows = [place.get(query.row, -1) if query.table is table else -1 for query in asked]
    if left_out := len(table.array) - len(items):
        told = f"{left_out:,} vectors outside its gallery left out"
        notes = [*notes, Finding("other counts", str(table.path), told)]
    return Searched(asked, items, rows, table.path, notes)


def _parts(queries: Any, gallery: Any, table: VectorTable, notes: list[Finding]) -> list[Sequence[Vector]]:
    """Return the queries, part by part: all rows of a file or an array, or a single row of the gallery."""
    if isinstance(queries, str | os.PathLike):
        raise InputError("queries: an array, or a list of files and ids, is needed; write [file] for a single one")
    if queries is gallery:
        return [_all(table)]
    if isinstance(queries, list | tuple) and all(isinstance(name, str | os.PathLike) for name in queries):
        return [_named(os.fspath(name), table, notes) for name in queries]
    return [_all(_table(queries, "queries")[0])]


def _named(name: str, table: VectorTable, notes: list[Finding]) -> Sequence[Vector]:
    """Return the row of the gallery with that id or number, or all rows of a file."""
    if table.ids is not None and name in table.ids:
        return [Vector(table, table.ids.index(name))]
    if table.ids is None and name.isdecimal() and 1 <= int(name) <= len(table.array):
        return [Vector(table, int(name) - 1)]
    path = user_path(name)
    if path.suffix.lower() not in VECTOR_FILES:
        known = "an id" if table.ids is not None else f"a row from 1 to {len(table.array):,}"
        raise InputError(f"{shown(name)}: neither {known} in {table.path} nor a .parquet, .npy or .safetensors file")
    if path.resolve() == table.path.resolve():
        return _all(table)
    read, more = _table(path, "queries")
    if (width := read.array.shape[1]) != (wanted := table.array.shape[1]):
        raise InputError(f"{path}: vectors of {width:,} numbers, and those of {table.path} have {wanted:,}")
    notes += more
    return _all(read)


def _table(given: Any, what: str) -> tuple[VectorTable, list[Finding]]:
    """Return a file, or an array, as a table of vectors."""
    if not isinstance(given, str | os.PathLike):
        array = array_of(given, what)
        if array.ndim != 2:
            raise InputError(f"{what}: an array of shape {tuple(array.shape)}; vectors are (items, dimensions)")
        return VectorTable(Path(what), array), []
    path = user_path(given)
    if path.suffix.lower() not in VECTOR_FILES:
        raise InputError(f"{path}: the run is on vectors: give a .parquet, .npy or .safetensors file of them")
    return read_any_vectors(path)


def _all(table: VectorTable) -> VectorRows:
    return VectorRows(table, np.arange(len(table.array)))
