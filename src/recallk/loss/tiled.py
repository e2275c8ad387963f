"""The exact loss and its gradient in one sweep over tiles of queries, in plain PyTorch on any device.

A block of queries is compared with the whole database (one product of the three), a tile of that block is ranked,
and what the loss says of each similarity is brought back to the embeddings (the other two products). No matrix of
all pairs is kept, and virtual items exist as similarities of the block at work alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recallk.loss.relevance import Relevance, relevance

BLOCK_ELEMENTS = 1 << 22  # similarities of a block: large products, 16 MiB in float32
BLOCK_ROWS = 128  # a block's least height: below it the gradient's traffic outweighs the arithmetic
TILE_ELEMENTS = 1 << 19  # comparisons of a tile: what stays in a CPU's second-level cache


def loss(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    ks: Sequence[int],
    rank_temperature: float,
    recall_temperatures: Sequence[float],
    query_in_database: bool,
    mix_pairs: Tensor | None = None,
    mix_alpha: Tensor | None = None,
    mean: bool = True,
    sweeper: "Sweep | None" = None,
) -> Tensor:
    """Return the mean of `definition.losses`, or, without `mean`, the same losses one per query `(Q',)`.

    Arguments as there; float32 or float64. The mean costs three products of Q x G x D forward and backward
    together; the losses one by one cost a fourth, because their gradient needs the weights of the backward pass.
    `sweeper` does the work instead of `sweep` (the fused kernels).
    """
    problem = Problem(
        mixing=None if mix_pairs is None or mix_alpha is None else Mixing(mix_pairs, mix_alpha.to(queries.dtype)),
        relevance=_relevance(query_labels, gallery_labels, mix_pairs),
        ks=torch.tensor(ks, dtype=queries.dtype, device=queries.device),
        rank_temperature=rank_temperature,
        recall_temperatures=torch.tensor(recall_temperatures, dtype=queries.dtype, device=queries.device),
        skip_query=gallery is None and not query_in_database,
    )
    differentiate = torch.is_grad_enabled() and (
        queries.requires_grad or (gallery is not None and gallery.requires_grad)
    )
    result: Tensor = _Tiled.apply(queries, gallery, problem, mean, differentiate, sweeper or sweep)
    return result


def _relevance(query_labels: Tensor, gallery_labels: Tensor | None, mix_pairs: Tensor | None) -> Relevance:
    if mix_pairs is not None:
        query_labels = torch.cat([query_labels, query_labels[mix_pairs[:, 0]]])
    return relevance(query_labels, gallery_labels)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        gallery: Tensor | None,
        problem: "Problem",
        mean: bool,
        differentiate: bool,
        sweeper: "Sweep",
    ) -> Tensor:
        kept = int((problem.relevance.count > 0).sum())
        weights = queries.new_full((kept,), 1 / kept) if mean and differentiate else None
        losses, *gradients = sweeper(queries, gallery, problem, weights)
        ctx.problem, ctx.mean, ctx.sweeper = problem, mean, sweeper
        if differentiate:  # the mean keeps its gradients, the single losses what they are computed from
            ctx.save_for_backward(*(gradients if mean else (queries, gallery)))
        return losses.mean() if mean else losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.mean:
            gradients = [None if g is None else g * upstream for g in ctx.saved_tensors]
        else:
            queries, gallery = ctx.saved_tensors
            _, *gradients = ctx.sweeper(queries, gallery, ctx.problem, upstream)
        return *gradients, None, None, None, None


@dataclass(frozen=True)
class Mixing:
    """Virtual item v is `alpha[v]` of row `pairs[v, 0]` and the rest of row `pairs[v, 1]`."""

    pairs: Tensor
    alpha: Tensor

    def columns(self, similarities: Tensor) -> Tensor:
        """Append the virtual items' columns: `(R, B) -> (R, B + V)`."""
        one, other = self.pairs.T
        out = similarities.new_empty(len(similarities), similarities.shape[1] + len(one))
        real = similarities.shape[1]
        out[:, :real] = similarities
        torch.lerp(similarities[:, other], similarities[:, one], self.alpha, out=out[:, real:])
        return out

    def columns_back(self, gradient: Tensor) -> Tensor:
        """Give the virtual columns' gradient to their parents: `(R, B + V) -> (R, B)`."""
        real = gradient.shape[1] - len(self.pairs)
        virtual = gradient[:, real:]
        out = gradient[:, :real]
        out.index_add_(1, self.pairs[:, 0], virtual * self.alpha)
        return out.index_add_(1, self.pairs[:, 1], virtual * (1 - self.alpha))


