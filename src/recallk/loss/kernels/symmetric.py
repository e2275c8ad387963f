"""The sweep for a batch that ranks itself and has few positives a query: every pair is multiplied once.

A tile of similarities ranks the items of its columns for the queries of its rows, and the other way round. The gradient
of a query needs its ranks, and these all tiles with the query; so one walk over half of the tiles sums the ranks, and
another takes the same tiles again for the gradient. That is two products of B x B x D, where `tiled` takes three, for
comparing everything twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.loss.kernels.blocks import whole_classes
from recallk.loss.kernels.scratch import Scratch
from recallk.loss.kernels.streamed import Problem, recall

TILE_ROWS = 400
GROUP_ELEMENTS = 1 << 21  # numbers of the embeddings, and of their gradient, in use for a while: 8 MiB of a CPU's cache
KEPT_ELEMENTS = 6_000_000  # similarities of the first walk that the second finds again: 24 MB in float32
TILE_ELEMENTS = 1 << 20  # comparisons at a time: what stays in a CPU's cache
COMPARED = 40  # dimensions of a product that take as long as comparing an item with one positive, there and back


def pays(queries: Tensor, gallery: Tensor | None, problem: Problem) -> bool:
    """Say whether this sweep is able to solve the problem, and faster than `tiled` on a CPU.

    `tiled` takes three products for the queries that have a positive, and compares with the positives that can count;
    this one takes two for all items, and compares twice, with as many positives for all items of a part as any of them
    has.
    """
    if gallery is not None or problem.mixing is not None or queries.device.type != "cpu":
        return False
    items, dimensions = queries.shape
    count = problem.positives.counts.sort().values
    padded = sum(len(part) * int(part[-1]) for part in torch.split(count, TILE_ROWS))
    by_rows = 3 * dimensions * int((count > 0).sum()) + COMPARED * int(count.clamp_max(problem.reach).sum())
    return 2 * dimensions * items + 2 * COMPARED * padded <= by_rows


@dataclass(frozen=True)
class Part:
    """A run of whole classes: R items of the batch, sorted by class.

    `rows` of the sorted batch, `items (R,)` of the batch as it came. `positives (R, P)` are rows of the part, as far as
    they exist `(R, P)`; the rest is summed up by slot of a positive, `(P, R)`: its similarity over the temperature
    `high` (infinite for a missing one: nothing is above it), its `ranks`, their `slope`, and the `density` of the
    others around it.
    """

    rows: slice
    items: Tensor
    positives: Tensor
    exists: Tensor
    high: Tensor
    ranks: Tensor
    slope: Tensor
    density: Tensor


def sweep(
    queries: Tensor, gallery: Tensor | None, problem: Problem, weights: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the losses `(Q',)` and, where `weights (Q',)` are given, the gradients: see `streamed.Sweep`."""
    if gallery is not None or problem.mixing is not None:
        raise ValueError("only a batch that ranks itself, without virtual items, is symmetric")
    parts = list(_parts(queries, problem))
    order = torch.cat([part.items for part in parts])
    x = queries[order]
    scratch = Scratch(queries)
    similarities = _Similarities(x, problem, scratch, KEPT_ELEMENTS if weights is not None else 0)
    for part in parts:
        own = similarities(part, part)
        part.high.copy_(own.gather(1, part.positives).T).masked_fill_(~part.exists.T, float("inf"))
        _rank(own, part, 2, scratch)
    for one, other in _pairs(parts, x):
        scaled = similarities(one, other)
        _rank(scaled, one, 2, scratch)
        _rank(scaled, other, 1, scratch)
    losses = _losses(parts, problem, weights)
    if weights is None:
        return losses, None, None

    gradient = torch.zeros_like(x)
    for one, other in _pairs(parts, x):
        scaled = similarities(one, other)
        weight = scratch("weight", *scaled.shape).zero_()
        _weigh(scaled, one, 2, weight, scratch)
        _weigh(scaled, other, 1, weight, scratch)
        gradient[one.rows].addmm_(weight, x[other.rows])
        gradient[other.rows].addmm_(weight.T, x[one.rows])
    for part in parts:  # last, when the densities are complete
        own = similarities(part, part)
        weight = scratch("weight", *own.shape).zero_()
        _weigh(own, part, 2, weight, scratch)
        weight.scatter_add_(1, part.positives, (part.density * part.slope).neg_().T)
        gradient[part.rows].addmm_(weight + weight.T, x[part.rows])
    x[order] = gradient  # the items' memory has served
    return losses, x, None


