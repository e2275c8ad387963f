"""For each query a list of rows of a gallery, without a matrix of pairs: queries share lists, and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RowLists:
    """Runs of one list of rows, one run for each of Q queries; a query's own row is stepped over.

    All tensors are int64, on one device.

    Attributes:
        starts: `(Q,)`, where a query's run begins. Of the queries that have rows, those with the same start have the
            same ones, but for themselves.
        counts: `(Q,)`, how many rows a query has, its own left out.
        rows: `(E,)`, the list, rising within a run.
        own_rows: `(Q,)`, the query's own row in the gallery; -1 where it is not there.
        own_places: `(Q,)`, where the own row stands in the query's run; E where it does not.
        index: where a row stands in the list: `(G,)`, of a list that has every row once; or `(E,)`, rising, the start
            of its run times the size of the gallery, and the row.
        gallery_size: G.

    """

    starts: Tensor
    counts: Tensor
    rows: Tensor
    own_rows: Tensor
    own_places: Tensor
    index: Tensor
    gallery_size: int
    of_classes: bool
    """Whether the runs are classes, of which each row is in one."""

    @classmethod
    def from_classes(cls, labels: Tensor, gallery_labels: Tensor, own_rows: Tensor) -> RowLists:
        """Return for queries with labels `(Q,)` the rows whose label `(G,)` is theirs."""
        in_order, rows = torch.sort(gallery_labels, stable=True)
        places = torch.empty_like(rows).scatter_(0, rows, torch.arange(len(rows), device=rows.device))
        starts = torch.searchsorted(in_order, labels)
        counts = torch.searchsorted(in_order, labels, right=True) - starts - (own_rows >= 0).long()
        own_places = torch.where(own_rows >= 0, places[own_rows], len(rows)) if len(rows) else own_rows
        return cls(starts, counts, rows, own_rows, own_places, places, len(rows), of_classes=True)

    @classmethod
    def from_runs(cls, offsets: Tensor, rows: Tensor, runs: Tensor, own_rows: Tensor, gallery_size: int) -> RowLists:
        """Return for queries whose runs `(Q,)` are named the rows `rows[offsets[run]:offsets[run + 1]]`, each once."""
        keys = torch.repeat_interleave(offsets[:-1], offsets.diff()) * gallery_size + rows
        keys = keys.sort().values if len(keys) else offsets.new_full((1,), -1)  # there is always one row to point to
        starts, counts, nowhere = offsets[runs], offsets.diff()[runs], torch.full_like(runs, len(keys))
        found = keys.clamp(min=0) % gallery_size
        lists = cls(starts, counts, found, own_rows, nowhere, keys, gallery_size, of_classes=False)
        places, inside = (each[:, 0] for each in lists._find(torch.arange(len(runs)).to(runs), own_rows[:, None]))
        own_places = torch.where(inside & (own_rows >= 0), places, nowhere)
        counts = counts - (own_places < len(keys)).long()
        return cls(starts, counts, found, own_rows, own_places, keys, gallery_size, of_classes=False)

    def nth(self, queries: Tensor, numbers: Tensor) -> Tensor:
        """Return the queries' rows number 0, 1, ..., in the shape that both broadcast to; any row beyond the last."""
        entry = self.starts[queries] + numbers
        entry = entry + (entry >= self.own_places[queries])  # step over the query itself
        return self.rows[entry.clamp(max=len(self.rows) - 1)]

    def numbered(self, queries: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the rows number first to last - 1 of the queries `(T,)`, `(T, last - first)`, and which exist."""
        numbers = torch.arange(first, last, device=queries.device)
        return self.nth(queries[:, None], numbers), numbers < self.counts[queries, None]

    def contain(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Say which of the rows `(T, P)`, or `(P,)` for each query, the queries `(T,)` have."""
        return self._find(queries, rows)[1] & (rows != self.own_rows[queries, None])

    def mask(self, query: int) -> Tensor:
        """Say which rows of the gallery `(G,)` a query has."""
        mask = torch.zeros(self.gallery_size, dtype=torch.bool, device=self.rows.device)
        numbers = torch.arange(int(self.counts[query]), device=self.rows.device)
        mask[self.nth(torch.full_like(numbers, query), numbers)] = True
        return mask

    def to(self, device: torch.device) -> RowLists:
        """Return the same on a device."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if hasattr(value, "to")}
        return replace(self, **moved)

    def _find(self, queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return where rows stand in the list, and whether that is in the run of the query."""
        starts = self.starts[queries, None]
        if self.of_classes:
            places = self.index[rows]
            here = places >= starts
        else:
            wanted = starts * self.gallery_size + rows
            places = torch.searchsorted(self.index, wanted)
            here = self.index[places.clamp(max=len(self.index) - 1)] == wanted
        own = (self.own_places[queries, None] < len(self.rows)).long()
        return places, here & (places < starts + self.counts[queries, None] + own)
