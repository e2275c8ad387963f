"""Large classes: positives that cannot count are not ranked, and nothing else changes."""

import math
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recallk import RecallAtKLoss, recall_at_k_loss
from recallk.core.relevance import Positives
from recallk.loss import reached
from recallk.loss.kernels import blocks, streamed, symmetric, tiled
from tests.loss.problems import LossProblem, loss_problems


def solve(problem: LossProblem, implementation: Any, **changes: Any) -> tuple[Tensor, list[Tensor]]:
    inputs = [x.clone().requires_grad_() for x in (problem.embeddings, problem.gallery) if x is not None]
    gallery = inputs[1] if len(inputs) > 1 else None
    loss = recall_at_k_loss(
        inputs[0],
        problem.labels,
        gallery,
        problem.gallery_labels,
        implementation=implementation,
        **(problem.settings | changes),
    )
    weights = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    return loss.detach(), list(torch.autograd.grad((loss * weights).sum(), inputs))


def assert_same(problem: LossProblem, **changes: Any) -> None:
    loss, gradients = solve(problem, "tiled", **changes)
    expected, expected_gradients = solve(problem, "definition", **changes)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert (one - other).norm() <= 1e-9 * (1 + other.norm())


@given(loss_problems(steep=True), st.sampled_from(["mean", "none"]), st.sampled_from([1, 1000, 1 << 19]))
@settings(max_examples=60, deadline=None)
def test_equals_the_definition(problem: LossProblem, reduction: str, cut: int) -> None:
    """Ties, duplicates, galleries and mixup with classes of up to 18, of which 3 to 22 positives count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "TILE_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ROWS", 1 if cut < 1000 else 128)
        patch.setattr(symmetric, "is_faster", lambda *_: False)
        assert_same(problem, reduction=reduction)


def one_class(items: int, dimensions: int = 8, dtype: torch.dtype = torch.float64) -> LossProblem:
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(items, dimensions, generator=generator, dtype=dtype)
    return LossProblem(embeddings, torch.zeros(items, dtype=torch.int64))


@pytest.mark.parametrize("query_in_database", [True, False])
def test_one_large_class_with_the_default_settings(query_in_database: bool) -> None:
    assert_same(one_class(300), query_in_database=query_in_database)


@pytest.mark.parametrize("query_in_database", [True, False])
@pytest.mark.parametrize("equal", [2, 5, 60])
def test_ties_at_the_cut(equal: int, query_in_database: bool) -> None:
    """More equally similar positives than can count: any of them will do, for all are as far down."""
    problem = one_class(60, 4)
    problem.embeddings = problem.embeddings[torch.arange(60) // equal]
    for temperature in (0.01, 0.05, 0.3):
        assert_same(problem, ks=(1, 2), recall_temperature=temperature, query_in_database=query_in_database)


@given(
    st.lists(st.tuples(st.integers(1, 100), st.floats(1e-3, 1e3)), min_size=1, max_size=5),
    st.integers(1, 10**6),
)
def test_those_beyond_the_limit_are_forty_temperatures_away(pairs: list[tuple[int, float]], items: int) -> None:
    from recallk.loss.pruning import positive_limit

    ks, temperatures = zip(*pairs, strict=True)
    limit = positive_limit(ks, temperatures, items)
    if limit < items:
        assert limit > 2 * max(ks)  # the normaliser is as if all were there
        rank = 1 + limit / 2  # of the nearest that is left out, at the least
        assert all((k - rank) / temperature <= -40 for k, temperature in pairs)
    assert limit <= items


def test_the_limit_in_numbers() -> None:
    from recallk.loss.pruning import positive_limit

    assert positive_limit((1,), (0.01,), 1000) == 3
    assert positive_limit((1, 2, 4, 8, 16), (1.0,) * 5, 1000) == 112
    assert positive_limit((1,), (1e308,), 1000) == 1000


def test_a_tile_holds_more_queries_where_few_positives_count() -> None:
    sizes = [last - first for first, last in tiled.tiles([999] * 1000, 1000, 3)]
    assert max(sizes) == tiled.TILE_ELEMENTS // 3000


def test_a_large_class_costs_no_more_than_the_limit() -> None:
    """As many items in classes of 50 are compared with half as many positives."""
    seconds = []
    problem = one_class(1000, 16, torch.float32)
    for labels in (torch.arange(1000) // 50, problem.labels):
        best = math.inf
        for _ in range(2):
            start = time.process_time()
            solve(LossProblem(problem.embeddings, labels), "tiled")
            best = min(best, time.process_time() - start)
        seconds.append(best)
    assert seconds[1] < 6 * seconds[0]


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note the largest result of any operation."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return result


def test_nothing_has_the_size_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "TILE_ELEMENTS", 1 << 13)
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 1 << 13)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 16)
    with Largest() as largest:  # type: ignore[no-untyped-call]
        solve(one_class(400), "tiled")
    assert largest.elements < 400 * 400 // 8


def test_the_symmetric_kernel_is_not_chosen_for_a_class_that_it_would_compare_in_full() -> None:
    settings: dict[str, Any] = {"rank_temperature": 0.01, "query_in_database": True}
    queries, labels = torch.zeros(400, 8192), torch.arange(400) // 200
    for ks, expected in (
        ((1,), False),
        ((200,), True),
    ):  # with the second all of a class count, as both kernels then do
        objective = streamed.objective_of(
            queries, Positives.from_labels(labels), ks=ks, recall_temperatures=(1.0,), **settings
        )
        assert symmetric.is_faster(queries, None, objective) == expected


def test_the_reached_share_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = one_class(60, 4)
    problem.labels = torch.arange(60) // 30
    loss = RecallAtKLoss(ks=(1, 2), recall_temperature=0.05)
    pruned = reached.reached_share(loss, problem.embeddings, problem.labels)
    monkeypatch.setattr(reached, "positive_limit", lambda *_: 1000)
    assert pruned == reached.reached_share(loss, problem.embeddings, problem.labels) < 1
