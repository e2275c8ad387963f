"""Who is relevant to whom: the positives of every query, for the loss, the metrics and the pages alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.core.arrays import INTEGERS, ArrayLike, as_tensor, class_labels, type_name
from recallk.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Positives:
    """The items of a gallery of size G that are relevant to each of Q queries. Made by `from_labels`.

    There is no matrix of pairs: the positives of a query are a run of one list of items, so memory grows with Q + G.
    A query is never its own positive. All tensors are on one device.

    Attributes:
        counts: `(Q,)` int64, how many positives each query has.
        query_rows: `(Q,)` int64, the query's own row in the gallery; -1 where it is not there.
        starts: `(Q,)` int64, where the query's run begins in the list. Of the queries that have positives, those with
            the same start have the same ones, but for themselves.
        gallery_size: G.

    >>> positives = Positives.from_labels([3, 5, 3, 3])  # the queries are the gallery
    >>> positives.counts
    tensor([2, 0, 2, 2])
    >>> positives.are_relevant(torch.tensor([0, 2]), torch.tensor([[0, 1, 2], [0, 1, 3]]))
    tensor([[False, False,  True],
            [ True, False,  True]])

    """

    counts: Tensor
    query_rows: Tensor
    starts: Tensor
    _items: Tensor  # (G,) the list: rows of the gallery, sorted by label
    _places: Tensor  # (G,) where each row of the gallery stands in the list
    _own_places: Tensor  # (Q,) where the query's own row stands in the list; past its end where there is none

    @classmethod
    def from_labels(
        cls, query_labels: ArrayLike, gallery_labels: ArrayLike | None = None, query_rows: ArrayLike | None = None
    ) -> Positives:
        """Find the positives from labels: the items with the query's label, the query itself left out.

        Args:
            query_labels: `(Q,)` integers of any width, in any order; classes of any size.
            gallery_labels: `(G,)` integers; without them the queries are the gallery.
            query_rows: `(Q,)` integers in -1 .. G-1: where the queries themselves stand in a gallery given apart; -1
                for those that are not in it (without `query_rows`: all).

        Raises:
            InputError: for shapes, types or rows that do not fit, rows without a gallery, and a row whose label is
                not that of its query.

        >>> Positives.from_labels([3, 5], gallery_labels=[5, 3, 3], query_rows=[-1, 0]).counts
        tensor([2, 0])

        """
        labels = _one_for_each(class_labels(query_labels), "labels")
        if gallery_labels is None:
            if query_rows is not None:
                raise InputError(
                    "query_rows say where the queries stand in a gallery apart: give gallery and gallery_labels too"
                )
            of_gallery, rows = labels, torch.arange(len(labels), device=labels.device)
        else:
            of_gallery = _one_for_each(class_labels(gallery_labels, "gallery_labels"), "gallery_labels")
            of_gallery = of_gallery.to(labels.device)
            rows = torch.full_like(labels, -1) if query_rows is None else _checked_rows(query_rows, labels, of_gallery)
        in_order, items = torch.sort(of_gallery, stable=True)
        places = torch.empty_like(items).scatter_(0, items, torch.arange(len(items), device=items.device))
        starts = torch.searchsorted(in_order, labels)
        counts = torch.searchsorted(in_order, labels, right=True) - starts - (rows >= 0).long()
        own_places = torch.where(rows >= 0, places[rows], len(items)) if len(items) else rows
        return cls(counts, rows, starts, items, places, own_places)

    @property
    def gallery_size(self) -> int:
        """The number of items in the gallery."""
        return len(self._items)

    def nth(self, queries: Tensor, numbers: Tensor) -> Tensor:
        """Return the queries' positives number 0, 1, ... as rows of the gallery, in the shape that both broadcast to.

        Any row where a query has not so many.

        >>> positives = Positives.from_labels([3, 5, 3, 3])
        >>> positives.nth(torch.tensor([0, 2]), torch.tensor([1, 0]))
        tensor([3, 0])

        """
        entry = self.starts[queries] + numbers
        entry = entry + (entry >= self._own_places[queries])  # step over the query itself
        return self._items[entry.clamp(max=len(self._items) - 1)]

    def numbered(self, queries: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the positives number first to last - 1 of the queries `(T,)`: rows of the gallery `(T, last - first)`.

        The second tensor says which of them exist: queries with fewer positives are filled up with any row.

        >>> items, exist = Positives.from_labels([3, 5, 3, 3]).numbered(torch.tensor([2]), 0, 3)
        >>> items[exist]
        tensor([0, 3])

        """
        numbers = torch.arange(first, last, device=queries.device)
        return self.nth(queries[:, None], numbers), numbers < self.counts[queries, None]

    def are_relevant(self, queries: Tensor, items: Tensor) -> Tensor:
        """Say which of the items, rows of the gallery `(T, P)`, are positives of the queries `(T,)`.

        Items `(P,)` are asked about for each query.

        >>> positives = Positives.from_labels([3, 5], gallery_labels=[5, 3, 3])
        >>> positives.are_relevant(torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
        tensor([[False,  True,  True],
                [ True, False, False]])

        """
        places, starts = self._places[items], self.starts[queries, None]
        own_rows = self.query_rows[queries, None]
        stops = starts + self.counts[queries, None] + (own_rows >= 0)
        return (places >= starts) & (places < stops) & (items != own_rows)


def _one_for_each(labels: Tensor, name: str) -> Tensor:
    if labels.ndim != 1:
        raise InputError(f"{name} have shape {tuple(labels.shape)}: (items,) is needed")
    return labels


def _checked_rows(query_rows: ArrayLike, labels: Tensor, gallery_labels: Tensor) -> Tensor:
    """Return the rows as int64 on the labels' device. Raises InputError where they do not fit."""
    rows = as_tensor(query_rows, "query_rows", "integers are needed")
    if rows.dtype not in INTEGERS:
        raise InputError(f"query_rows are {type_name(rows)}: integers are needed")
    if rows.shape != labels.shape:
        raise InputError(
            f"query_rows have shape {tuple(rows.shape)}, there are {len(labels)} queries: "
            "give one row of the gallery for each, -1 for a query that is not there"
        )
    rows = rows.detach().to(labels.device, torch.int64)
    outside = rows[(rows < -1) | (rows >= len(gallery_labels))]
    if len(outside):
        raise InputError(
            f"query_rows must lie in -1 .. {len(gallery_labels) - 1}, the gallery's rows (-1: not there), "
            f"got {int(outside[0])}"
        )
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
