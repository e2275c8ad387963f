"""For each query a list of rows of a gallery, without a matrix of pairs: queries share lists, and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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
        values: `(E,)` float64, a number for each entry of the list, such as its grade, or nothing.

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
    values: Tensor | None = None

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
    def from_runs(
        cls,
        offsets: Tensor,
        rows: Tensor,
        runs: Tensor,
        own_rows: Tensor,
        gallery_size: int,
        values: Tensor | None = None,
    ) -> RowLists:
        """Return for queries whose runs `(Q,)` are named the rows `rows[offsets[run]:offsets[run + 1]]`, each once."""
        keys = torch.repeat_interleave(offsets[:-1], offsets.diff()) * gallery_size + rows
        if len(keys):
            keys, order = keys.sort()
            values = None if values is None else values[order]
        else:  # there is always one row to point to
            keys = offsets.new_full((1,), -1)
            values = None if values is None else values.new_zeros(1)
        starts, counts, nowhere = offsets[runs], offsets.diff()[runs], torch.full_like(runs, len(keys))
        found = keys.clamp(min=0) % gallery_size
        lists = cls(starts, counts, found, own_rows, nowhere, keys, gallery_size, of_classes=False)
        places, inside = (each[:, 0] for each in lists._find(torch.arange(len(runs)).to(runs), own_rows[:, None]))
        own_places = torch.where(inside & (own_rows >= 0), places, nowhere)
        counts = counts - (own_places < len(keys)).long()
        return cls(starts, counts, found, own_rows, own_places, keys, gallery_size, of_classes=False, values=values)

    def nth(self, queries: Tensor, numbers: Tensor) -> Tensor:
        """Return the queries' rows number 0, 1, ..., in the shape that both broadcast to; any row beyond the last."""
        return self.rows[self._entries(queries, numbers)]

    def largest(self, queries: Tensor, depth: int) -> Tensor:
        """Return the largest values of the queries `(T,)`, falling, `(T, depth)`; 0 beyond a query's last."""
        assert self.values is not None
        width = int(self.counts[queries].max()) if len(queries) else 0
        numbers = torch.arange(width, device=queries.device)
        values = self.values[self._entries(queries[:, None], numbers)]
        values = values.masked_fill(numbers >= self.counts[queries, None], -torch.inf).topk(min(depth, width)).values
        return F.pad(values.masked_fill(values == -torch.inf, 0), (0, depth - values.shape[1]))

    def values_at(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Return the values of rows `(T, P)`, or `(P,)` for each query, of the queries `(T,)`; 0 for other rows."""
        assert self.values is not None
        places = self._find(queries, rows)[0].clamp(max=len(self.values) - 1)
        return torch.where(self.contain(queries, rows), self.values[places], 0.0)

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

    def _entries(self, queries: Tensor, numbers: Tensor) -> Tensor:
        entry = self.starts[queries] + numbers
        entry = entry + (entry >= self.own_places[queries])  # step over the query itself
        return entry.clamp(max=len(self.rows) - 1)

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
