"""Similarities and numbers of gallery items as callers give them, and the ranks that follow."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.arrays import ArrayLike, as_tensor, gallery_numbers, type_name
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
