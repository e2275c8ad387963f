"""The loss of one step, with random numbers of its own, and how many queries it reached."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recallk.core import processes
from recallk.core.relevance import Positives
from recallk.loss.reached import reached_share
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.training.setbacks import NotFiniteError, Setback, check
from recallk.training.stopping import Stopping

PositivesOf = Callable[[Tensor], Positives]
_NO_CHUNK = 2**62
"""Beyond the number of any chunk."""


class StepLoss:
    """The loss of one step, called once; `reached_share` can be asked afterwards, with the same random numbers.

    In a group it is the loss of all processes' embeddings together. `sizes` are those of this process's chunks, by
    their numbers in the whole batch, from 0.
    """

    def __init__(
        self, loss: nn.Module, seed: int, sizes: dict[int, int], stopping: Stopping, positives_of: PositivesOf | None
    ) -> None:
        self._loss, self._seed, self._sizes, self._stopping = loss, seed, sizes, stopping
        self._positives_of = positives_of
        self.exchanging = False
        """Whether processes may be in the middle of an exchange; whoever calls the backward pass says when it ends."""

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss. Raises NotFiniteError where embeddings are no numbers any more, and Stopped."""
        broken = ~torch.isfinite(embeddings.detach()).all(1)
        found = self._stopping.agree(also=Setback.NOT_FINITE if bool(broken.any()) else Setback.NONE)
        if found == Setback.NOT_FINITE:
            raise NotFiniteError(f"the embeddings of chunk {self._first_of(broken)} hold NaN or infinity")
        check(found)
        self.exchanging = not processes.is_alone()
        self._asked = embeddings.detach(), labels
        if not getattr(self._loss, "gather_across_devices", False):  # all compute the same
            embeddings, labels = processes.gather_rows(embeddings, parts=False), processes.gather(labels)
        loss: Tensor
        if self._positives_of is not None:
            loss = self._loss(embeddings, positives=self._positives_of(labels))
        else:
            loss = self._loss(embeddings, labels, generator=self._drawing())
        return loss

    def reached_share(self, loss: RecallAtKLoss) -> float:
        """Return the share of the step's queries that the loss reached."""
        embeddings, labels = map(processes.gather, self._asked)
        positives = None if self._positives_of is None else self._positives_of(labels)
        return reached_share(loss, embeddings, labels, self._drawing(), positives)

    def _drawing(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)

    def _first_of(self, broken: Tensor) -> int:
        """Return the number, from 1, of the first chunk in any process that has such a row."""
        parts = torch.split(broken, list(self._sizes.values()))
        found = [number + 1 for number, part in zip(self._sizes, parts, strict=True) if bool(part.any())]
        return -processes.largest(-min(found, default=_NO_CHUNK))[0]
