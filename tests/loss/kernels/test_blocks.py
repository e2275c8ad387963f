"""Shares of a batch: together they are the batch, and each is about as much work."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk.core.relevance import Positives
from recallk.loss.kernels import blocks, streamed, symmetric, tiled
from recallk.loss.kernels.streamed import WHOLE, Objective
from recallk.loss.kernels.unit import unit_rows
from recallk.loss.mixup import labels_of_all
from tests.loss.problems import LossProblem, loss_problems


def objective_of(problem: LossProblem, share: tuple[int, int]) -> Objective:
    options: dict[str, Any] = dict(problem.settings)
    options["recall_temperatures"] = options.pop("recall_temperature")
    options["exclude_relatives"] = options.pop("mix_relatives", "keep") == "exclude"
    labels = labels_of_all(problem.labels, options["mix_pairs"]) if "mix_pairs" in options else problem.labels
    positives = Positives.from_labels(labels, problem.gallery_labels, options.pop("query_rows", None))
    return streamed.objective_of(problem.embeddings, positives, share=share, **options)


def solve(problem: LossProblem, share: tuple[int, int], mean: bool) -> tuple[Tensor, list[Tensor]]:
    inputs = [unit_rows(x).requires_grad_() for x in (problem.embeddings, problem.gallery) if x is not None]
    gallery = inputs[1] if len(inputs) > 1 else None
    loss = streamed.loss(inputs[0], gallery, objective_of(problem, share), tiled.kernel, mean)
    weights = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    return loss.detach(), list(torch.autograd.grad((loss * weights).sum(), inputs))


@given(loss_problems(), st.booleans(), st.integers(2, 4), st.sampled_from([1, 1 << 19]))
@settings(max_examples=60, deadline=None)
def test_shares_add_up_to_the_batch(problem: LossProblem, mean: bool, parts: int, cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ROWS", 1 if cut == 1 else 128)
        shares = [solve(problem, (part, parts), mean) for part in range(parts)]
        whole, gradients = solve(problem, WHOLE, mean)
    torch.testing.assert_close(torch.stack([loss for loss, _ in shares]).sum(0), whole, rtol=1e-10, atol=1e-10)
    for which, expected in enumerate(gradients):
        together = torch.stack([found[which] for _, found in shares]).sum(0)
        assert (together - expected).norm() <= 1e-10 * (1 + expected.norm())
    if not mean:  # a query is in one share alone
        assert (torch.stack([loss for loss, _ in shares]) != 0).sum(0).max() <= 1


@pytest.mark.parametrize("mixup", [False, True])
def test_shares_are_of_one_size(mixup: bool) -> None:
    """To within a query, or the largest class."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 12, (90,), generator=generator)
    problem = LossProblem(torch.randn(90, 4, generator=generator), labels)
    problem.settings = {"ks": (1,), "rank_temperature": 0.1, "recall_temperature": (1.0,), "query_in_database": True}
    if mixup:
        same = torch.nonzero(torch.triu(labels[:, None] == labels, 1))
        problem.settings |= {"mix_pairs": same, "mix_alpha": torch.rand(len(same), generator=generator)}
    sizes = []
    for part in range(3):
        cut = list(blocks.cut(objective_of(problem, (part, 3)), 90))
        queries = torch.cat([block.queries for block in cut])
        sizes.append(sum(sum(block.counts) for block in cut) if mixup else len(queries))
    largest = int(torch.bincount(labels).max())
    virtual = largest * (largest + 1) // 2
    assert max(sizes) - min(sizes) <= (virtual * (virtual - 1) if mixup else 1)


def test_a_share_is_not_symmetric() -> None:
    problem = LossProblem(torch.eye(8), torch.arange(8) // 2)
    problem.settings = {"ks": (1,), "rank_temperature": 0.1, "recall_temperature": (1.0,), "query_in_database": True}
    with pytest.raises(ValueError, match="only a whole batch"):
        symmetric.kernel(problem.embeddings, None, objective_of(problem, (0, 2)), None)
    assert not symmetric.is_faster(problem.embeddings, None, objective_of(problem, (0, 2)))
