"""Recall and average precision by exact ranks, differentiated as a black box (Rolínek et al.)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recallk.core.precision import full_precision
from recallk.losses.unit_batch import unit_batch

Measure = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the ranks of items among all and among the positives: what each costs, and the slope by its rank among all."""


def of_recall(ranks: Tensor, among_positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(1 + log(1 + r)) for the `r` negatives ahead of an item, the paper's loss of recall, and its slope."""
    ahead = ranks - among_positives
    inner = torch.log1p(ahead)
    return torch.log1p(inner), 1 / ((1 + inner) * (1 + ahead))


def of_average_precision(ranks: Tensor, among_positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - the precision at the place of an item, and its slope."""
    precision = among_positives / ranks
    return 1 - precision, precision / ranks


def blackbox_loss(
    similarities: Tensor, relevant: Tensor, measure: Measure, strength: float = 4.0, margin: float = 0.02
) -> Tensor:
    """Return the mean over queries of the mean over their positives of what a positive costs by its rank.

    The rank of an item is exact: 1 for the highest score, ties in the order of the items. To be ahead is made harder
    for positives: `margin` lies between them and the negatives. In place of the slope of the ranks, which is zero,
    stands the difference between them and those of scores that are moved by `strength` (the paper's lambda) times
    the loss's slope by the rank, divided by `strength`. As in the authors' code a rank is a share of all items there
    (so `strength` means the same for batches of any size), and ranks among the positives are constants. The gradient
    is that of the loss itself, times whatever follows it: a scaled loss has a scaled gradient.

    Source: "Optimizing Rank-based Metrics with Blackbox Differentiation" (CVPR 2020, arXiv 1912.03500), without its
    memory of earlier batches' scores, which stands in for a large batch.

    Args:
        similarities: `(Q, G)` floats. Minus infinity for what is not to be ranked: it comes last.
        relevant: `(Q, G)` bool, which items answer which query. A query without any does not count.
        measure: `of_recall` or `of_average_precision`.
        strength: above 0.
        margin: 0 or more.

    Returns:
        A scalar, 0 or more, with a gradient; 0 without one where no query counts.

    >>> similarities = torch.tensor([[0.9, 0.8, 0.1]])
    >>> blackbox_loss(similarities, torch.tensor([[False, True, True]]), of_average_precision)  # 1 - (1/2 + 2/3) / 2
    tensor(0.4167)

    """
    answers = relevant.to(similarities.dtype)
    scores = similarities.detach() + margin * (0.5 - answers)
    order = _order(scores)
    ranks = _places(order).to(scores)
    among_positives = torch.empty_like(order).scatter_(1, order, relevant.gather(1, order).cumsum(1)).to(scores)
    positives = relevant.sum(1, keepdim=True)
    weights = answers / positives.clamp(min=1) / (positives > 0).sum().clamp(min=1)
    cost, slope = (of_each.masked_fill(~relevant, 0) for of_each in measure(ranks, among_positives))
    items = ranks.shape[1]
    moved = _places(_order(scores + strength * items * weights * slope)).to(scores)
    gradient: Tensor = (moved - ranks) / (items * strength)
    loss: Tensor = _GivenGradient.apply(similarities, (weights * cost).sum(), gradient)
    return loss


class BlackboxRanks(nn.Module):
    """`blackbox_loss` of a batch that ranks itself by cosine similarity; an item is not ranked for itself."""

    def __init__(self, measure: Measure, strength: float, margin: float) -> None:
        super().__init__()
        self.measure, self.strength, self.margin = measure, strength, margin

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, classes of any size."""
        del generator  # nothing is drawn
        unit, classes = unit_batch(embeddings, labels)
        itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
        with full_precision(unit.device):
            similarities = (unit @ unit.T).masked_fill(itself, -torch.inf)
            relevant = (classes[:, None] == classes) & ~itself
            return blackbox_loss(similarities, relevant, self.measure, self.strength, self.margin)


class _GivenGradient(torch.autograd.Function):
    """A value whose gradient is computed beforehand."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        del scores
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


def _order(scores: Tensor) -> Tensor:
    """Return the items of each row, the highest score first."""
    return scores.argsort(dim=1, descending=True, stable=True)


def _places(order: Tensor) -> Tensor:
    """Return the place of each item, from 1, in an `order`."""
    places = torch.arange(1, order.shape[1] + 1, device=order.device)
    return torch.empty_like(order).scatter_(1, order, places.expand_as(order))
