"""The kernel in Triton, for CUDA: a block's queries are ranked in one launch.

As in `tiled`, a block of rows is compared with the whole database by one product, and two more products turn the
similarities' gradient into that of the embeddings. In between, one Triton function ranks the block's positives and
another computes the gradient of its similarities. Neither the matrix of all pairs nor the comparisons of three items
are stored; memory is that of a few blocks, whatever the batch. Every number is written by one program in a fixed order
(no atomics), so the gradient is the same in every run. Importing this file needs Triton.
"""

from dataclasses import dataclass
from functools import partial

import torch
import triton
from torch import Tensor
from triton import language as tl

from recallk.loss.kernels import blocks
from recallk.loss.kernels.blocks import Block, compute_in_blocks
from recallk.loss.kernels.mixing import Mixing, mixed_columns
from recallk.loss.kernels.scratch import Scratch
from recallk.loss.kernels.streamed import Objective, recall
from recallk.loss.pruning import most_similar

BLOCK_PAIRS = 8  # (query, positive) pairs that one program ranks: neighbours share their rows in the cache
RANK_COLUMNS = 128  # columns that it compares at a time
WEIGHT_COLUMNS = 1024  # columns of a row whose gradient one program computes
OPTIONS = {"enable_fp_fusion": True}  # Triton's default so far, but it warns of a change unless it is asked for


@dataclass(frozen=True)
class Memberships:
    """Which items each row of the batch is part of: itself and the virtual items that are mixed from it.

    Row b is part of the items `item[start[b]:start[b + 1]]`, by the `share` beside; of itself first, with a share of 1.
    """

    start: Tensor
    item: Tensor
    share: Tensor


def memberships_of(mixing: Mixing | None, items: int, like: Tensor) -> Memberships:
    """List for each of `items` rows what it is part of; `like` gives device and type of the shares."""
    parent = item = torch.arange(items, device=like.device)
    share = like.new_ones(items)
    if mixing is not None:
        virtual = items + torch.arange(len(mixing.pairs), device=like.device)
        parent, order = torch.sort(torch.cat([parent, mixing.pairs[:, 0], mixing.pairs[:, 1]]), stable=True)
        item = torch.cat([item, virtual, virtual])[order]
        share = torch.cat([share, mixing.alpha, 1 - mixing.alpha])[order]
    start = torch.searchsorted(parent, torch.arange(items + 1, device=like.device))
    return Memberships(start, item, share)