def _pairs(parts: list[Part], x: Tensor) -> Iterator[tuple[Part, Part]]:
    """Yield every two parts, the earlier first, in an order in which few of them are in use for a while."""
    group = max(1, GROUP_ELEMENTS // (2 * TILE_ROWS * x.shape[1]))
    for first in range(0, len(parts), group):
        for number, one in enumerate(parts[: first + group]):
            for other in parts[max(first, number + 1) : first + group]:
                yield one, other


class _Similarities:
    """The tiles of the similarities over the temperature; as many as fit `room` elements are computed only once."""

    def __init__(self, x: Tensor, problem: Problem, scratch: Scratch, room: int) -> None:
        self._x, self._problem, self._scratch = x, problem, scratch
        self._kept: dict[tuple[int, int], Tensor] = {}
        self._room = x.new_empty(room)

    def __call__(self, one: Part, other: Part) -> Tensor:
        """Return the similarities of the items of two parts `(R, C)`."""
        place = one.rows.start, other.rows.start
        if place in self._kept:
            return self._kept[place]
        a, b = self._x[one.rows], self._x[other.rows]
        size = len(a) * len(b)
        if size <= len(self._room):
            out, self._room = self._room[:size].view(len(a), len(b)), self._room[size:]
            self._kept[place] = out
        else:
            out = self._scratch("scaled", len(a), len(b))
        torch.addmm(out, a, b.T, beta=0, alpha=1 / self._problem.rank_temperature, out=out)
        if one is other and self._problem.left_out is not None:
            out.fill_diagonal_(float("-inf"))
        return out


def _parts(queries: Tensor, problem: Problem) -> Iterator[Part]:
    """Cut the batch into runs of whole classes, those with as many positives side by side."""
    positives_of = problem.positives
    items = torch.argsort(positives_of.starts, stable=True)
    items = items[torch.argsort(positives_of.counts[items], stable=True)]
    first, local = 0, torch.empty_like(items)
    for run in whole_classes(items, positives_of.starts[items], torch.ones_like(items, dtype=torch.bool), TILE_ROWS):
        most = int(positives_of.counts[run].max())
        columns, exists = positives_of.numbered(run, 0, most)
        local[run] = torch.arange(len(run), device=queries.device)
        positives = local[torch.where(exists, columns, run[:, None])]
        high, ranks, slope, density = queries.new_zeros(4, most, len(run)).unbind()
        yield Part(slice(first, first + len(run)), run, positives, exists, high, ranks, slope, density)
        first += len(run)


def _above(scaled: Tensor, part: Part, dim: int, scratch: Scratch) -> Iterator[tuple[slice, Tensor]]:
    """Compare a tile `(R, C)` with the part's positives, a few slots at a time: `(slots, R, C)`, each in [0, 1].

    The part's items are the tile's rows where `dim` is 2, its columns where it is 1: the axis of the ranked items.
    """
    step = max(1, TILE_ELEMENTS // scaled.numel())
    for slot in (slice(first, first + step) for first in range(0, len(part.high), step)):
        high = part.high[slot].unsqueeze(dim)
        yield slot, torch.sub(scaled, high, out=scratch("above", len(high), *scaled.shape)).sigmoid_()


def _rank(scaled: Tensor, part: Part, dim: int, scratch: Scratch) -> None:
    for slot, above in _above(scaled, part, dim, scratch):
        part.ranks[slot] += above.sum(dim)


def _weigh(scaled: Tensor, part: Part, dim: int, weight: Tensor, scratch: Scratch) -> None:
    for slot, above in _above(scaled, part, dim, scratch):
        density = above.addcmul_(above, above, value=-1)  # the sigmoid's derivative
        part.density[slot] += density.sum(dim)
        for single, slope in zip(density, part.slope[slot].unsqueeze(dim), strict=True):
            weight.addcmul_(single, slope)


def _losses(parts: list[Part], problem: Problem, weights: Tensor | None) -> Tensor:
    """Return the losses `(Q',)` of the queries with a positive; leave their derivatives in the parts' slopes."""
    kept = problem.kept
    place = torch.cumsum(kept, 0) - 1
    losses = problem.ks.new_empty(int(kept.sum()))
    for part in parts:
        has = kept[part.items]
        places = place[part.items[has]]
        # an item is as high as itself: half a rank of the sum, the other half is the rank's own 1
        losses[places], slope = recall(part.ranks.T[has] + 0.5, part.exists[has], problem)
        if weights is not None:
            part.slope[:, has] = (slope * (weights[places, None] / problem.rank_temperature)).T
    return losses
