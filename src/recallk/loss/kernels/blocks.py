"""What `tiled` and `fused` share: the batch is cut into blocks of queries, each compared with the whole database.

One product gives a block's similarities, two more turn their gradient into that of the embeddings. The caller says how
a block is ranked in between.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.loss.kernels.scratch import Scratch
from recallk.loss.kernels.streamed import WHOLE, Objective

BLOCK_ELEMENTS = 1 << 22  # similarities of a block: large products, 16 MiB in float32
BLOCK_ROWS = 128  # a block's least height: below it the gradient's traffic outweighs the arithmetic


@dataclass(frozen=True)
class Block:
    """Queries that are compared with the database in one product.

    `rows (R,)` of the embeddings; `queries (T,)` numbers the block's queries, real ones below B and virtual ones
    above, with their `places (T,)` in the result and their `counts` of positives; query t is `alpha[t]` of the
    block's row `one[t]` and the rest of `other[t]` (a real query is its row, twice).
    """

    rows: Tensor
    queries: Tensor
    places: Tensor
    counts: list[int]
    one: Tensor
    other: Tensor
    alpha: Tensor


RankBlock = Callable[[Tensor, Block, Tensor | None, Scratch], tuple[Tensor, Tensor | None]]
"""From similarities over the temperature `(R, Z)`, their block and `weights (T,)` of its queries to the losses `(T,)`
and, where weights are given, the gradient of their weighted sum to the similarities. The function mixes."""


def compute_in_blocks(
    queries: Tensor, gallery: Tensor | None, objective: Objective, weights: Tensor | None, rank_block: RankBlock
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return losses and gradients as a `streamed.Kernel` does."""
    database = queries if gallery is None else gallery
    losses = queries.new_zeros(int(objective.has_positive.sum()))
    query_gradient = torch.zeros_like(queries) if weights is not None else None
    gallery_gradient = torch.zeros_like(gallery) if weights is not None and gallery is not None else None
    scratch = Scratch(queries)
    for block in cut(objective, len(database)):
        embeddings = queries[block.rows].div_(objective.rank_temperature)
        scaled = torch.mm(embeddings, database.T, out=scratch("scaled", len(embeddings), len(database)))
        block_weights = None if weights is None else weights[block.places]
        losses[block.places], gradient = rank_block(scaled, block, block_weights, scratch)
        if gradient is not None and query_gradient is not None:
            to_database = query_gradient if gallery_gradient is None else gallery_gradient
            to_database.addmm_(gradient.T, embeddings)
            query_gradient[block.rows] += (gradient @ database).div_(objective.rank_temperature)
    return losses, query_gradient, gallery_gradient


def cut(objective: Objective, database: int) -> Iterator[Block]:
    """Cut the objective's share of the queries that have a positive into blocks, those with as many side by side.

    With mixup a block holds whole classes, since a virtual query needs both its parents' rows.
    """
    count, start = objective.positives.counts, objective.positives.starts
    place = torch.cumsum(objective.has_positive, 0) - 1
    queries = torch.nonzero(objective.has_positive)[:, 0]
    queries = queries[torch.argsort(start[queries], stable=True)]
    queries = queries[torch.argsort(count[queries], stable=True)]
    if objective.share != WHOLE:
        queries = share_of(queries, queries if objective.mixing is None else start[queries], objective.share)
        if not len(queries):
            return
    height = max(BLOCK_ROWS, BLOCK_ELEMENTS // (database if objective.mixing is None else len(count)))
    if objective.mixing is None:
        for rows in torch.split(queries, height):
            same = torch.arange(len(rows), device=rows.device)
            ones = torch.ones(len(rows), dtype=objective.ks.dtype, device=rows.device)
            yield Block(rows, rows, place[rows], count[rows].tolist(), same, same, ones)
        return
    pairs, alpha = objective.mixing.pairs, objective.mixing.alpha
    real = len(count) - len(pairs)
    itself = torch.arange(real, device=queries.device)
    one, other = torch.cat([itself, pairs[:, 0]]), torch.cat([itself, pairs[:, 1]])
    alpha = torch.cat([alpha.new_ones(real), alpha])
    for block in whole_classes(queries, start[queries], queries < real, height):
        rows = block[block < real]
        local = torch.empty(real, dtype=torch.int64, device=rows.device)
        local[rows] = torch.arange(len(rows), device=rows.device)
        yield Block(
            rows,
            block,
            place[block],
            count[block].tolist(),
            local[one[block]],
            local[other[block]],
            alpha[block],
        )


def share_of(queries: Tensor, together: Tensor, share: tuple[int, int]) -> Tensor:
    """Return a part of the queries `(T,)`: neighbours in turn, so that parts of sorted queries are as much work.

    Neighbours with one number of `together (T,)` stay together.

    >>> queries = torch.arange(10, 16)
    >>> share_of(queries, queries, (1, 2)), share_of(queries, torch.tensor([0, 0, 2, 2, 4, 4]), (0, 2))
    (tensor([11, 13, 15]), tensor([10, 11, 14, 15]))

    """
    part, parts = share
    turn = torch.unique_consecutive(together, return_inverse=True)[1]
    return queries[turn % parts == part]


def whole_classes(queries: Tensor, starts: Tensor, is_row: Tensor, height: int) -> Iterator[Tensor]:
    """Split the queries, sorted by class, into runs of whole classes with about `height` real rows each."""
    _, sizes = torch.unique_consecutive(starts, return_counts=True)
    stops = torch.cumsum(sizes, 0)
    rows = torch.cumsum(is_row, 0)[stops - 1].tolist()
    first, base = 0, 0
    for stop, now, following in zip(stops.tolist(), rows, [*rows[1:], None], strict=True):
        if following is None or following - base > height:
            yield queries[first:stop]
            first, base = stop, now
