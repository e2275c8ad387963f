"""What a caller states of queries and a gallery, checked: labels, levels of labels, where queries stand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recallk.core.arrays import INTEGERS, ArrayLike, as_tensor, type_name
from recallk.core.errors import InputError
from recallk.core.text import brief

_INTEGERS = "integers are needed"


def one_for_each(labels: Tensor, name: str) -> Tensor:
    """Return labels `(N,)`. Raises InputError for another shape."""
    if labels.ndim != 1:
        raise InputError(f"{name} have shape {tuple(labels.shape)}: (items,) is needed")
    return labels


def checked_rows(query_rows: ArrayLike, labels: Tensor, gallery_labels: Tensor) -> Tensor:
    """Return the rows as int64 on the labels' device. Raises InputError where they do not fit."""
    rows = as_tensor(query_rows, "query_rows", _INTEGERS)
    rows = _within(rows, len(labels), len(gallery_labels)).detach().to(labels.device)
    there = (rows >= 0).nonzero()[:, 0]
    differ = there[gallery_labels[rows[there]] != labels[there]]
    if len(differ):
        query = int(differ[0])
        row = int(rows[query])
        raise InputError(
            f"query_rows: query {query} has the label {int(labels[query])}, row {row} of the gallery "
            f"{int(gallery_labels[row])}: a query stands where its own label is"
        )
    return rows


def _within(rows: Tensor, queries: int, gallery_size: int) -> Tensor:
    """Return rows of the gallery, one for each query, as int64. Raises InputError where they do not fit."""
    if rows.dtype not in INTEGERS:
        raise InputError(f"query_rows are {type_name(rows)}: {_INTEGERS}")
    if rows.shape != (queries,):
        raise InputError(
            f"query_rows have shape {tuple(rows.shape)}, there are {queries} queries: "
            "give one row of the gallery for each, -1 for a query that is not there"
        )
    rows = rows.long()
    outside = rows[(rows < -1) | (rows >= gallery_size)]
    if len(outside):
        raise InputError(
            f"query_rows must lie in -1 .. {gallery_size - 1}, the gallery's rows (-1: not there), "
            f"got {int(outside[0])}"
        )
    return rows


def no_rows(query_rows: ArrayLike | None) -> None:
    """Raise InputError where rows of a gallery are given, and no gallery."""
    if query_rows is not None:
        raise InputError("query_rows say where the queries stand in a gallery apart: give the gallery too")


def rows_of(query_rows: Any, queries: int, gallery_size: int) -> Tensor:
    """Return where queries stand in the gallery, -1 for nowhere. Raises InputError where that does not fit."""
    if query_rows is None:
        return torch.full((queries,), -1)
    rows = torch.tensor(query_rows) if isinstance(query_rows, range) else as_tensor(query_rows, "query_rows", _INTEGERS)
    return _within(rows, queries, gallery_size).detach().cpu()


def levels(labels: ArrayLike, name: str, level: int) -> Tensor:
    """Return the labels `(N, level + 1)` down to a level of a hierarchy."""
    found = as_tensor(labels, name, _INTEGERS)
    if found.dtype not in INTEGERS or found.ndim != 2:
        raise InputError(f"{name} have shape {tuple(found.shape)}: integers, (items, levels), are needed")
    if not 0 <= level < found.shape[1]:
        raise InputError(f"level={brief(level)}: from 0 to {found.shape[1] - 1}, as {name} have so many levels")
    return found[:, : level + 1].long()
