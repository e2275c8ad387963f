"""The loss of one step, with random numbers of its own, and how many queries it reached."""

import torch
from torch import Tensor, nn

from recallk.core.errors import InputError
from recallk.loss.reached import reached_share
from recallk.loss.recall_at_k import RecallAtKLoss


class StepLoss:
    """The loss of one step, called once; `reached_share` can be asked afterwards, with the same random numbers.

    The error for a divergence says when it was (`step`) and what to do (`remedy`).
    """

    def __init__(self, loss: nn.Module, seed: int, step: str, remedy: str) -> None:
        self._loss, self._seed, self._step, self._remedy = loss, seed, step, remedy

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss. Raises InputError where the embeddings are no numbers any more."""
        if not bool(torch.isfinite(embeddings.detach()).all()):
            raise InputError(f"{self._step}: the embeddings hold NaN or infinity; {self._remedy}")
        self._asked = embeddings.detach(), labels
        loss: Tensor = self._loss(embeddings, labels, generator=self._drawing())
        return loss

    def reached_share(self, loss: RecallAtKLoss) -> float:
        """Return the share of the step's queries that the loss reached."""
        return reached_share(loss, *self._asked, self._drawing())

    def _drawing(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)
