"""Exact search of a gallery too large for memory: its vectors lie in arrays on disk, one after another."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.arrays import ArrayLike, gallery_numbers
from recallk.core.errors import InputError
from recallk.core.progress import Advance, counting, silent
from recallk.retrieval.exact import Neighbours, best_scores, blocks, check_k, inner_products
from recallk.retrieval.parts import Numbers, Part, Parts

Floats = NDArray[np.float32]
_SCORES_AT_ONCE = 2**22


@torch.no_grad()
def nearest_stored(queries: Tensor, parts: Sequence[Part], k: int, *, advance: Advance = silent) -> Neighbours:
    """Find each query's k gallery items of the largest inner product, exactly, as `nearest` does.

    The gallery is read once, in blocks; beside the result, about 200 MB are held, however long it is.
    Items of exactly equal (float32) similarity come in the order of their numbers, across blocks and parts.

    Args:
        queries: `(Q, D)` float32, L2-normalised if the similarity is to be the cosine; finite. The products are taken
            on their device.
        parts: the gallery: arrays or memory maps `(n_i, D)` of float16 or float32, numbered through; likewise.
        k: at least 1; clipped to the size of the gallery.
        advance: is told how many gallery items were read.

    Returns:
        The neighbours, `(Q, min(k, G))`, on the CPU.

    Raises:
        InputError: for shapes, types or values that do not fit; for NaN or infinity the message names the row.

    >>> parts = [np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float16), np.array([[0.0, 1.0]], dtype=np.float32)]
    >>> nearest_stored(torch.tensor([[0.0, 1.0]]), parts, k=2).indexes
    tensor([[2, 1]])

    """
    check_k(k)
    gallery = _gallery(queries, parts)
    told = counting(advance, "searching the gallery", len(gallery))
    depth = min(k, len(gallery))
    similarities = queries.new_full((len(queries), depth), -torch.inf)  # worse than all there is
    indexes = torch.zeros_like(similarities, dtype=torch.int64)
    for numbers, block in gallery.blocks():
        there = block.to(queries.device)
        for rows in _chunks(len(queries), gallery.height):
            found = best_scores(_scores(queries[rows], there, gallery, numbers), min(depth, len(numbers)))
            candidates = torch.cat([similarities[rows], found.similarities], dim=1)
            # stable: of equal ones those of earlier blocks, which have lower numbers, stay in front
            falling = candidates.sort(dim=1, descending=True, stable=True)
            similarities[rows], best = falling.values[:, :depth], falling.indices[:, :depth]
            indexes[rows] = torch.cat([indexes[rows], found.indexes + int(numbers[0])], dim=1).gather(1, best)
        told(len(numbers))
    return Neighbours(similarities.cpu(), indexes.cpu())


@torch.no_grad()
def ranks_stored(
    queries: Tensor, parts: Sequence[Part], items: Sequence[ArrayLike], *, advance: Advance = silent
) -> list[Numbers]:
    """Return the ranks, from 0, that given gallery items have for each query, exact however far down they are.

    The rank of an item is the number of gallery items of a larger inner product, or an equal one and a lower number.
    The gallery is read once, and never sorted as a whole. Memory is that of `nearest_stored`, and some 50 bytes for
    each of the given items.

    Args:
        queries: as for `nearest_stored`.
        parts: likewise.
        items: for each query the numbers of different gallery items; may be none.
        advance: is told how many gallery items were read.

    Returns:
        For each query the ranks of its items, in their order.

    Raises:
        InputError: for shapes, types or values that do not fit; for NaN or infinity the message names the row.

    >>> parts = [np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float16), np.array([[0.0, 1.0]], dtype=np.float32)]
    >>> [ranks.tolist() for ranks in ranks_stored(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), parts, [[0, 2], []])]
    [[2, 0], []]

    """
    gallery = _gallery(queries, parts)
    if len(items) != len(queries):
        raise InputError(f"items are given for {len(items)} queries, but there are {len(queries)}")
    wanted = [gallery_numbers(some, len(gallery), f"items of query {query}") for query, some in enumerate(items)]
    told = counting(advance, "searching the gallery", len(gallery))
    counts = [_RanksByCounting(queries[rows], wanted[rows]) for rows in _chunks(len(queries), gallery.height)]
    for numbers, block in gallery.rows(np.unique(np.concatenate([np.empty(0, np.int64), *wanted]))):
        there = block.to(queries.device)
        for count in counts:
            count.remember(numbers, _scores(count.queries, there, gallery, numbers).cpu().numpy())
    for numbers, block in gallery.blocks():
        there = block.to(queries.device)
        for count in counts:
            count.add(int(numbers[0]), _scores(count.queries, there, gallery, numbers).cpu().numpy())
        told(len(numbers))
    return [ranks for count in counts for ranks in count.ranks]


class _RanksByCounting:
    """Counts, block by block, how many gallery items come before those that are wanted."""

    def __init__(self, queries: Tensor, wanted: Sequence[Numbers]) -> None:
        """Take the queries `(Q, D)`, and for each of them the numbers of the items that are wanted."""
        self.queries = queries
        self.ranks = [np.zeros(len(items), dtype=np.int64) for items in wanted]
        self._wanted = wanted
        lengths = [len(items) for items in wanted]
        items = np.concatenate(wanted)
        self._order = np.argsort(items, kind="stable")  # those of a block stand side by side
        self._items = items[self._order]
        self._rows = np.repeat(np.arange(len(wanted)), lengths)[self._order]
        self._scores = np.empty(len(items), dtype=np.float32)
        self._by_query = np.split(self._scores, np.cumsum(lengths)[:-1])  # the same memory

    def remember(self, numbers: Numbers, scores: Floats) -> None:
        """Take over the scores of wanted items from those `(Q, n)` of items of rising numbers `(n,)`."""
        here = self._between(numbers[0], numbers[-1])
        columns = np.searchsorted(numbers, self._items[here])
        self._scores[self._order[here]] = scores[self._rows[here], columns]

    def add(self, first: int, scores: Floats) -> None:
        """Count the items `first` and following, of scores `(Q, n)`; those of wanted items are overwritten."""
        here = self._between(first, first + scores.shape[1] - 1)
        # the very number that is compared with, though a product be another each time: no item comes before itself
        scores[self._rows[here], self._items[here] - first] = self._scores[self._order[here]]
        for row, ranks, items, own in zip(scores, self.ranks, self._wanted, self._by_query, strict=True):
            if len(items):
                near = np.flatnonzero(row >= own.min())  # mostly few: the others need not be sorted
                rising = np.sort(_keys(row[near], near + first))
                ranks += len(near) - np.searchsorted(rising, _keys(own, items), side="right")

    def _between(self, first: int, last: int) -> slice:
        return slice(*np.searchsorted(self._items, [first, last + 1]).tolist())


def _keys(scores: Floats, numbers: Numbers) -> Numbers:
    """Return integers that rise with scores, and among equal scores fall with the items' numbers.

    A float's bits, taken for an integer, rise with it, where it is negative once they are turned over.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0, which equals it
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (rising.astype(np.int64) << 32) - numbers


