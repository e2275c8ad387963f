"""The kernel for a batch that ranks itself and has few positives a query: every pair is multiplied once.

A tile of similarities ranks the items of its columns for the queries of its rows, and the other way round. The gradient
of a query needs its ranks, and these all tiles with the query; so one pass over half of the tiles sums the ranks, and
another over the same tiles the gradient. That is two products of B x B x D, where `tiled` takes three; in exchange
everything is compared twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.loss.kernels.blocks import whole_classes
from recallk.loss.kernels.scratch import Scratch
from recallk.loss.kernels.streamed import WHOLE, Objective, recall

TILE_ROWS = 400
USED_ELEMENTS = 1 << 21  # numbers of embeddings and gradient that are used again and again: 8 MiB of a CPU's cache
CACHED_ELEMENTS = 6_000_000  # similarities that the first pass leaves for the second: 24 MB in float32
TILE_ELEMENTS = 1 << 20  # comparisons at a time: what stays in a CPU's cache
COMPARED = 40  # dimensions of a product that take as long as comparing an item with one positive, there and back


def is_faster(queries: Tensor, gallery: Tensor | None, objective: Objective) -> bool:
    """Say whether this kernel is able to compute the objective, and faster than `tiled` on a CPU.

    `tiled` takes three products for the queries that have a positive, and compares with the positives that can count;
    this one takes two for all items, and compares twice, with as many positives for all items of a group as any of them
    has. A share of the queries is a batch that does not rank itself: of N shares `tiled` takes 3 / N products for each.
    """
    able = gallery is None and objective.mixing is None and objective.share == WHOLE and objective.positives.are_classes
    if not able or queries.device.type != "cpu":
        return False
    items, dimensions = queries.shape
    count = objective.positives.counts.sort().values
    padded = sum(len(group) * int(group[-1]) for group in torch.split(count, TILE_ROWS))
    by_rows = 3 * dimensions * int((count > 0).sum()) + COMPARED * int(count.clamp_max(objective.positive_limit).sum())
    return 2 * dimensions * items + 2 * COMPARED * padded <= by_rows


@dataclass(frozen=True)
class ClassGroup:
    """Some whole classes: R items of the batch, sorted by class.

    `rows` of the sorted batch, `items (R,)` of the batch as it came. `positives (R, P)` are rows of the group, as far
    as they exist `(R, P)`. The rest is `(P, R)`, for each positive of an item: its similarity over the temperature
    `scaled` (infinite for a missing one: nothing is above it), and what is summed up over the tiles: its `ranks`, their
    `slope`, and the `density` of the others around it.
    """

    rows: slice
    items: Tensor
    positives: Tensor
    exists: Tensor
    scaled: Tensor
    ranks: Tensor
    slope: Tensor
    density: Tensor


def kernel(
    queries: Tensor, gallery: Tensor | None, objective: Objective, weights: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the losses `(Q',)` and, where `weights (Q',)` are given, the gradients: see `streamed.Kernel`."""
    if gallery is not None or objective.mixing is not None or objective.share != WHOLE:
        raise ValueError("only a whole batch that ranks itself, without virtual items, is symmetric")
    if not objective.positives.are_classes:
        raise ValueError("only classes are symmetric, whose items are each other's positives")
    groups = list(_class_groups(queries, objective))
    order = torch.cat([group.items for group in groups])
    x = queries[order]
    scratch = Scratch(queries)
    similarities = _Similarities(x, objective, scratch, CACHED_ELEMENTS if weights is not None else 0)
    for group in groups:
        own = similarities(group, group)
        group.scaled.copy_(own.gather(1, group.positives).T).masked_fill_(~group.exists.T, float("inf"))
        _rank(own, group, 2, scratch)
    for one, other in _pairs(groups, x):
        scaled = similarities(one, other)
        _rank(scaled, one, 2, scratch)
        _rank(scaled, other, 1, scratch)
    losses = _losses(groups, objective, weights)
    if weights is None:
        return losses, None, None

    gradient = torch.zeros_like(x)
    for one, other in _pairs(groups, x):
        scaled = similarities(one, other)
        weight = scratch("weight", *scaled.shape).zero_()
        _weigh(scaled, one, 2, weight, scratch)
        _weigh(scaled, other, 1, weight, scratch)
        gradient[one.rows].addmm_(weight, x[other.rows])
        gradient[other.rows].addmm_(weight.T, x[one.rows])
    for group in groups:  # last, when the densities are complete
        own = similarities(group, group)
        weight = scratch("weight", *own.shape).zero_()
        _weigh(own, group, 2, weight, scratch)
        weight.scatter_add_(1, group.positives, (group.density * group.slope).neg_().T)
        gradient[group.rows].addmm_(weight + weight.T, x[group.rows])
    x[order] = gradient  # x itself is not needed any more
    return losses, x, None


