"""Recall@k as a loss of pytorch-metric-learning, alone and in its cross-batch memory."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.loss.recall_at_k import RecallAtKLoss

require("pytorch-metric-learning", "recallk.integrations.pytorch_metric_learning")

from pytorch_metric_learning import distances, losses  # noqa: E402


@dataclass(frozen=True)
class OwnRows:
    """Where the items of a batch stand in the memory themselves, `(B,)`; None where they are not in it."""

    rows: Tensor | None


class RecallAtKMetricLoss(losses.BaseMetricLossFunction):  # type: ignore[misc]
    """`recallk.RecallAtKLoss` with the signature of that library's losses, for its trainers, testers and wrappers.

    The value is that of `loss_fn`, a mean over the queries that have a positive; so there is no `reducer` to choose,
    and no `distance`: similarities are cosines. What a miner picks has no meaning for ranks, and is refused.

    Args:
        loss_fn: the settings, mixup among them; by default those of `recallk.RecallAtKLoss()`.
        embedding_regularizer: of the library, added to the loss.
        embedding_reg_weight: its weight.

    Raises:
        InputError: where `loss_fn` is another loss; when called, for the indices of a miner, and as `loss_fn` does.

    >>> import torch
    >>> loss_fn = RecallAtKMetricLoss(RecallAtKLoss(ks=(1, 2, 4)))
    >>> loss_fn(torch.eye(4).repeat_interleave(2, 0), torch.arange(8) // 2)
    tensor(0.3586)

    """

    def __init__(
        self,
        loss_fn: RecallAtKLoss | None = None,
        *,
        embedding_regularizer: Any = None,
        embedding_reg_weight: float = 1,
    ) -> None:
        super().__init__(embedding_regularizer=embedding_regularizer, embedding_reg_weight=embedding_reg_weight)
        if not isinstance(loss_fn, RecallAtKLoss | None):
            raise InputError(f"loss_fn is of type {type(loss_fn).__name__}: recallk.RecallAtKLoss(...) is needed")
        self.loss_fn = RecallAtKLoss() if loss_fn is None else loss_fn

    def get_default_distance(self) -> Any:
        """Return the library's name for what is ranked by."""
        return distances.CosineSimilarity()

    def compute_loss(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Tensor, ref_labels: Tensor
    ) -> dict[str, dict[str, Any]]:
        """Return the loss of `embeddings (B, D)` with `labels (B,)` for a reducer.

        References `(G, D)` with labels `(G,)` are a gallery apart; the library says that there are none by giving the
        embeddings again.
        """
        if not isinstance(indices_tuple, OwnRows | None):
            raise InputError(
                "indices_tuple: pairs and triplets have no meaning for recall@k, which ranks all items: "
                "leave out the miner, and efficient=True of DistributedLossWrapper"
            )
        if ref_emb is embeddings:
            loss = self.loss_fn(embeddings, labels)
        else:
            rows = None if indices_tuple is None else indices_tuple.rows
            loss = self.loss_fn(embeddings, labels, ref_emb, ref_labels, query_rows=rows)
        return {"loss": {"losses": loss, "indices": None, "reduction_type": "already_reduced"}}


class CrossBatchMemory(losses.CrossBatchMemory):  # type: ignore[misc]
    """The library's memory of earlier batches, which does not take losses that it does not know, for recall@k.

    The batch is put into the memory and ranked against all of it; an item is not its own positive there. With
    `enqueue_mask (B,)`, items of the batch are either put there or ranked. `memory_size` must not be below the batch.

    Args:
        loss: a `RecallAtKMetricLoss`, without mixup, which mixes a batch with itself.
        embedding_size: D.
        memory_size: so many of the latest items are ranked.

    Raises:
        InputError: for another loss, and for mixup; when called, for the indices of a miner, and for a batch that is
            larger than the memory.

    Source: "Cross-Batch Memory for Embedding Learning" (CVPR 2020).

    """

    def __init__(self, loss: RecallAtKMetricLoss, embedding_size: int, memory_size: int = 1024) -> None:
        if not isinstance(loss, RecallAtKMetricLoss):
            raise InputError(
                f"loss is of type {type(loss).__name__}: RecallAtKMetricLoss is needed; "
                "losses of the library go into its own CrossBatchMemory"
            )
        if loss.loss_fn.mixup is not None:
            raise InputError("similarity mixup mixes a batch with itself: leave out the memory or the mixup")
        super().__init__(loss, embedding_size, memory_size)

    @staticmethod
    def supported_losses() -> list[str]:
        """Return the names of the losses that the memory takes."""
        return [RecallAtKMetricLoss.__name__]

    def forward(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Any = None, enqueue_mask: Tensor | None = None
    ) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, which are remembered."""
        remembered = len(embeddings) if enqueue_mask is None else int(enqueue_mask.sum())
        if remembered > self.memory_size:
            raise InputError(f"memory_size={self.memory_size} is below the batch of {remembered} items: raise it")
        loss: Tensor = super().forward(embeddings, labels, indices_tuple, enqueue_mask)
        return loss

    def create_indices_tuple(self, *given: Any) -> Any:
        """Say which items of the memory are those of the batch, in place of all pairs but these.

        The library gives batch, memory, the indices of a miner, and whether the batch is in the memory.
        """
        *_, mined, in_memory = given
        if mined is not None:
            return mined  # which the loss refuses
        return OwnRows(self.curr_batch_idx if in_memory else None)
