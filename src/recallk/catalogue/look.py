"""A look at what a catalogue holds: items that are nearly the same, and items unlike all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recallk.catalogue.found import Hit
from recallk.catalogue.index import Index
from recallk.core.errors import InputError
from recallk.retrieval.exact import nearest

ALIKE = 0.98
"""Similarity from which on two items count as nearly the same, unless somebody says another."""
NEIGHBOURS = 5
"""Items that another is compared with to see whether it is like any, and of its own class."""
_LOOKED_AT = 32  # nearest of each item that may be nearly the same


@dataclass(frozen=True)
class Outlier:
    """An item with its mean similarity to its `NEIGHBOURS` nearest ones; `others` of these have another label."""

    hit: Hit
    others: int


def duplicates(index: Index, least: float = ALIKE) -> list[list[Hit]]:
    """Return groups of items that are joined by similarities of at least `least`, the closest first.

    Each item with its similarity to the one of the group that is most like it; its 32 nearest are looked at. Exact;
    time grows with the square of the items. Raises InputError where `least` is no similarity.

    >>> [[hit.id for hit in group] for group in duplicates(Index.open("kept"), least=-1)]
    [['a.png', 'b.png']]

    """
    if not -1 <= least <= 1:
        raise InputError(f"least={least}: a cosine similarity lies from -1 to 1")
    rows, similarities, indexes = _neighbours(index, _LOOKED_AT)
    place, rank = np.nonzero(similarities >= least)
    if not len(place):
        return []
    edges = coo_array((np.ones(len(place)), (place, indexes[place, rank])), shape=(len(rows), len(rows)))
    _, group = connected_components(edges, directed=False)
    closest, of_group = similarities[:, 0], dict[int, list[int]]()
    for item in np.unique(np.concatenate([place, indexes[place, rank]])).tolist():
        of_group.setdefault(int(group[item]), []).append(item)
    ordered = sorted(of_group.values(), key=lambda items: -float(closest[items].max()))
    return [[index.hit_of_row(int(rows[item]), float(closest[item])) for item in items] for items in ordered]


def outliers(index: Index, most: int = 20) -> list[Outlier]:
    """Return the items that are least like their nearest ones, the loneliest first.

    >>> [outlier.hit.id for outlier in outliers(Index.open("kept"), most=1)]
    ['a.png']

    """
    rows, similarities, indexes = _neighbours(index, NEIGHBOURS)
    if not len(rows):
        return []
    mean = similarities.mean(1)
    labels = _labels(index, rows)
    found = []
    for item in np.argsort(mean, kind="stable")[:most].tolist():
        own = labels[item]
        others = 0 if own is None else sum(labels[near] not in (own, None) for near in indexes[item].tolist())
        found.append(Outlier(index.hit_of_row(int(rows[item]), float(mean[item])), others))
    return found


def _labels(index: Index, rows: NDArray[Any]) -> Sequence[str | None]:
    return [index.hit_of_row(row).known.get("label") for row in rows.tolist()]


def _neighbours(index: Index, k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the rows that are there, and of each the similarities to its nearest, and the places of these."""
    rows, vectors = index.vectors()
    if len(rows) < 2:
        return np.empty(0, np.int64), np.empty((0, k)), np.empty((0, k), np.int64)
    unit = torch.nn.functional.normalize(vectors)
    found = nearest(unit, unit, k, exclude=torch.arange(len(unit)))
    return rows, found.similarities.numpy(), found.indexes.numpy()
