"""Recall@k against a memory: earlier batches are the gallery."""

import torch
from torch import Tensor, nn

from recallk.loss.recall_at_k import RecallAtKLoss


class MemoryRecallAtK(nn.Module):
    """Ranks the embeddings of the latest batches, without a gradient, for the queries of this one.

    As long as the memory holds no positive of any query, the batch ranks itself. The memory is saved and restored
    with the module. Source: "Cross-Batch Memory for Embedding Learning" (CVPR 2020), around our loss.
    """

    def __init__(self, loss: RecallAtKLoss, memory_size: int, embedding_size: int) -> None:
        super().__init__()
        self.loss = loss
        self.embeddings: Tensor
        self.labels: Tensor
        self.seen: Tensor
        self.register_buffer("embeddings", torch.zeros(memory_size, embedding_size))
        self.register_buffer("labels", torch.zeros(memory_size, dtype=torch.long))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, embeddings: Tensor, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, then remember them."""
        filled = min(int(self.seen), len(self.labels))
        gallery_labels = self.labels[:filled].clone()
        if bool(torch.isin(labels, gallery_labels).any()):
            gallery = self.embeddings[:filled].clone()  # the memory moves on before the gradient is taken
            loss: Tensor = self.loss(embeddings, labels, gallery, gallery_labels, generator=generator)
        else:
            loss = self.loss(embeddings, labels, generator=generator)
        self._remember(embeddings.detach(), labels)
        return loss

    def _remember(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put a batch, no larger than the memory, in the place of the oldest."""
        places = (self.seen + torch.arange(len(labels), device=labels.device)) % len(self.labels)
        self.embeddings[places] = embeddings.to(self.embeddings.dtype)
        self.labels[places] = labels
        self.seen += len(labels)
