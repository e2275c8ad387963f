"""Similarities and numbers of gallery items as callers give them, and the ranks that follow."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.arrays import INTEGERS, ArrayLike, as_tensor, type_name
from recallk.core.errors import InputError

Numbers = NDArray[np.int64]


def similarity_matrix(similarities: ArrayLike) -> Tensor:
    """Return similarities `(Q, G)` as floats, of the precision that they have, without a gradient.

    Raises InputError where they are not a finite matrix of at least one item for at least one query.
    """
    rows = as_tensor(similarities, "similarities", "numbers are needed").detach()
    if rows.is_complex():
        raise InputError(f"similarities are {type_name(rows)}: real numbers are needed")
    if rows.ndim != 2 or rows.numel() == 0:
        raise InputError(
            f"similarities have shape {tuple(rows.shape)}: (queries, gallery items) is needed, none of it 0"
        )
    if not rows.is_floating_point():
        rows = rows.double()
    broken = (~torch.isfinite(rows)).any(dim=1).nonzero()
    if len(broken):
        raise InputError(f"similarities of query {int(broken[0])} hold NaN or infinity")
    return rows


def gallery_numbers(numbers: ArrayLike, gallery: int, of: str) -> Numbers:
    """Return numbers of different items `(N,)` of a gallery of so many; `of` is what messages call them.

    Raises InputError for what is not a list of whole numbers, a number beyond the gallery, and one that comes twice.
    """
    needed = "whole numbers of gallery items are needed"
    values = as_tensor(numbers, of, needed)
    if values.numel() == 0:
        return np.empty(0, dtype=np.int64)
    if values.dtype not in INTEGERS or values.ndim != 1:
        raise InputError(f"{of} are {type_name(values)} of shape {tuple(values.shape)}: a list of {needed}")
    found: Numbers = values.detach().cpu().numpy().astype(np.int64)
    beyond = found[(found < 0) | (found >= gallery)]
    if len(beyond):
        raise InputError(f"{of} name the gallery item {beyond[0]}, but the gallery's are 0 .. {gallery - 1}")
    different, counts = np.unique(found, return_counts=True)
    if len(different) < len(found):
        raise InputError(f"{of} name the gallery item {different[counts > 1][0]} more than once")
    return found


def relevant_items(relevant: Iterable[ArrayLike], queries: int, gallery: int) -> list[Numbers]:
    """Return the numbers of the gallery items that answer each query. Raises InputError, naming the query."""
    lists = listed(relevant, "relevant", "a list of gallery items for each query", queries)
    return [gallery_numbers(numbers, gallery, f"relevant items of query {q}") for q, numbers in enumerate(lists)]


def listed(values: Any, name: str, needed: str, queries: int) -> list[Any]:
    """Return what is given for each query as a list. Raises InputError where it is none, or not of so many queries."""
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise InputError(f"{name}: {needed} is needed, got {type(values).__name__}")
    entries = list(values)
    if len(entries) != queries:
        raise InputError(f"{name} has {len(entries)} entries for {queries} queries: {needed} is needed")
    return entries


def ranks_in_order(similarities: Tensor) -> Numbers:
    """Return the rank `(G,)`, from 0, of each gallery item by similarity `(G,)`; equal ones by index."""
    order = similarities.argsort(descending=True, stable=True).cpu().numpy()
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