def _gallery(queries: Tensor, parts: Sequence[Part]) -> Parts:
    gallery = Parts(parts)
    if queries.ndim != 2 or queries.dtype != torch.float32:
        raise InputError(f"queries must be 2-D float32, got {queries.dtype} of shape {tuple(queries.shape)}")
    if queries.shape[1] != gallery.dimensions:
        raise InputError(
            f"queries have {queries.shape[1]} dimensions but the gallery has {gallery.dimensions}: "
            "embed both with one model"
        )
    broken = (~queries.isfinite()).any(dim=1).nonzero()
    if len(broken):
        raise InputError(f"query {int(broken[0])} holds NaN or infinity: search needs finite embeddings")
    return gallery


def _chunks(queries: int, height: int) -> list[slice]:
    """Cut the queries so that not too many scores are held at once for a block of so many rows."""
    return list(blocks(queries, max(1, _SCORES_AT_ONCE // height)))


def _scores(queries: Tensor, block: Tensor, gallery: Parts, numbers: Numbers) -> Tensor:
    """Return the scores `(Q, n)` of a block's first n rows. Raises InputError where they are not finite."""
    scores = inner_products(queries, block)[:, : len(numbers)]
    if not bool(scores.sum().isfinite()):  # cheaper than to look at each
        broken = (~scores.isfinite()).any(dim=0).nonzero()
        row = int(broken[0]) if len(broken) else int(scores.abs().amax(dim=0).argmax())
        raise InputError(
            f"{gallery.name_of(int(numbers[row]))} of the gallery holds NaN, infinity or far too large values: "
            "search needs finite embeddings of unit length"
        )
    return scores
