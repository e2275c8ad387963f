"""The share of queries that the loss reaches, against gradients of the loss itself."""

import pytest
import torch

from recallk import RecallAtKLoss, SimilarityMixup, recall_at_k_loss
from recallk.loss.reached import LEAST, reached_share


def batch(classes: int, spread: float, dimensions: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat(4)
    centres = torch.randn(classes, dimensions, generator=random)
    return centres[labels] + spread * torch.randn(len(labels), dimensions, generator=random), labels


@pytest.mark.parametrize("query_in_database", [True, False])
@pytest.mark.parametrize("spread", [0.1, 0.7, 2.0, 9.0])
def test_against_the_gradient_of_each_query_by_itself(spread: float, query_in_database: bool) -> None:
    embeddings, labels = batch(20, spread)
    unit = torch.nn.functional.normalize(embeddings)
    lengths, beyond = [], []
    for q in range(len(labels)):  # the query alone against the others, so nothing else has a gradient
        others = torch.arange(len(labels)) != q
        similarity = unit[others] @ unit[q]
        relevant = labels[others] == labels[q]
        gallery_labels = labels[others]
        if query_in_database:  # as one item more, of a class of its own, above all others
            similarity = torch.cat([similarity, torch.ones(1)])
            relevant = torch.cat([relevant, torch.tensor([False])])
            gallery_labels = torch.cat([gallery_labels, torch.tensor([99])])
        similarity.requires_grad_()
        # one dimension, a query of 1: similarities are the embeddings
        own = recall_at_k_loss(
            torch.ones(1, 1),
            labels[q : q + 1],
            similarity[:, None],
            gallery_labels,
            ks=(1, 4),
            recall_temperature=0.5,
            normalized=True,
        )
        lengths.append(torch.autograd.grad(own, similarity)[0].norm())
        ranks = similarity.detach().argsort(descending=True)
        beyond.append(int(relevant[ranks].int().argmax()) >= 4)
    found = torch.stack(lengths)
    expected = float((~((found <= LEAST * found.max()) & torch.tensor(beyond))).float().mean())
    assert spread < 1 or expected < 1
    loss = RecallAtKLoss(ks=(1, 4), recall_temperature=0.5, query_in_database=query_in_database)
    assert reached_share(loss, embeddings, labels) == pytest.approx(expected)


@pytest.mark.parametrize("query_in_database", [True, False])
def test_a_solved_batch_is_in_reach_and_a_lost_one_is_not(query_in_database: bool) -> None:
    labels = torch.arange(50).repeat(4)
    solved = torch.eye(50)[labels] + 1e-3 * torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    loss = RecallAtKLoss(query_in_database=query_in_database)
    assert reached_share(loss, solved, labels) == 1
    lost = torch.eye(50)[torch.arange(200) // 4]  # every item's nearest are of three other classes
    lost = lost + 0.01 * torch.eye(50)[labels]
    assert reached_share(RecallAtKLoss(ks=(1,), recall_temperature=0.01), lost, labels) == 0


def test_ranks_far_beyond_every_k_teach_nothing_and_geometric_ks_do() -> None:
    embeddings, labels = batch(200, spread=20.0)  # classes cannot be told apart: ranks are in the hundreds
    ks = tuple(2**n for n in range(10))
    paper = reached_share(RecallAtKLoss(), embeddings, labels)
    geometric = reached_share(RecallAtKLoss(ks=ks, recall_temperature=ks), embeddings, labels)
    assert paper < 0.3
    assert geometric > 0.9


@pytest.mark.parametrize("relatives", ["keep", "exclude"])
def test_virtual_queries_count_too(relatives: str) -> None:
    """A virtual item has its parents among the first, unless relatives are left out."""
    embeddings, labels = batch(200, spread=20.0)
    embeddings.requires_grad_()
    loss = RecallAtKLoss(mixup=SimilarityMixup(relatives))  # type: ignore[arg-type]
    share = reached_share(loss, embeddings, labels, torch.Generator().manual_seed(3))
    assert share == reached_share(loss, embeddings, labels, torch.Generator().manual_seed(3))
    assert share > 0.6 if relatives == "keep" else share < 0.3
    assert embeddings.grad is None
