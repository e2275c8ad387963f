"""The loss as one differentiable operation around a kernel, which computes losses and gradients together.

A kernel computes the batch in blocks, without a matrix of all pairs. `tiled.kernel` computes every objective in plain
PyTorch on any device, `symmetric.kernel` some of them in less time, `fused.kernel` with Triton. They share what is
here: the objective and the step from ranks to the loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.precision import full_precision
from recallk.core.relevance import Positives
from recallk.loss.kernels.mixing import Mixing, related
from recallk.loss.pruning import positive_limit

WHOLE = 0, 1


@dataclass(frozen=True)
class Objective:
    """What a kernel computes for the embeddings it is given: the positives and the settings of the loss."""

    mixing: Mixing | None
    positives: Positives
    has_positive: Tensor  # (Q,)
    positive_limit: int  # how many of a query's positives can count: see `pruning`
    ks: Tensor
    rank_temperature: float
    recall_temperatures: Tensor
    left_out: Tensor | None  # (Q,) the database row that each query does not rank, itself; -1 for none
    share: tuple[int, int] = WHOLE  # which part of the queries is computed, from 0, and of how many: see `blocks.cut`


Kernel = Callable[[Tensor, Tensor | None, Objective, Tensor | None], tuple[Tensor, Tensor | None, Tensor | None]]
"""From queries, gallery, objective and `weights (Q',)` to the losses `(Q',)` and, where weights are given, the
gradients of the losses' weighted sum to the queries and to the gallery (None without one). Of the objective's share
alone: the losses of the other queries are zero."""


def objective_of(
    queries: Tensor,
    positives: Positives,
    *,
    ks: Sequence[int],
    rank_temperature: float,
    recall_temperatures: Sequence[float],
    query_in_database: bool,
    mix_pairs: Tensor | None = None,
    mix_alpha: Tensor | None = None,
    exclude_relatives: bool = False,
    share: tuple[int, int] = WHOLE,
) -> Objective:
    """Return the objective of `definition.losses`, with the same settings.

    `positives` of all queries, with mixup also of the virtual ones. `share`: which part of them is computed, and of how
    many; the losses and gradients of all parts add up to the whole.
    """
    mixing = None
    counts = positives.counts
    if mix_pairs is not None and mix_alpha is not None:
        parents = None
        if exclude_relatives:
            parents = torch.cat([torch.arange(len(queries), device=queries.device)[:, None].expand(-1, 2), mix_pairs])
            counts = counts - _count_relatives(parents, positives)
        mixing = Mixing(mix_pairs, mix_alpha.to(queries.dtype), parents)
    return Objective(
        mixing=mixing,
        positives=positives,
        has_positive=counts > 0,
        positive_limit=positive_limit(ks, recall_temperatures, positives.gallery_size),
        ks=torch.tensor(ks, dtype=queries.dtype, device=queries.device),
        rank_temperature=rank_temperature,
        recall_temperatures=torch.tensor(recall_temperatures, dtype=queries.dtype, device=queries.device),
        left_out=None if query_in_database or not bool((positives.query_rows >= 0).any()) else positives.query_rows,
        share=share,
    )


def loss(queries: Tensor, gallery: Tensor | None, objective: Objective, kernel: Kernel, mean: bool = True) -> Tensor:
    """Return the mean of `definition.losses`, or, without `mean`, the same losses one per query `(Q',)`.

    float32 or float64. For the mean the kernel runs once; for the losses one by one it runs again for their
    gradient, since its weights come with the backward pass.
    """
    differentiate = torch.is_grad_enabled() and (
        queries.requires_grad or (gallery is not None and gallery.requires_grad)
    )
    result: Tensor = _Streamed.apply(queries, gallery, objective, mean, differentiate, kernel)
    return result


def _count_relatives(parents: Tensor, positives: Positives) -> Tensor:
    """Return how many of each query's positives are its relatives `(Q,)`."""
    most = max(1, int(positives.counts.max()))
    everyone = torch.arange(len(parents), device=parents.device)
    counts = []
    for queries in torch.split(everyone, max(1, (1 << 20) // most)):  # a few large classes would fill the memory
        columns, exists = positives.numbered(queries, 0, most)
        counts.append((related(parents, queries, columns) & exists).sum(1))
    return torch.cat(counts)


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        gallery: Tensor | None,
        objective: Objective,
        mean: bool,
        differentiate: bool,
        kernel: Kernel,
    ) -> Tensor:
        count = int(objective.has_positive.sum())
        weights = queries.new_full((count,), 1 / count) if mean and differentiate else None
        losses, *gradients = kernel(queries, gallery, objective, weights)
        ctx.objective, ctx.mean, ctx.kernel = objective, mean, kernel
        if differentiate:  # the mean saves its gradients, the single losses what they are computed from
            ctx.save_for_backward(*(gradients if mean else (queries, gallery)))
        return losses.mean() if mean else losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # PyTorch's `once_differentiable` is not enough: where the upstream gradient needs no gradient itself, as is
        # usual here, it returns constants instead of an error
        if torch.is_grad_enabled():  # in a backward pass that is what create_graph=True means
            raise InputError(
                "second derivatives (create_graph=True) of the loss are known to implementation='definition' alone: "
                "choose that, or leave out create_graph"
            )
        if ctx.mean:
            gradients = [None if g is None else g * upstream for g in ctx.saved_tensors]
        else:
            queries, gallery = ctx.saved_tensors
            with full_precision(queries.device):
                _, *gradients = ctx.kernel(queries, gallery, ctx.objective, upstream)
        return *gradients, None, None, None, None


def recall(ranks: Tensor, exists: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Return the losses `(T,)` of ranks `(T, P)`, and their derivatives by each rank `(T, P)`."""
    k = objective.ks
    # of pruned positives more than k are left: the smaller of both is the same
    normaliser = torch.minimum(k, exists.sum(1, keepdim=True)) * len(k)  # (T, K)
    hits = torch.sigmoid((k - ranks[:, :, None]) / objective.recall_temperatures)  # (T, P, K)
    hits = hits * exists[:, :, None]
    total = hits.sum(1)
    losses = 1 - (torch.minimum(total, k) / normaliser).sum(1)
    per_hit = (total <= k) / (normaliser * objective.recall_temperatures)  # where capped, the gradient is zero
    slope = torch.einsum("tpk,tk->tp", hits * (1 - hits), per_hit)
    return losses, slope