@dataclass(frozen=True)
class Problem:
    """Everything that stays the same during a sweep."""

    mixing: Mixing | None
    relevance: Relevance
    ks: Tensor
    rank_temperature: float
    recall_temperatures: Tensor
    skip_query: bool  # the query itself is not ranked


Sweep = Callable[[Tensor, Tensor | None, Problem, Tensor | None], tuple[Tensor, Tensor | None, Tensor | None]]


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


def sweep(
    queries: Tensor, gallery: Tensor | None, problem: Problem, weights: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the losses `(Q',)` and, where `weights (Q',)` are given, the gradients of their weighted sum.

    Gradients to the queries and to the gallery (None without one).
    """
    database = queries if gallery is None else gallery
    kept = problem.relevance.count > 0
    losses = queries.new_empty(int(kept.sum()))
    query_gradient = torch.zeros_like(queries) if weights is not None else None
    gallery_gradient = torch.zeros_like(gallery) if weights is not None and gallery is not None else None
    for block in blocks(problem, kept, len(database)):
        embeddings = queries[block.rows] / problem.rank_temperature
        scaled = embeddings @ database.T
        if problem.mixing is not None:
            scaled = problem.mixing.columns(scaled)
        gradient = torch.zeros_like(scaled) if weights is not None else None
        for first, last in tiles(block.counts, scaled.shape[1]):
            part = slice(first, last)
            places, one, other, alpha = block.places[part], block.one[part], block.other[part], block.alpha[part, None]
            tile_weights = weights[places] if weights is not None else None
            if problem.mixing is None:  # the block's rows are the queries
                tile, tile_gradient = scaled[part], gradient[part] if gradient is not None else None
            else:
                tile = torch.lerp(scaled[other], scaled[one], alpha)
                tile_gradient = torch.zeros_like(tile) if gradient is not None else None
            losses[places] = rank_tile(
                tile, block.queries[part], max(block.counts[part]), problem, tile_weights, tile_gradient
            )
            if problem.mixing is not None and gradient is not None and tile_gradient is not None:
                gradient.index_add_(0, one, tile_gradient * alpha)
                gradient.index_add_(0, other, tile_gradient * (1 - alpha))
        if gradient is not None and query_gradient is not None:
            if problem.mixing is not None:
                gradient = problem.mixing.columns_back(gradient)
            to_database = query_gradient if gallery_gradient is None else gallery_gradient
            to_database.addmm_(gradient.T, embeddings)
            query_gradient[block.rows] += (gradient @ database).div_(problem.rank_temperature)
    return losses, query_gradient, gallery_gradient


def rank_tile(
    scaled: Tensor, queries: Tensor, most: int, problem: Problem, weights: Tensor | None, gradient: Tensor | None
) -> Tensor:
    """Return the losses `(T,)` of a tile; add the gradient of their sum, weighted, to `gradient (T, Z)`.

    `scaled (T, Z)` are the similarities of the tile's `queries (T,)` to the database, over the temperature; `most` is
    the largest number of positives among the queries.
    """
    tile, database = scaled.shape
    if problem.skip_query:
        scaled.scatter_(1, queries[:, None], float("-inf"))
    step = max(1, TILE_ELEMENTS // (tile * database))
    slots = [(first, min(first + step, most)) for first in range(0, most, step)]

    def compare(first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        columns, exists = problem.relevance.positives(queries, first, last)
        positives = scaled.gather(1, columns).masked_fill_(~exists, float("inf"))  # nothing is above a missing one
        return torch.sub(scaled[:, None, :], positives[:, :, None]).sigmoid_(), columns, exists

    above, columns, exists = compare(*slots[0])
    # an item is as high as itself: half a rank of the sum, the other half is the rank's own 1
    ranks, present = above.sum(2).add_(0.5), exists
    for slot in slots[1:]:
        above, _, exists = compare(*slot)
        ranks = torch.cat([ranks, above.sum(2).add_(0.5)], 1)
        present = torch.cat([present, exists], 1)
    loss, slope = recall(ranks, present, problem)
    if weights is None or gradient is None:
        return loss

    slope = slope * weights[:, None]
    for first, last in slots:
        if len(slots) > 1:  # too many positives to keep their comparisons: compare again
            above, columns, _ = compare(first, last)
        density = above.addcmul_(above, above, value=-1)  # the sigmoid's derivative
        part = slope[:, first:last]
        gradient[:, None].baddbmm_(part[:, None], density)
        gradient.scatter_add_(1, columns, density.sum(2).mul_(part).neg_())
    return loss


def recall(ranks: Tensor, exists: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the losses `(T,)` of ranks `(T, P)`, and their derivatives by each rank `(T, P)`."""
    k = problem.ks
    normaliser = torch.minimum(k, exists.sum(1, keepdim=True)) * len(k)  # (T, K)
    hits = torch.sigmoid((k - ranks[:, :, None]) / problem.recall_temperatures)  # (T, P, K)
    hits = hits * exists[:, :, None]
    total = hits.sum(1)
    loss = 1 - (torch.minimum(total, k) / normaliser).sum(1)
    open_end = (total <= k) / (normaliser * problem.recall_temperatures)  # where capped, the gradient is zero
    slope = torch.einsum("tpk,tk->tp", hits * (1 - hits), open_end)
    return loss, slope


def blocks(problem: Problem, kept: Tensor, database: int) -> Iterator[Block]:
    """Cut the queries that have a positive into blocks, those with as many positives side by side.

    With mixup a block holds whole classes, since a virtual query needs both its parents' rows.
    """
    count, start = problem.relevance.count, problem.relevance.start
    place = torch.cumsum(kept, 0) - 1
    queries = torch.nonzero(kept)[:, 0]
    queries = queries[torch.argsort(start[queries], stable=True)]
    queries = queries[torch.argsort(count[queries], stable=True)]
    height = max(BLOCK_ROWS, BLOCK_ELEMENTS // (database if problem.mixing is None else len(count)))
    if problem.mixing is None:
        for rows in torch.split(queries, height):
            same = torch.arange(len(rows), device=rows.device)
            ones = torch.ones(len(rows), dtype=problem.ks.dtype, device=rows.device)
            yield Block(rows, rows, place[rows], count[rows].tolist(), same, same, ones)
        return
    pairs, alpha = problem.mixing.pairs, problem.mixing.alpha
    real = len(count) - len(pairs)
    itself = torch.arange(real, device=queries.device)
    one, other = torch.cat([itself, pairs[:, 0]]), torch.cat([itself, pairs[:, 1]])
    alpha = torch.cat([alpha.new_ones(real), alpha])
    for block in _whole_classes(queries, start[queries], queries < real, height):
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


def _whole_classes(queries: Tensor, starts: Tensor, is_row: Tensor, height: int) -> Iterator[Tensor]:
    """Split the queries, sorted by class, into runs of whole classes with about `height` real rows each."""
    _, sizes = torch.unique_consecutive(starts, return_counts=True)
    stops = torch.cumsum(sizes, 0)
    rows = torch.cumsum(is_row, 0)[stops - 1].tolist()
    first, base = 0, 0
    for stop, now, following in zip(stops.tolist(), rows, [*rows[1:], None], strict=True):
        if following is None or following - base > height:
            yield queries[first:stop]
            first, base = stop, now


def tiles(counts: Sequence[int], database: int) -> Iterator[tuple[int, int]]:
    """Cut a block, its counts of positives in rising order, into tiles that stay in the cache."""
    first = 0
    while first < len(counts):
        last = first + 1
        while last < len(counts) and (last + 1 - first) * counts[last] * database <= TILE_ELEMENTS:
            last += 1
        yield first, last
        first = last