def _pairs(groups: list[ClassGroup], x: Tensor) -> Iterator[tuple[ClassGroup, ClassGroup]]:
    """Yield every two groups, the earlier first, in an order that uses a few of them again and again."""
    few = max(1, USED_ELEMENTS // (2 * TILE_ROWS * x.shape[1]))
    for first in range(0, len(groups), few):
        for number, one in enumerate(groups[: first + few]):
            for other in groups[max(first, number + 1) : first + few]:
                yield one, other


class _Similarities:
    """Tiles of the similarities over the temperature; as many as fit into `cached` elements are computed only once."""

    def __init__(self, x: Tensor, objective: Objective, scratch: Scratch, cached: int) -> None:
        self._x, self._objective, self._scratch = x, objective, scratch
        self._cached: dict[tuple[int, int], Tensor] = {}
        self._free = x.new_empty(cached)

    def __call__(self, one: ClassGroup, other: ClassGroup) -> Tensor:
        """Return the similarities of the items of two groups `(R, C)`."""
        place = one.rows.start, other.rows.start
        if place in self._cached:
            return self._cached[place]
        a, b = self._x[one.rows], self._x[other.rows]
        size = len(a) * len(b)
        if size <= len(self._free):
            out, self._free = self._free[:size].view(len(a), len(b)), self._free[size:]
            self._cached[place] = out
        else:
            out = self._scratch("scaled", len(a), len(b))
        torch.addmm(out, a, b.T, beta=0, alpha=1 / self._objective.rank_temperature, out=out)
        if one is other and self._objective.left_out is not None:
            out.fill_diagonal_(float("-inf"))
        return out


def _class_groups(queries: Tensor, objective: Objective) -> Iterator[ClassGroup]:
    """Cut the batch into groups of whole classes, those with as many positives side by side."""
    positives = objective.positives
    items = torch.argsort(positives.starts, stable=True)
    items = items[torch.argsort(positives.counts[items], stable=True)]
    first, local = 0, torch.empty_like(items)
    for run in whole_classes(items, positives.starts[items], torch.ones_like(items, dtype=torch.bool), TILE_ROWS):
        most = int(positives.counts[run].max())
        columns, exists = positives.numbered(run, 0, most)
        local[run] = torch.arange(len(run), device=queries.device)
        of_group = local[torch.where(exists, columns, run[:, None])]
        scaled, ranks, slope, density = queries.new_zeros(4, most, len(run)).unbind()
        yield ClassGroup(slice(first, first + len(run)), run, of_group, exists, scaled, ranks, slope, density)
        first += len(run)


def _above(scaled: Tensor, group: ClassGroup, dim: int, scratch: Scratch) -> Iterator[tuple[slice, Tensor]]:
    """Compare a tile `(R, C)` with the group's positives, a few slots at a time: `(slots, R, C)`, each in [0, 1].

    The group's items are the tile's rows where `dim` is 2, its columns where it is 1: the axis of the ranked items.
    """
    step = max(1, TILE_ELEMENTS // scaled.numel())
    for slot in (slice(first, first + step) for first in range(0, len(group.scaled), step)):
        threshold = group.scaled[slot].unsqueeze(dim)
        yield slot, torch.sub(scaled, threshold, out=scratch("above", len(threshold), *scaled.shape)).sigmoid_()


def _rank(scaled: Tensor, group: ClassGroup, dim: int, scratch: Scratch) -> None:
    for slot, above in _above(scaled, group, dim, scratch):
        group.ranks[slot] += above.sum(dim)


def _weigh(scaled: Tensor, group: ClassGroup, dim: int, weight: Tensor, scratch: Scratch) -> None:
    for slot, above in _above(scaled, group, dim, scratch):
        density = above.addcmul_(above, above, value=-1)  # the sigmoid's derivative
        group.density[slot] += density.sum(dim)
        for single, slope in zip(density, group.slope[slot].unsqueeze(dim), strict=True):
            weight.addcmul_(single, slope)


def _losses(groups: list[ClassGroup], objective: Objective, weights: Tensor | None) -> Tensor:
    """Return the losses `(Q',)` of the queries with a positive; leave their derivatives in the groups' slopes."""
    place = torch.cumsum(objective.has_positive, 0) - 1
    losses = objective.ks.new_empty(int(objective.has_positive.sum()))
    for group in groups:
        has = objective.has_positive[group.items]
        places = place[group.items[has]]
        # the sum counts the positive itself as half a rank; the other half completes the 1 that a rank begins with
        losses[places], slope = recall(group.ranks.T[has] + 0.5, group.exists[has], objective)
        if weights is not None:
            group.slope[:, has] = (slope * (weights[places, None] / objective.rank_temperature)).T
    return losses
