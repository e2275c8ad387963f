"""Losses of pytorch-metric-learning called as ours is, and two of them where the library is not right as it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recallk.core.errors import InputError


class LibraryLoss(nn.Module):
    """A loss, with its miner where it has one.

    What is drawn at random follows from the generator, and leaves PyTorch's random state as it is.
    """

    def __init__(self, name: str, loss: Any, miner: Any = None) -> None:
        super().__init__()
        self.name = name
        self.loss = loss
        self.miner = miner

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`.

        Raises InputError where the embeddings are no numbers any more: miners would stumble over them.
        """
        if not bool(torch.isfinite(embeddings.detach()).all()):
            raise InputError(f"loss={self.name}: the embeddings hold NaN or infinity: lower the learning rate")
        with _drawing_from(generator, embeddings.device):
            mined = [] if self.miner is None else [self.miner(embeddings, labels)]
            loss: Tensor = self.loss(embeddings, labels, *mined).reshape(())
        return loss


class MemoryLoss(LibraryLoss):
    """A loss inside the library's cross-batch memory; all of the memory is saved and restored with the module."""

    def get_extra_state(self) -> dict[str, int]:
        """Return what the memory keeps outside its buffers."""
        return {"place": int(self.loss.queue_idx), "full": int(self.loss.has_been_filled)}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore what `get_extra_state` returned."""
        self.loss.queue_idx, self.loss.has_been_filled = state["place"], bool(state["full"])


class EqualClasses(nn.Module):
    """Smooth-AP with the classes side by side, in any order.

    The library (2.9) takes the number of items of a class for the number of classes, and reads nothing else in the
    labels: it is given others, for which that is right.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss. Raises InputError for classes of unequal size."""
        counts = torch.unique(labels, return_counts=True)[1]
        if bool((counts != counts[0]).any()):
            raise InputError("loss=smooth-ap needs equally many items of each class in a batch")
        order = torch.argsort(labels, stable=True)
        standing_in = torch.arange(len(labels), device=labels.device) % counts[0]
        loss: Tensor = self.loss(embeddings[order], standing_in)
        return loss


class PairHistograms(nn.Module):
    """The histogram loss on every pair once.

    The library (2.9) collects the pairs from all triples, as lists that PyTorch will soon not take for an index, and
    fails at a similarity of 1.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the probability that a random negative pair is more similar than a random positive one."""
        similarities = self.loss.distance(embeddings).clamp(-1, 1 - 1e-6)
        same = labels[:, None] == labels
        once = torch.ones_like(same).triu(1)
        if not bool((same & once).any()) or bool(same.all()):
            return (embeddings * 0).sum()
        positive = self.loss.compute_density(similarities[same & once])
        negative = self.loss.compute_density(similarities[~same & once])
        loss: Tensor = (negative * positive.cumsum(0)).sum()
        return loss


@contextmanager
def _drawing_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Let PyTorch's own generators begin where the given one is; put them back afterwards."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