def kernel(
    queries: Tensor, gallery: Tensor | None, objective: Objective, weights: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the losses `(Q',)` and, where `weights (Q',)` are given, the gradients, in float32: `streamed.Kernel`."""
    memberships = memberships_of(objective.mixing, len(queries), queries)
    with torch.cuda.device(queries.get_device()):  # Triton launches on the current device, whatever the tensors say
        return compute_in_blocks(queries, gallery, objective, weights, partial(rank_block, objective, memberships))


def rank_block(
    objective: Objective,
    memberships: Memberships,
    scaled: Tensor,
    block: Block,
    weights: Tensor | None,
    scratch: Scratch,
) -> tuple[Tensor, Tensor | None]:
    """Rank a block in one launch and weigh it in another: see `blocks.RankBlock`."""
    if objective.mixing is not None:
        scaled = mixed_columns(scaled, objective.mixing, scratch)
    rows, columns = scaled.shape
    queries = block.queries
    positives, exists = nearest_positives(scaled, block, objective)
    most = positives.shape[1]
    pairs = torch.nonzero(exists.flatten())[:, 0]
    left_out = torch.full_like(queries, -1) if objective.left_out is None else objective.left_out[queries]
    mixed = objective.mixing is not None
    x, above, density = scaled.new_zeros(3, *exists.shape).unbind()
    of_query = (block.one, block.other, block.alpha, left_out.int(), positives.int())
    _compare[(triton.cdiv(len(pairs), BLOCK_PAIRS),)](
        scaled,
        *of_query,
        pairs,
        x,
        above,
        density,
        len(pairs),
        most,
        columns,
        mixed=mixed,
        block_pairs=BLOCK_PAIRS,
        block_columns=RANK_COLUMNS,
        **OPTIONS,
    )
    height = max(1, blocks.BLOCK_ELEMENTS // (most * len(objective.ks)))  # where all classes are large
    parts = [
        recall(ranks, present, objective)
        for ranks, present in zip(torch.split(1 + above, height), torch.split(exists, height), strict=True)
    ]
    losses, slope = (torch.cat(part) for part in zip(*parts, strict=True))
    if weights is None:
        return losses, None

    slope = slope * weights[:, None]
    local = torch.empty(len(objective.positives.counts), dtype=torch.int64, device=queries.device)
    local[queries] = torch.arange(len(queries), device=queries.device)
    gradient = scratch("gradient", rows, columns)
    _weigh[(rows, triton.cdiv(columns, WEIGHT_COLUMNS))](
        scaled,
        *of_query,
        exists.sum(1),
        x,
        slope,
        density,
        block.rows,
        local,
        memberships.start,
        memberships.item,
        memberships.share,
        gradient,
        most,
        columns,
        mixed=mixed,
        block_columns=WEIGHT_COLUMNS,
        **OPTIONS,
    )
    return losses, gradient if objective.mixing is None else fold_columns(gradient, memberships)


def nearest_positives(scaled: Tensor, block: Block, objective: Objective) -> tuple[Tensor, Tensor]:
    """Return the columns `(T, P)` of the positives that can count, and which of them exist.

    A few queries at a time, where large classes have many that cannot.
    """
    most = max(block.counts)
    if most <= objective.positive_limit:
        return objective.positives.numbered(block.queries, 0, most)
    everyone, parts = torch.arange(len(block.queries), device=scaled.device), []
    for part in torch.split(everyone, max(1, blocks.BLOCK_ELEMENTS // most)):
        columns, exists = objective.positives.numbered(block.queries[part], 0, most)
        one, other, alpha = block.one[part, None], block.other[part, None], block.alpha[part, None]
        similarities = torch.lerp(scaled[other, columns], scaled[one, columns], alpha)
        parts.append(most_similar(similarities, columns, exists, objective.positive_limit)[1:])
    positives, exists = (torch.cat(each) for each in zip(*parts, strict=True))
    return positives, exists


def fold_columns(gradient: Tensor, memberships: Memberships) -> Tensor:
    """Add the virtual columns' gradient to that of their parents: `(R, B + V) -> (R, B)`."""
    rows, columns = gradient.shape
    real = len(memberships.start) - 1
    out = gradient.new_empty(rows, real)
    _fold[(rows, triton.cdiv(real, RANK_COLUMNS))](
        gradient,
        memberships.start,
        memberships.item,
        memberships.share,
        out,
        columns,
        real,
        block_columns=RANK_COLUMNS,
        **OPTIONS,
    )
    return out


# In the kernels, `tl.reduce` and `tl.full` stand for `tl.sum` and `tl.zeros`: those are jitted functions of Triton's
# own and cannot be interpreted where something imported Triton before TRITON_INTERPRET was set.


@triton.jit  # type: ignore[untyped-decorator]
def _compare(
    scaled: tl.tensor,
    one: tl.tensor,
    other: tl.tensor,
    alpha: tl.tensor,
    left_out: tl.tensor,
    positives: tl.tensor,
    pairs: tl.tensor,
    xs: tl.tensor,
    aboves: tl.tensor,
    densities: tl.tensor,
    count: tl.tensor,
    most: tl.tensor,
    columns: tl.tensor,
    mixed: tl.constexpr,
    block_pairs: tl.constexpr,
    block_columns: tl.constexpr,
) -> None:
    """Sum for each pair the sigmoids of all others against its positive, and the sigmoids' derivatives."""
    index = tl.program_id(0) * block_pairs + tl.arange(0, block_pairs)
    exists = index < count
    pair = tl.load(pairs + index, mask=exists, other=0)
    query = pair // most
    positive = tl.load(positives + pair)
    skipped = tl.load(left_out + query)
    first = scaled + tl.load(one + query) * columns
    x = tl.load(first + positive)
    second = first
    share = tl.full([block_pairs], 1.0, tl.float32)
    if mixed:
        second = scaled + tl.load(other + query) * columns
        share = tl.load(alpha + query)
        x = share * x + (1 - share) * tl.load(second + positive)
    above = tl.full([block_pairs, block_columns], 0.0, tl.float32)
    density = tl.full([block_pairs, block_columns], 0.0, tl.float32)
    for start in range(0, columns, block_columns):
        column = (start + tl.arange(0, block_columns))[None, :]
        inside = column < columns
        s = tl.load(first[:, None] + column, mask=inside, other=0.0)
        if mixed:
            s = share[:, None] * s + (1 - share[:, None]) * tl.load(second[:, None] + column, mask=inside, other=0.0)
        ranked = inside & (column != positive[:, None]) & (column != skipped[:, None])
        step = 1 / (1 + tl.exp(x[:, None] - s))
        step = tl.where(ranked, step, 0.0)
        above += step
        density += step * (1 - step)
    tl.store(xs + pair, x, mask=exists)
    tl.store(aboves + pair, tl.reduce(above, 1, tl.standard._sum_combine), mask=exists)
    tl.store(densities + pair, tl.reduce(density, 1, tl.standard._sum_combine), mask=exists)


@triton.jit  # type: ignore[untyped-decorator]
def _weigh(
    scaled: tl.tensor,
    one: tl.tensor,
    other: tl.tensor,
    alpha: tl.tensor,
    left_out: tl.tensor,
    positives: tl.tensor,
    counts: tl.tensor,
    xs: tl.tensor,
    slopes: tl.tensor,
    densities: tl.tensor,
    rows: tl.tensor,
    local: tl.tensor,
    starts: tl.tensor,
    items: tl.tensor,
    shares: tl.tensor,
    gradient: tl.tensor,
    most: tl.tensor,
    columns: tl.tensor,
    mixed: tl.constexpr,
    block_columns: tl.constexpr,
) -> None:
    """Sum for one row the gradient to each column, over the queries that it is part of and their positives."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    inside = column < columns
    real = tl.load(rows + row)
    total = tl.full([block_columns], 0.0, tl.float32)
    for entry in range(tl.load(starts + real), tl.load(starts + real + 1)):
        query = tl.load(local + tl.load(items + entry))
        s = tl.load(scaled + tl.load(one + query) * columns + column, mask=inside, other=0.0)
        if mixed:
            share = tl.load(alpha + query)
            second = tl.load(scaled + tl.load(other + query) * columns + column, mask=inside, other=0.0)
            s = share * s + (1 - share) * second
        part = tl.full([block_columns], 0.0, tl.float32)
        for pair in range(query * most, query * most + tl.load(counts + query)):
            step = 1 / (1 + tl.exp(tl.load(xs + pair) - s))
            # the positive itself gets the sum of all the others' weights, with the other sign
            weight = tl.where(column == tl.load(positives + pair), -tl.load(densities + pair), step * (1 - step))
            part += tl.load(slopes + pair) * weight
        total += tl.load(shares + entry) * tl.where(column == tl.load(left_out + query), 0.0, part)
    tl.store(gradient + row * columns + column, total, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _fold(
    gradient: tl.tensor,
    starts: tl.tensor,
    items: tl.tensor,
    shares: tl.tensor,
    out: tl.tensor,
    columns: tl.tensor,
    real: tl.tensor,
    block_columns: tl.constexpr,
) -> None:
    """Sum for each real column of one row the gradient of all that it is part of, each by its share."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    inside = column < real
    first = tl.load(starts + column, mask=inside, other=0)
    count = tl.load(starts + column + 1, mask=inside, other=0) - first
    total = tl.full([block_columns], 0.0, tl.float32)
    for number in range(0, tl.reduce(count, 0, tl.standard._elementwise_max)):
        has = inside & (number < count)
        item = tl.load(items + first + number, mask=has, other=0)
        share = tl.load(shares + first + number, mask=has, other=0.0)
        total += share * tl.load(gradient + row * columns + item, mask=has, other=0.0)
    tl.store(out + row * real + column, total, mask=inside)


INTERPRETED = not isinstance(_compare, triton.JITFunction)  # TRITON_INTERPRET=1: Triton runs on the CPU
