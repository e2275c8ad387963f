"""The kernel in plain PyTorch, on any device: a block is ranked tile by tile.

Virtual items exist as similarities of the block at work alone.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from recallk.loss.kernels.blocks import Block, compute_in_blocks
from recallk.loss.kernels.mixing import mixed_columns, mixed_columns_back, related
from recallk.loss.kernels.scratch import Scratch
from recallk.loss.kernels.streamed import Objective, recall
from recallk.loss.pruning import most_similar

TILE_ELEMENTS = 1 << 21  # comparisons of a tile: few calls, and what stays in a CPU's last cache


def kernel(
    queries: Tensor, gallery: Tensor | None, objective: Objective, weights: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the losses `(Q',)` and, where `weights (Q',)` are given, the gradients: see `streamed.Kernel`."""
    return compute_in_blocks(queries, gallery, objective, weights, partial(rank_block, objective))


def rank_block(
    objective: Objective, scaled: Tensor, block: Block, weights: Tensor | None, scratch: Scratch
) -> tuple[Tensor, Tensor | None]:
    """Rank a block, tile by tile: see `blocks.RankBlock`."""
    mixing = objective.mixing
    if mixing is not None:
        scaled = mixed_columns(scaled, mixing, scratch)
    losses = scaled.new_empty(len(block.queries))
    gradient = None if weights is None else scratch("gradient", *scaled.shape)
    if gradient is not None and mixing is not None:
        gradient.zero_()
    for first, last in tiles(block.counts, scaled.shape[1], objective.positive_limit):
        part = slice(first, last)
        if mixing is None:  # the block's rows are the queries
            rows, tile, tile_gradient = part, scaled[part], None if gradient is None else gradient[part]
        else:
            rows, mix = mixing_matrix(block, part)
            tile = torch.mm(mix, scaled[rows], out=scratch("tile", last - first, scaled.shape[1]))
            tile_gradient = None if gradient is None else scratch("tile gradient", *tile.shape)
        losses[part] = rank_tile(
            tile,
            block.queries[part],
            block.counts[last - 1],
            objective,
            None if weights is None else weights[part],
            tile_gradient,
            scratch,
        )
        if mixing is not None and gradient is not None and tile_gradient is not None:
            gradient[rows].addmm_(mix.T, tile_gradient)
    if mixing is not None and gradient is not None:
        gradient = mixed_columns_back(gradient, mixing, scratch)
    return losses, gradient


def mixing_matrix(block: Block, part: slice) -> tuple[slice, Tensor]:
    """Return some rows of a block `(R,)`, and the matrix `(T, R)` that makes a tile's queries of them."""
    one, other, alpha = block.one[part, None], block.other[part, None], block.alpha[part, None]
    first, last = torch.stack([one, other]).aminmax()
    mix = alpha.new_zeros(len(one), int(last - first) + 1)
    mix.scatter_add_(1, one - first, alpha).scatter_add_(1, other - first, 1 - alpha)
    return slice(int(first), int(last) + 1), mix


def rank_tile(
    scaled: Tensor,
    queries: Tensor,
    most: int,
    objective: Objective,
    weights: Tensor | None,
    gradient: Tensor | None,
    scratch: Scratch,
) -> Tensor:
    """Return the losses `(T,)` of a tile; write the gradient of their sum, weighted, to `gradient (T, Z)`.

    `scaled (T, Z)` are the similarities of the tile's `queries (T,)` to the database, over the temperature; `most` is
    the largest number of positives among the queries.
    """
    tile, database = scaled.shape
    columns, exists = objective.positives.numbered(queries, 0, most)
    if objective.left_out is not None:
        own = objective.left_out[queries, None]
        leave_out(scaled, own.clamp_min(0), own >= 0)
    leave_out_ignored(scaled, queries, objective)
    if objective.mixing is not None and objective.mixing.parents is not None:
        relatives = related(objective.mixing.parents, queries, columns) & exists
        exists = exists & ~relatives
        leave_out(scaled, columns, relatives)
    positives, columns, exists = most_similar(scaled.gather(1, columns), columns, exists, objective.positive_limit)
    positives = positives.masked_fill_(~exists, float("inf"))  # nothing is above a missing one
    most = positives.shape[1]
    step = max(1, TILE_ELEMENTS // (tile * database))
    slots = [slice(first, min(first + step, most)) for first in range(0, most, step)]

    def compare(slot: slice) -> Tensor:
        above = scratch("above", tile, slot.stop - slot.start, database)
        return torch.sub(scaled[:, None], positives[:, slot, None], out=above).sigmoid_()

    ranks = torch.empty_like(positives)
    for slot in slots:
        above = compare(slot)
        torch.sum(above, 2, out=ranks[:, slot])
    # the sum counts the positive itself as half a rank; the other half completes the 1 that a rank begins with
    losses, slope = recall(ranks.add_(0.5), exists, objective)
    if weights is None or gradient is None:
        return losses

    slope = slope * weights[:, None]
    densities = ranks
    for slot in slots:
        if len(slots) > 1:  # too many positives to keep their comparisons: compare again
            above = compare(slot)
        density = above.addcmul_(above, above, value=-1)  # the sigmoid's derivative
        torch.sum(density, 2, out=densities[:, slot])
        gradient[:, None].baddbmm_(slope[:, None, slot], density, beta=float(slot.start > 0))
    gradient.scatter_add_(1, columns, densities.mul_(slope).neg_())
    return losses


def leave_out_ignored(scaled: Tensor, queries: Tensor, objective: Objective) -> None:
    """Make the similarities `(T, Z)` of items that are ignored for the queries `(T,)` minus infinity."""
    ignored = objective.positives.ignored
    if ignored is None:
        return
    most, step = int(ignored.counts[queries].max()), max(1, TILE_ELEMENTS // len(queries))
    for first in range(0, most, step):
        leave_out(scaled, *ignored.numbered(queries, first, min(first + step, most)))


def leave_out(scaled: Tensor, columns: Tensor, chosen: Tensor) -> None:
    """Make the similarities `(T, Z)` of the `chosen (T, P)` ones of the columns `(T, P)` minus infinity."""
    # adds, for a column that is not chosen may occur again as one that is
    scaled.scatter_add_(1, columns, torch.zeros_like(columns, dtype=scaled.dtype).masked_fill_(chosen, float("-inf")))


def tiles(counts: Sequence[int], database: int, positive_limit: int) -> Iterator[tuple[int, int]]:
    """Cut a block, its counts of positives in rising order, into tiles of about TILE_ELEMENTS.

    Of a query's positives `positive_limit` at most are compared.
    """
    first = 0
    while first < len(counts):
        last = first + 1
        while last < len(counts) and (last + 1 - first) * min(counts[last], positive_limit) * database <= TILE_ELEMENTS:
            last += 1
        yield first, last
        first = last
