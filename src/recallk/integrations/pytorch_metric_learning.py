"""For pytorch-metric-learning: recall@k with its signature, for its trainers and its cross-batch memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import recallk
from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.relevance import Positives
from recallk.loss.of_batch import Implementation

require("compare", "recallk.integrations.pytorch_metric_learning")

from pytorch_metric_learning import distances, losses  # noqa: E402

_NO_PAIRS = "recall@k ranks all items, and takes no pairs or triplets of a miner: leave the miner out"


class RecallAtKLoss(losses.BaseMetricLossFunction):  # type: ignore[misc]
    """The recall@k surrogate as a loss of pytorch-metric-learning.

    Called with `embeddings (B, D)` and `labels (B,)`, and perhaps `ref_emb (G, D)` and `ref_labels (G,)`, which are
    then ranked in place of the batch. The mean over the queries that have something to find; 0, as is usual there,
    where none has. In `CrossBatchMemory` of this module a query is not its own positive in the memory.

    Args:
        ks, rank_temperature, recall_temperature, query_in_database, implementation: as for `recallk.recall_at_k_loss`.
        others: `reducer`, `embedding_regularizer` and the like of `BaseMetricLossFunction`; the distance is the cosine.

    Raises:
        InputError: for values that do not fit, another distance, and where a miner has chosen pairs or triplets.

    >>> loss_fn = RecallAtKLoss(ks=(1, 2))
    >>> loss_fn(torch.eye(4).repeat_interleave(2, 0), torch.arange(8) // 2)
    tensor(0.5553)

    """

    def __init__(
        self,
        ks: Sequence[int] = (1, 2, 4, 8, 16),
        rank_temperature: float = 0.01,
        recall_temperature: float | Sequence[float] = 1.0,
        query_in_database: bool = True,
        implementation: Implementation = "auto",
        **others: Any,
    ) -> None:
        super().__init__(**others)
        if not isinstance(self.distance, distances.CosineSimilarity):
            raise InputError(f"distance={type(self.distance).__name__}: recall@k ranks by the cosine; leave it out")
        settings = recallk.RecallAtKLoss(
            ks, rank_temperature, recall_temperature, query_in_database, implementation=implementation
        )
        names = ("ks", "rank_temperature", "recall_temperature", "query_in_database", "implementation")
        self.settings: dict[str, Any] = {name: getattr(settings, name) for name in names}

    def get_default_distance(self) -> Any:
        """Return the cosine."""
        return distances.CosineSimilarity()

    def compute_loss(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Tensor, ref_labels: Tensor
    ) -> dict[str, Any]:
        """Return the loss of each query that has something to find, as the reducers take them."""
        if ref_emb is embeddings:
            if indices_tuple is not None:
                raise InputError(_NO_PAIRS)
            positives, gallery = Positives.from_labels(labels), None
        else:
            gallery = ref_emb
            positives = Positives.from_labels(labels, ref_labels, _own_rows(indices_tuple, labels, ref_labels))
        able = (positives.counts > 0).nonzero()[:, 0]
        if not len(able):
            nothing: dict[str, Any] = self.zero_losses()
            return nothing
        found = recallk.recall_at_k_loss(
            embeddings, gallery=gallery, positives=positives, reduction="none", **self.settings
        )
        return {"loss": {"losses": found, "indices": able, "reduction_type": "element"}}


class CrossBatchMemory(losses.CrossBatchMemory):  # type: ignore[misc]
    """pytorch-metric-learning's memory of earlier batches, which takes `RecallAtKLoss` as well.

    loss_fn = CrossBatchMemory(RecallAtKLoss(), embedding_size=512, memory_size=8192)

    """

    @staticmethod
    def supported_losses() -> list[str]:
        """Return the names of losses that a memory can be around."""
        return [*losses.CrossBatchMemory.supported_losses(), RecallAtKLoss.__name__]


def _own_rows(pairs: Any, labels: Tensor, ref_labels: Tensor) -> Tensor | None:
    """Return where each query itself stands among the references, -1 for nowhere, from the pairs of a memory.

    A memory gives all pairs, but for those of an item with itself. Raises InputError where others are missing.
    """
    if pairs is None:
        return None
    if len(pairs) != 4:
        raise InputError(_NO_PAIRS)
    anchors, found, others, different = (part.to(labels.device) for part in pairs)
    same = labels[:, None] == ref_labels.to(labels.device)
    places = torch.arange(len(ref_labels), device=labels.device)
    counts = same.sum(1) - torch.bincount(anchors, minlength=len(labels))
    whole = bool(((counts == 0) | (counts == 1)).all()) and len(different) == int((~same).sum())
    listed = torch.zeros_like(same)
    listed[anchors, found] = True
    if not whole or bool((listed & ~same).any()) or len(others) != len(different):
        raise InputError(_NO_PAIRS)
    missing = same & ~listed
    return torch.where(counts == 1, (missing * places).sum(1), -1)
