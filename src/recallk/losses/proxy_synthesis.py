"""Normalised softmax over classes, and over further ones mixed from two (Gu, Ko and Kim)."""

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.arrays import normalised
from recallk.core.precision import full_precision
from recallk.losses.unit_batch import unit_batch


def proxy_synthesis_loss(
    unit: Tensor, labels: Tensor, proxies: Tensor, parents: Tensor, share: float, scale: float = 23.0
) -> Tensor:
    """Return the mean over items, real and mixed, of the cross-entropy of the proxies' similarities with them.

    Two items of different classes give a mixed one, `share` of the first and the rest of the second, and their
    proxies, mixed alike, the proxy of a class of which it is the only item.

    Source: "Proxy Synthesis: Learning with Synthetic Classes for Deep Metric Learning" (AAAI 2021, arXiv 2103.15454),
    on the normalised softmax, with which the authors publish their code and most of what they measure.

    Args:
        unit: `(B, D)` floats, rows of unit length.
        labels: `(B,)` integers from 0, below C.
        proxies: `(C, D)` floats, of any length but 0.
        parents: `(V, 2)` rows of two classes.
        share: in 0 .. 1.
        scale: above 0; 1 / temperature.

    Returns:
        A scalar, 0 or more, with a gradient.

    """

    def mixed(of_rows: Tensor) -> Tensor:
        return share * of_rows[parents[:, 0]] + (1 - share) * of_rows[parents[:, 1]]

    centres = normalised(proxies)
    items = torch.cat([unit, normalised(mixed(unit))])
    classes = torch.cat([centres, normalised(mixed(centres[labels]))])
    further = torch.arange(len(centres), len(classes), device=labels.device)
    return F.cross_entropy(scale * items @ classes.T, torch.cat([labels, further]))


class ProxySynthesis(nn.Module):
    """`proxy_synthesis_loss` of a batch, by cosine similarity; the proxies are its parameters.

    For each item there are `mu` mixed ones. In the authors' code neighbours in the batch are mixed, which must be of
    different classes; here a batch may have several items of a class, and the second parent is drawn among the items
    of the others. As there, the share is drawn once for a batch, from Beta(alpha, alpha).
    """

    def __init__(self, classes: int, embedding_size: int, alpha: float, mu: float, scale: float) -> None:
        super().__init__()
        self.alpha, self.mu, self.scale = alpha, mu, scale
        bound = embedding_size**-0.5  # as the authors draw them: Adam's steps are as large beside them as there
        self.proxies = nn.Parameter(torch.empty(classes, embedding_size).uniform_(-bound, bound))

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`; a batch of one class is not mixed.

        Drawn on the CPU, so that every device and every process gets the same.
        """
        unit, classes = unit_batch(embeddings, labels)
        parents = drawn_parents(classes, round(self.mu * len(classes)), generator)
        share = Random(int(torch.randint(2**63 - 1, (), generator=generator))).betavariate(self.alpha, self.alpha)
        with full_precision(unit.device):
            return proxy_synthesis_loss(unit, classes, self.proxies.to(unit), parents, share, self.scale)


def drawn_parents(labels: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` pairs of rows `(count, 2)` with two labels of `labels (B,)`; none where there is one label alone.

    No row is the first of a pair once more than another; the second is any row of another label, as likely as others.
    """
    ordered, order = torch.sort(labels, stable=True)
    start, stop = (torch.searchsorted(ordered, labels, right=right) for right in (False, True))
    others = len(labels) - (stop - start)
    if not bool(others.any()):
        count = 0
    first = torch.randperm(len(labels), generator=generator)[torch.arange(count) % len(labels)].to(labels.device)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64).to(labels.device)
    place = (drawn * others[first]).long()  # among the rows of other labels, those before one's own first
    own = torch.where(place >= start[first], (stop - start)[first], 0)
    return torch.stack([first, order[place + own]], dim=1)
