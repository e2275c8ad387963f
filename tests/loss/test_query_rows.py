"""Queries that stand in a gallery apart: a batch in shards is the batch."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk import RecallAtKLoss, recall_at_k_loss
from recallk.loss.kernels import blocks, tiled

ANYWHERE = st.sampled_from(["definition", "tiled"])


def batch(items: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return embeddings, some of them twice, and labels, one of them at least twice."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(items, 5, generator=generator, dtype=torch.float64)
    x = x[torch.randint(0, items, (items,), generator=generator)]
    labels = torch.randint(0, classes, (items,), generator=generator) * 3 - 4
    labels[-1] = labels[0]
    return x, labels


def in_shards(x: Tensor, labels: Tensor, shards: int, order: Tensor, detach: bool, options: Any) -> tuple[Tensor, ...]:
    """Return the losses of the shards' queries, each against the whole batch in some `order`, and both gradients."""
    place = torch.argsort(order)
    queries, database = x.clone().requires_grad_(), x.clone().requires_grad_()
    gallery = (database.detach() if detach else database)[order]
    losses = []
    for rows in torch.tensor_split(torch.arange(len(x)), shards):
        own = labels[rows]
        able = ((own[:, None] == labels).sum(1) > 1).any()
        if able:  # a shard in which no query has a positive is refused
            losses.append(
                recall_at_k_loss(
                    queries[rows], own, gallery, labels[order], query_rows=place[rows], reduction="none", **options
                )
            )
    together = torch.cat(losses)
    together.sum().backward()  # type: ignore[no-untyped-call]
    assert queries.grad is not None
    return together.detach(), queries.grad, torch.zeros_like(x) if database.grad is None else database.grad


@given(
    st.integers(2, 30),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    ANYWHERE,
    st.sampled_from([1, 1 << 19]),
)
@settings(max_examples=150, deadline=None)
def test_the_shards_of_a_batch_are_the_batch(
    items: int, classes: int, shards: int, seed: int, query_in_database: bool, implementation: Any, cut: int
) -> None:
    x, labels = batch(items, classes, seed)
    options = {"implementation": implementation, "query_in_database": query_in_database, "rank_temperature": 0.1}
    order = torch.randperm(items, generator=torch.Generator().manual_seed(seed))
    whole = x.clone().requires_grad_()
    expected = recall_at_k_loss(whole, labels, reduction="none", **options)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "TILE_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ROWS", 1 if cut == 1 else 128)
        losses, of_queries, of_gallery = in_shards(x, labels, shards, order, False, options)
        detached, of_queries_alone, nothing = in_shards(x, labels, shards, order, True, options)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(of_queries + of_gallery, expected_gradient, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(detached, losses)
    torch.testing.assert_close(of_queries_alone, of_queries)
    assert not nothing.any()


@pytest.mark.parametrize("implementation", ["definition", "tiled"])
def test_a_query_that_is_nowhere_has_all_positives(implementation: Any) -> None:
    x, labels = batch(20, 4, 0)
    losses = {
        name: recall_at_k_loss(
            x, labels, x, labels, query_rows=rows, reduction="none", implementation=implementation, ks=(1, 2)
        )
        for name, rows in {
            "none": None,
            "nowhere": torch.full((20,), -1),
            "all": torch.arange(20),
            "half": torch.where(torch.arange(20) < 10, torch.arange(20), -1),
        }.items()
    }
    assert losses["nowhere"].equal(losses["none"])
    assert (losses["all"] > losses["none"] + 0.01).any()
    torch.testing.assert_close(losses["half"], torch.cat([losses["all"][:10], losses["none"][10:]]))


def test_the_module_takes_them_too() -> None:
    x, labels = batch(20, 4, 1)
    loss = RecallAtKLoss(ks=(1, 2), query_in_database=False)
    assert loss(x, labels, x, labels, query_rows=torch.arange(20)).item() == pytest.approx(loss(x, labels).item())
    assert loss(x, labels, x, labels).item() < loss(x, labels).item()
