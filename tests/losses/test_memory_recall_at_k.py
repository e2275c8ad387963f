"""Recall@k against a memory of earlier batches."""

import torch

from recallk import recall_at_k_loss
from tests.losses.made import CLASSES, batch, module


def test_recall_at_k_with_a_memory_ranks_the_latest_batches() -> None:
    loss = module("memory-recall@k", memory_size=40)
    batches = [batch(seed) for seed in range(4)]
    for number, (x, labels) in enumerate(batches):
        value = loss(x, labels)
        if number == 0:
            torch.testing.assert_close(value, recall_at_k_loss(x, labels))
            continue
        gallery = torch.cat([x for x, _ in batches[:number]])[-40:]
        gallery_labels = torch.cat([labels for _, labels in batches[:number]])[-40:]
        torch.testing.assert_close(value, recall_at_k_loss(x, labels, gallery, gallery_labels))
    strangers = labels + CLASSES
    torch.testing.assert_close(loss(x, strangers), recall_at_k_loss(x, strangers))
