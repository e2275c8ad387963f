"""The loss of one step, with random numbers of its own, and how many queries it reached."""

import torch
from torch import Tensor, nn

from recallk.core import processes
from recallk.loss.reached import reached_share
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.training.stopping import Stopping


class StepLoss:
    """The loss of one step, called once; `reached_share` can be asked afterwards, with the same random numbers.

    In a group it is the loss of all processes' embeddings together. The error for a divergence says when it was
    (`step`) and what to do (`remedy`).
    """

    def __init__(self, loss: nn.Module, seed: int, step: str, remedy: str, stopping: Stopping) -> None:
        self._loss, self._seed, self._step, self._remedy, self._stopping = loss, seed, step, remedy, stopping

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss. Raises InputError where the embeddings are no numbers any more, and Stopped."""
        broken = not bool(torch.isfinite(embeddings.detach()).all())
        if self._stopping.agree(also=broken):
            raise processes.SharedError(f"{self._step}: the embeddings hold NaN or infinity; {self._remedy}")
        self._asked = embeddings.detach(), labels
        if not getattr(self._loss, "gather_across_devices", False):  # all compute the same
            embeddings, labels = processes.gather_rows(embeddings, parts=False), processes.gather(labels)
        loss: Tensor = self._loss(embeddings, labels, generator=self._drawing())
        return loss

    def reached_share(self, loss: RecallAtKLoss) -> float:
        """Return the share of the step's queries that the loss reached."""
        embeddings, labels = self._asked
        return reached_share(loss, processes.gather(embeddings), processes.gather(labels), self._drawing())

    def _drawing(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)
