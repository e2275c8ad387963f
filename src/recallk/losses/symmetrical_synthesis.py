"""N-pair loss with mirrored points as hard negatives (Gu and Ko)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.precision import full_precision
from recallk.losses.unit_batch import unit_batch


def symmetrical_synthesis_loss(unit: Tensor, labels: Tensor, scale: float = 20.0) -> Tensor:
    """Return the mean over pairs of a class of how much nearer its negatives are than the pair's two items.

    Each point of a pair is mirrored about the other: the mirrored point is as long, and as similar to the axis, as
    the original. Between pairs of two classes counts the largest of the 16 similarities of the four points of one
    with the four of the other; between the items of a pair their own. A pair costs log(1 + the sum over pairs of other
    classes of exp(`scale` (largest - own))): the N-pair loss, with which the paper's recall@1 is the best on
    each of its three data sets.

    Not from the paper: a class of more than two items gives the pairs of its first and second item in the batch, its
    third and fourth, and so on; its other pairs are no negatives, the item left of an odd number takes no part. The
    paper's embeddings have lengths of their own, ours are of unit length: the scale stands in for them.

    Source: "Symmetrical Synthesis for Deep Metric Learning" (AAAI 2020, arXiv 2001.11658); alpha is 2, beta 1.

    Args:
        unit: `(B, D)` floats, rows of unit length.
        labels: `(B,)` integers.
        scale: above 0.

    Returns:
        A scalar, 0 or more, with a gradient; 0 for a batch without pairs, or of one class.

    """
    pairs = _pairs(labels)
    if len(pairs) == 0:
        return (unit * 0).sum()
    one, other = unit[pairs[:, 0]], unit[pairs[:, 1]]
    own = (one * other).sum(1, keepdim=True)
    points = torch.stack([one, other, 2 * own * other - one, 2 * own * one - other], dim=1).flatten(0, 1)
    largest = (points @ points.T).reshape(len(pairs), 4, len(pairs), 4).amax(dim=(1, 3))
    classes = labels[pairs[:, 0]]
    nearer = (scale * (largest - own)).masked_fill(classes[:, None] == classes, -torch.inf)
    return F.pad(nearer, (0, 1)).logsumexp(1).mean()


class SymmetricalSynthesis(nn.Module):
    """`symmetrical_synthesis_loss` of a batch, by cosine similarity."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, classes of any size."""
        del generator  # nothing is drawn
        unit, classes = unit_batch(embeddings, labels)
        with full_precision(unit.device):
            return symmetrical_synthesis_loss(unit, classes, self.scale)


def _pairs(labels: Tensor) -> Tensor:
    """Return pairs of rows `(V, 2)` of a class: its first and second in the batch, its third and fourth, ..."""
    ordered, order = torch.sort(labels, stable=True)
    place = torch.arange(len(labels), device=labels.device) - torch.searchsorted(ordered, ordered)
    first = torch.nonzero((place[:-1] % 2 == 0) & (ordered[1:] == ordered[:-1]))[:, 0]
    return torch.stack([order[first], order[first + 1]], dim=1)
