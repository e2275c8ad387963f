"""Who is relevant to whom, for labels in any order and classes of any size, without a matrix of pairs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relevance:
    """The positives of each query, as runs of one list.

    The database sorted by class is `order (Z,)`; the class of query q begins there at `start (Q,)` and holds
    `count (Q,)` positives, the query itself not counted. `place (Q,)` is where the query itself stands in `order`;
    past the end of the list where the queries are apart from the database.
    """

    order: Tensor
    start: Tensor
    count: Tensor
    place: Tensor

    def positives(self, queries: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the database columns `(T, last - first)` of the queries' positives number first to last.

        The second tensor says which of them exist: queries with fewer positives are filled up with any column.
        """
        slot = torch.arange(first, last, device=self.order.device)
        start, place = self.start[queries, None], self.place[queries, None]
        entry = start + slot
        entry = entry + (entry >= place)  # step over the query itself
        exists = slot < self.count[queries, None]
        return self.order[entry.clamp(max=len(self.order) - 1)], exists


def relevance(query_labels: Tensor, database_labels: Tensor | None = None) -> Relevance:
    """Find the positives from labels `(Q,)` and `(Z,)`; without the second, the queries are the database."""
    apart = database_labels is not None
    labels = query_labels if database_labels is None else database_labels
    ordered, order = torch.sort(labels, stable=True)
    start = torch.searchsorted(ordered, query_labels)
    stop = torch.searchsorted(ordered, query_labels, right=True)
    if apart:
        return Relevance(order, start, stop - start, torch.full_like(start, len(labels)))
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return Relevance(order, start, stop - start - 1, place)
