"""Average precision on a histogram of similarities (Revaud et al.)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.core.precision import full_precision
from recallk.losses.unit_batch import unit_batch


def listwise_ap_loss(similarities: Tensor, relevant: Tensor, bins: int = 20) -> Tensor:
    """Return 1 - the mean over queries of the quantised average precision.

    The similarities of a query are put into bins whose centres lie evenly from 1 down to -1: an item counts for the
    two centres that it lies between, the more for the nearer one; beyond the ends wholly for the last one. Precision
    at a bin is the share of relevant items in it and those before it; average precision is the sum over bins of
    precision times the share of all relevant items that are in the bin. Memory grows with Q times G, whatever the
    number of bins.

    Source: "Learning with Average Precision: Training Image Retrieval with a Listwise Loss" (ICCV 2019, arXiv
    1906.07589).

    Args:
        similarities: `(Q, G)` floats, in -1 .. 1 but for rounding.
        relevant: `(Q, G)` bool, which items answer which query; at least one for each. In a batch that ranks itself,
            a query is one of its own items.
        bins: at least 2.

    Returns:
        A scalar in 0 .. 1, with a gradient.

    Raises:
        InputError: for fewer than 2 bins.

    >>> similarities = torch.tensor([[1.0, 0.0, -1.0]])
    >>> listwise_ap_loss(similarities, torch.tensor([[True, False, True]]), bins=3)  # 1 - (1 / 1 + 2 / 3) / 2
    tensor(0.1667)

    """
    _check(bins)
    place = (1 - similarities) * ((bins - 1) / 2)
    upper = place.detach().floor().clamp(0, bins - 2).long()
    first, last = place.new_zeros(()), place.new_full((), bins - 1)
    # an item at an end, as one is for itself: of the end's own bin half the slope counts, as in the authors' code
    in_upper = 1 - (torch.maximum(place, first).clamp(max=bins - 1) - upper)
    in_lower = torch.minimum(place.clamp(min=0), last) - upper  # what counts for the bin after the upper one

    def histogram(weight: Tensor) -> Tensor:
        none = place.new_zeros(len(place), bins - 1)
        uppers, lowers = (none.scatter_add(1, upper, weight * share) for share in (in_upper, in_lower))
        return F.pad(uppers, (0, 1)) + F.pad(lowers, (1, 0))

    items, positives = histogram(torch.ones_like(place[:, :1]).expand_as(place)), histogram(relevant.to(place))
    precision = positives.cumsum(1) / (items.cumsum(1) + 1e-16)
    average_precision = (precision * positives).sum(1) / positives.sum(1)  # of all bins: how many are relevant
    return 1 - average_precision.mean()


class ListwiseAP(nn.Module):
    """`listwise_ap_loss` of a batch that ranks itself, by cosine similarity.

    Raises InputError for fewer than 2 bins.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        _check(bins)
        self.bins = bins

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, classes of any size."""
        del generator  # nothing is drawn
        unit, classes = unit_batch(embeddings, labels)
        with full_precision(unit.device):
            return listwise_ap_loss(unit @ unit.T, classes[:, None] == classes, self.bins)


def _check(bins: int) -> None:
    if bins < 2:
        raise InputError(f"bins={bins}: at least 2 are needed, one for each end")
