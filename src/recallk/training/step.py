"""One step of training, made by all processes together, or by none: a step that fails leaves everything as it was."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.amp import GradScaler

from recallk.core import processes
from recallk.core.seeds import mixed_seed
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.models.batches import TwiceReadBatch
from recallk.models.embedder import Embedder
from recallk.training.precision import InPrecision, SeededChunk, check_gradients
from recallk.training.replay import Buffers
from recallk.training.setbacks import NotFiniteError, Setback, ShortOfMemoryError, check, shortage_told
from recallk.training.step_loss import PositivesOf, StepLoss
from recallk.training.stopping import Stopped, Stopping
from recallk.training.together import Together
from recallk.training.two_passes import BatchNorm, two_passes


@dataclass(frozen=True)
class Made:
    """What came of a step: its loss, the share of queries that this reached (recall@k only), and of chunks kept.

    Which queries are reached is found out for an epoch's first step.
    """

    loss: float
    reached: float | None
    kept: float


class _ChunksOfStep:
    """The chunks of a batch, each with random numbers of its own, which its number in the whole batch decides."""

    def __init__(self, batch: TwiceReadBatch, seeds: tuple[int, ...], stopping: Stopping) -> None:
        self._batch, self._seeds, self._stopping = batch, seeds, stopping

    def __iter__(self) -> Iterator[SeededChunk]:
        for number, chunk in enumerate(self._batch, start=self._batch.share.start):
            self._stopping.check()
            yield SeededChunk(mixed_seed(*self._seeds, number), chunk)

    def second_reading(self, kept: int) -> Iterator[SeededChunk]:
        """Yield the chunks behind the first `kept` again."""
        for number, chunk in enumerate(self._batch.second_reading(kept), start=self._batch.share.start + kept):
            self._stopping.check()
            yield SeededChunk(mixed_seed(*self._seeds, number), chunk)


class _Undo:
    """What a step moves besides gradients before it is made: the network's buffers, what a loss remembers."""

    def __init__(self, embedder: Embedder, loss: nn.Module) -> None:
        self._loss, self._buffers = loss, Buffers(embedder)
        self._memory = copy.deepcopy(loss.state_dict()) if any(True for _ in loss.buffers()) else None

    def restore(self) -> None:
        """Go back to what there was."""
        self._buffers.restore()
        if self._memory is not None:
            self._loss.load_state_dict(self._memory)


class StepMaker:
    """Makes steps: embeds a batch in two passes, back-propagates its loss, and moves the parameters."""

    def __init__(
        self,
        embedder: Embedder,
        loss: nn.Module,
        optimizer: Any,
        fabric: Fabric,
        scaler: GradScaler | None,
        batch_norm: BatchNorm,
        stopping: Stopping,
    ) -> None:
        self._embedder, self._loss, self._optimizer = embedder, loss, optimizer
        self._fabric, self._scaler, self._batch_norm, self._stopping = fabric, scaler, batch_norm, stopping
        self.network = InPrecision(embedder, fabric)
        self.positives_of: PositivesOf | None = None
        """Who is relevant to whom among items with such labels, where that is more than those with the same."""

    def make(
        self,
        batch: TwiceReadBatch,
        labels: Tensor,
        seeds: tuple[int, int, int],
        step: int,
        activation_memory: int,
        *,
        tell_reached: bool,
    ) -> Made:
        """Make the step of all processes, each with its `batch` and the labels `(n,)` of it.

        `seeds` are those of the run, the epoch and the batch's number in it, from which all follows that is drawn;
        `activation_memory` are bytes; with `tell_reached` the share of queries that recall@k reaches is measured too.

        Where the run is to stop, Stopped is raised, where loss or gradients are not finite, NotFiniteError, and where
        memory has run out, ShortOfMemoryError: parameters, moments, buffers and what the loss remembers are then as
        before the step.
        """
        self._optimizer.zero_grad()
        sizes = dict(zip(batch.share, batch.sizes, strict=True))
        loss_fn = StepLoss(self._loss, mixed_seed(*seeds), sizes, self._stopping, self.positives_of)
        undo = _Undo(self._embedder, self._loss)
        together = Together(self._embedder)

        def backward(loss: Tensor) -> None:
            self._fabric.backward(loss)
            loss_fn.exchanging = False

        try:
            with shortage_told(self._stopping, unless=lambda: loss_fn.exchanging):
                made = two_passes(
                    self.network,
                    _ChunksOfStep(batch, seeds, self._stopping),
                    labels,
                    loss_fn,
                    batch_norm=self._batch_norm,
                    backward=backward,
                    activation_memory=activation_memory,
                )
            loss = made.loss
            found = self._stopping.agree(also=Setback.NONE if math.isfinite(loss) else Setback.NOT_FINITE)
            check(found, not_finite=f"the loss is {float(loss)}")
            together.synchronise(chunks=len(batch.share))
            # what a loss learns all have computed alike, but for the order of a GPU's sums
            processes.copy_first([part.grad for part in self._loss.parameters() if part.grad is not None])
            check_gradients(self._optimizer, self._scaler, step)
        except Stopped as stopped:
            undo.restore()
            if not stopped.agreed:
                self._stopping.agree()
            raise
        except (NotFiniteError, ShortOfMemoryError):
            undo.restore()
            raise
        self._optimizer.step()
        reached = None
        if tell_reached and isinstance(self._loss, RecallAtKLoss):
            reached = loss_fn.reached_share(self._loss)
        return Made(float(loss), reached, made.kept / made.chunks)
