"""Multi-similarity loss with mixed embeddings, positive to a degree (Venkataramanan et al.)."""

import math
from random import Random
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.precision import full_precision
from recallk.losses.unit_batch import unit_batch

Mixed = Literal["positives", "anchors"]


def metrix_loss(
    unit: Tensor,
    labels: Tensor,
    mixed: Mixed,
    share: float,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    weight: float = 0.4,
) -> Tensor:
    """Return the mean over anchors of the multi-similarity loss, plus `weight` times that of mixed items.

    An anchor's mixed items are all that have `share` of one of its positives, or of the anchor itself, and the rest of
    one of its negatives, brought to unit length. A mixed item counts as a positive with the weight `share`, as a
    negative with the rest: log(1 + share * sum of exp(-`alpha` (s - `base`))) / `alpha`, and
    log(1 + (1 - share) * sum of exp(`beta` (s - `base`))) / `beta`. No pairs are mined.

    Source: "It Takes Two to Tango: Mixup for Deep Metric Learning" (ICLR 2022, arXiv 2106.04990), section 3, at the
    level of embeddings. The authors' code is of the contrastive loss alone; it mixes the first positive of an anchor,
    and anchors that have none.

    Args:
        unit: `(B, D)` floats, rows of unit length.
        labels: `(B,)` integers.
        mixed: what is mixed with the negatives.
        share: between 0 and 1, neither of them.
        alpha: how steep it is for positives; above 0.
        beta: how steep it is for negatives; above 0.
        base: the similarity from which on positives cost less and negatives more.
        weight: of the mixed items; 0 or more.

    Returns:
        A scalar, 0 or more, with a gradient.

    """
    similarities = unit @ unit.T
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)

    def as_positives(of: Tensor) -> Tensor:
        return -alpha * (of - base)

    def as_negatives(of: Tensor) -> Tensor:
        return beta * (of - base)

    loss = _log_of_sums(as_positives(similarities).masked_fill(~same | itself, -torch.inf)) / alpha
    loss = loss + _log_of_sums(as_negatives(similarities).masked_fill(same, -torch.inf)) / beta
    anchors, partners = torch.nonzero(itself if mixed == "anchors" else same & ~itself).unbind(1)
    if weight == 0 or len(anchors) == 0 or bool(same.all()):
        return loss.mean()

    rest = 1 - share
    squares = share**2 + rest**2 + 2 * share * rest * similarities[partners]  # of the lengths of what is mixed
    of_mixed = share * similarities[anchors, partners][:, None] + rest * similarities[anchors]
    of_mixed = of_mixed / squares.clamp(min=1e-12).sqrt()

    def summed(exponents: Tensor) -> Tensor:
        """Sum over negatives, then over partners, whose sums are laid into a table of all pairs."""
        over_negatives = exponents.masked_fill(same[anchors], -torch.inf).logsumexp(1)
        table = torch.full_like(similarities, -torch.inf).index_put((anchors, partners), over_negatives)
        return _log_of_sums(table)

    loss = loss + weight * summed(as_positives(of_mixed) + math.log(share)) / alpha
    loss = loss + weight * summed(as_negatives(of_mixed) + math.log(rest)) / beta
    return loss.mean()


class Metrix(nn.Module):
    """`metrix_loss` of a batch, by cosine similarity.

    Once for a batch are drawn the share, from Beta(mixup_alpha, mixup_alpha), and, with even chances, what is mixed
    with the negatives.
    """

    def __init__(
        self, alpha: float, beta: float, base: float, *, mixup_alpha: float = 2.0, mixup_weight: float = 0.4
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.base = alpha, beta, base
        self.mixup_alpha, self.mixup_weight = mixup_alpha, mixup_weight

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, classes of any size."""
        unit, classes = unit_batch(embeddings, labels)
        random = Random(int(torch.randint(2**63 - 1, (), generator=generator)))
        mixed: Mixed = "positives" if random.random() < 0.5 else "anchors"
        share = random.betavariate(self.mixup_alpha, self.mixup_alpha)
        share = min(max(share, 1e-6), 1 - 1e-6)  # a small alpha draws 0 and 1, whose logarithms are not finite
        steepness = {"alpha": self.alpha, "beta": self.beta, "base": self.base}
        with full_precision(unit.device):
            return metrix_loss(unit, classes, mixed, share, **steepness, weight=self.mixup_weight)


def _log_of_sums(exponents: Tensor) -> Tensor:
    """Return log(1 + the sum over a row of exp(x)) of `exponents (N, M)`; minus infinity leaves one out."""
    return F.pad(exponents, (0, 1)).logsumexp(1)
