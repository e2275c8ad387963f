"""The share of queries with a usable gradient, against gradients of the loss itself."""

import pytest
import torch

from recallk import RecallAtKLoss, SimilarityMixup, recall_at_k_loss
from recallk.loss.usable import LEAST, usable_share


def batch(classes: int, spread: float, dimensions: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat(4)
    centres = torch.randn(classes, dimensions, generator=random)
    return centres[labels] + spread * torch.randn(len(labels), dimensions, generator=random), labels


@pytest.mark.parametrize("spread", [0.1, 0.7, 2.0])
def test_against_the_gradient_of_each_query_by_itself(spread: float) -> None:
    embeddings, labels = batch(20, spread)
    unit = torch.nn.functional.normalize(embeddings)
    lengths = []
    for q in range(len(labels)):  # the query alone against the others, so nothing else has a gradient
        others = torch.arange(len(labels)) != q
        similarity = (unit[others] @ unit[q]).requires_grad_()
        # one dimension an item, a query that picks it out: similarities are the embeddings
        query, gallery = torch.ones(1, 1), similarity[:, None]
        own = recall_at_k_loss(
            query, labels[q : q + 1], gallery, labels[others], ks=(1, 4), recall_temperature=0.5, normalized=True
        )
        lengths.append(torch.autograd.grad(own, similarity)[0].norm())
    found = torch.stack(lengths)
    expected = float((found >= LEAST * found.max()).float().mean())
    loss = RecallAtKLoss(ks=(1, 4), recall_temperature=0.5, query_in_database=False)
    assert usable_share(loss, embeddings, labels) == pytest.approx(expected)


def test_ranks_far_beyond_every_k_teach_nothing_and_geometric_ks_do() -> None:
    embeddings, labels = batch(200, spread=20.0)  # classes cannot be told apart: ranks are in the hundreds
    ks = tuple(2**n for n in range(10))
    paper = usable_share(RecallAtKLoss(), embeddings, labels)
    geometric = usable_share(RecallAtKLoss(ks=ks, recall_temperature=ks), embeddings, labels)
    assert paper < 0.3
    assert geometric > 0.9


@pytest.mark.parametrize("relatives", ["keep", "exclude"])
def test_virtual_queries_count_too(relatives: str) -> None:
    embeddings, labels = batch(10, spread=1.0)
    loss = RecallAtKLoss(mixup=SimilarityMixup(relatives))  # type: ignore[arg-type]
    share = usable_share(loss, embeddings, labels, torch.Generator().manual_seed(3))
    assert 0 < share <= 1
    assert share == usable_share(loss, embeddings, labels, torch.Generator().manual_seed(3))
    assert not embeddings.requires_grad
