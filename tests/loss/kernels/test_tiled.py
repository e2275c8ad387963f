"""The tiled loss, with either of its kernels, against the definition: values and gradients, over random problems."""

import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk import recall_at_k_loss
from recallk.core.precision import SETTINGS
from recallk.core.relevance import Positives
from recallk.loss import definition
from recallk.loss.kernels import blocks, streamed, symmetric, tiled
from recallk.loss.kernels.streamed import Kernel, Objective
from recallk.loss.kernels.unit import unit_rows
from tests.loss.problems import LossProblem, loss_problems

Implementation = Literal["definition", "tiled"]


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def choose(patch: pytest.MonkeyPatch, symmetry: bool) -> None:
    """Have the symmetric.kernel chosen wherever it is able, or never."""

    def is_faster(queries: Tensor, gallery: Tensor | None, objective: Objective) -> bool:
        return symmetry and gallery is None and objective.mixing is None

    patch.setattr(symmetric, "is_faster", is_faster)


def solve(problem: LossProblem, implementation: Implementation, **changes: Any) -> tuple[Tensor, list[Tensor]]:
    inputs = [x.clone().requires_grad_() for x in (problem.embeddings, problem.gallery) if x is not None]
    loss = recall_at_k_loss(
        inputs[0],
        problem.labels,
        inputs[1] if len(inputs) > 1 else None,
        problem.gallery_labels,
        implementation=implementation,
        **(problem.settings | changes),
    )
    weights = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    gradients = torch.autograd.grad((loss * weights).sum(), inputs)
    return loss.detach(), list(gradients)


def assert_same(a: tuple[Tensor, list[Tensor]], b: tuple[Tensor, list[Tensor]], tolerance: float) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=tolerance, atol=tolerance)
    for one, other in zip(a[1], b[1], strict=True):
        assert (one - other).norm() <= tolerance * (1 + other.norm())


any_problem = given(
    loss_problems(), st.sampled_from(["mean", "none"]), st.sampled_from([1, 40, 1000, 1 << 19]), st.booleans()
)


@any_problem
@settings(max_examples=120, deadline=None)
def test_equals_the_definition(problem: LossProblem, reduction: str, cut: int, symmetry: bool) -> None:
    check_equals_the_definition(problem, reduction, cut, symmetry)


@pytest.mark.slow
@any_problem
@settings(max_examples=300, deadline=None)
def test_equals_the_definition_in_more_cases(problem: LossProblem, reduction: str, cut: int, symmetry: bool) -> None:
    check_equals_the_definition(problem, reduction, cut, symmetry)


def check_equals_the_definition(problem: LossProblem, reduction: str, cut: int, symmetry: bool) -> None:
    """Whatever the size of tiles and blocks: `cut` of 1 means one query, and one positive, at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "TILE_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ROWS", 1 if cut < 1000 else 128)
        choose(patch, symmetry)
        patch.setattr(symmetric, "TILE_ELEMENTS", cut)
        patch.setattr(symmetric, "TILE_ROWS", {1: 1, 40: 6, 1000: 20}.get(cut, 500))
        fast = solve(problem, "tiled", reduction=reduction)
    assert_same(fast, solve(problem, "definition", reduction=reduction), 1e-9)


@given(loss_problems(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(problem: LossProblem, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(problem.labels), generator=generator)
    changes = {}
    if "mix_pairs" in problem.settings:
        inverse = torch.argsort(order)
        changes["mix_pairs"] = inverse[problem.settings["mix_pairs"]]
    if "query_rows" in problem.settings:
        changes["query_rows"] = problem.settings["query_rows"][order]
    permuted = LossProblem(
        problem.embeddings[order],
        problem.labels[order],
        problem.gallery,
        problem.gallery_labels,
        problem.settings,
    )
    loss, gradients = solve(permuted, "tiled", **changes)
    expected, expected_gradients = solve(problem, "tiled")
    gradients[0] = gradients[0][torch.argsort(order)]
    assert_same((loss, gradients), (expected, expected_gradients), 1e-9)


def random_batch(dtype: torch.dtype, items: int = 200) -> LossProblem:
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(items, 32, generator=generator, dtype=torch.float64).to(dtype)
    return LossProblem(embeddings, torch.randint(0, items // 5, (items,), generator=generator))


@pytest.mark.parametrize("implementation", ["definition", "tiled"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype(dtype: torch.dtype, implementation: Implementation) -> None:
    problem = random_batch(dtype)
    loss, (gradient,) = solve(problem, implementation)
    problem.embeddings = problem.embeddings.double()  # the same rounded numbers, computed exactly
    expected, (expected_gradient,) = solve(problem, "definition")
    assert gradient.dtype == dtype
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    digits = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float32: 1e-4, torch.float64: 1e-12}
    error = (gradient.double() - expected_gradient).norm() / expected_gradient.norm()
    assert error < digits[dtype]


@pytest.mark.parametrize("symmetry", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_exact_as_the_eager_version(
    dtype: torch.dtype, symmetry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, symmetry)
    problem = random_batch(dtype)
    problem.embeddings = torch.nn.functional.normalize(problem.embeddings.double(), dim=1).to(dtype)
    settings = {"ks": (1, 2, 4, 8, 16), "rank_temperature": 0.01, "recall_temperatures": (1.0,) * 5}
    eager = problem.embeddings.clone().requires_grad_()
    loss = definition.losses(eager, problem.labels, None, None, query_in_database=True, **settings).mean()  # type: ignore[arg-type]
    in_half = loss.detach(), torch.autograd.grad(loss, eager)[0]
    fast, gradients = solve(problem, "tiled", normalized=True)
    problem.embeddings = problem.embeddings.double()
    exact, exact_gradients = solve(problem, "definition", normalized=True)
    assert abs(fast.double() - exact) <= 1.5 * abs(in_half[0].double() - exact)
    errors = [(g.double() - exact_gradients[0]).norm() for g in (gradients[0], in_half[1])]
    assert errors[0] <= 1.5 * errors[1]


def test_the_gradient_is_that_of_finite_differences() -> None:
    problem = random_batch(torch.float64, items=12)
    inputs = problem.embeddings[:, :4].clone().requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return recall_at_k_loss(x, problem.labels, ks=(1, 3), rank_temperature=0.5, implementation="tiled")

    assert torch.autograd.gradcheck(loss, (inputs,))


def test_a_gradient_for_one_side_only() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, gallery = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) // 3
    for reduction in ("mean", "none"):
        for moving in (0, 1):
            inputs = [queries.clone(), gallery.clone()]
            inputs[moving].requires_grad_()
            gradients = []
            for implementation in ("tiled", "definition"):
                loss = recall_at_k_loss(
                    inputs[0],
                    labels,
                    inputs[1],
                    labels,
                    implementation=implementation,
                    reduction=reduction,
                    rank_temperature=0.1,
                )
                gradients.append(torch.autograd.grad(loss.sum(), inputs[moving])[0])
            assert gradients[1].norm() > 0
            torch.testing.assert_close(gradients[0], gradients[1])


def test_no_gradient_is_computed_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    weights_seen = []

    def spy_on(kernel: Kernel) -> Kernel:
        def spy(*arguments: Any) -> Any:
            weights_seen.append(arguments[3])
            return kernel(*arguments)

        return spy

    monkeypatch.setattr(tiled, "kernel", spy_on(tiled.kernel))
    monkeypatch.setattr(symmetric, "kernel", spy_on(symmetric.kernel))
    for symmetry in (True, False):
        choose(monkeypatch, symmetry)
        problem = random_batch(torch.float32)
        recall_at_k_loss(problem.embeddings, problem.labels, implementation="tiled")
        with torch.no_grad():
            recall_at_k_loss(problem.embeddings.requires_grad_(), problem.labels, implementation="tiled")
    assert weights_seen == [None] * 4


@pytest.mark.parametrize(
    ("per_class", "dimensions", "module"), [(4, 512, "symmetric"), (4, 64, "tiled"), (25, 512, "tiled")]
)
def test_the_kernel_is_chosen_by_shape(
    per_class: int, dimensions: int, module: str, caplog: pytest.LogCaptureFixture
) -> None:
    embeddings, labels = torch.randn(100, dimensions), torch.arange(100) // per_class
    with caplog.at_level(logging.DEBUG, logger="recallk"):
        recall_at_k_loss(embeddings, labels)
    assert f"with the kernel of recallk.loss.kernels.{module}" in caplog.text


def test_singletons_beside_one_large_class_are_computed_by_rows() -> None:
    """Most items are no queries, and the symmetric.kernel would compare all of them with the large class."""
    labels = torch.cat([torch.zeros(100, dtype=torch.int64), torch.arange(1, 1901)])
    settings = {"ks": (1,), "rank_temperature": 0.01, "recall_temperatures": (1.0,), "query_in_database": True}
    for chosen, expected in ((labels, False), (torch.arange(2000) // 4, True), (torch.arange(2000), False)):
        queries = torch.zeros(2000, 512)
        objective = streamed.objective_of(queries, Positives.from_labels(chosen), **settings)  # type: ignore[arg-type]
        assert symmetric.is_faster(queries, None, objective) == expected


def test_a_gallery_is_never_taken_as_symmetric() -> None:
    objective = streamed.objective_of(
        torch.eye(4),
        Positives.from_labels(torch.arange(4) // 2, torch.arange(4) // 2),
        ks=(1,),
        rank_temperature=0.01,
        recall_temperatures=(1.0,),
        query_in_database=True,
    )
    with pytest.raises(ValueError, match="ranks itself"):
        symmetric.kernel(torch.eye(4), torch.eye(4), objective, None)


@pytest.fixture
def fast_products() -> Iterator[None]:
    before = [place.fp32_precision for place in SETTINGS]
    torch.set_float32_matmul_precision("medium")
    yield
    for place, precision in zip(SETTINGS, before, strict=True):
        place.fp32_precision = precision


@pytest.mark.usefixtures("fast_products")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("symmetry", [True, False])
def test_a_setting_for_networks_does_not_lower_the_precision(
    symmetry: bool, reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, symmetry)
    problem = random_batch(torch.float32, items=600)
    fast = solve(problem, "tiled", reduction=reduction)
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("highest")
    assert_same(fast, solve(problem, "tiled", reduction=reduction), 0)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("symmetry", [True, False])
def test_autocast_does_not_lower_the_precision(symmetry: bool, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, symmetry)
    problem = random_batch(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = solve(problem, "tiled", reduction=reduction)
    assert_same(inside, solve(problem, "tiled", reduction=reduction), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_rows_are_those_of_pytorch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 5, dtype=dtype, generator=generator)
    x[1], x[3] = 0, 1e-11  # shorter than what PyTorch's rows are divided by at least, and longer
    weights = torch.randn(7, 5, dtype=dtype, generator=generator)
    results = []
    for normalise in (unit_rows, torch.nn.functional.normalize):
        rows = x.clone().requires_grad_()
        unit = normalise(rows)
        results.append((unit, torch.autograd.grad((unit * weights).sum(), rows)[0]))
    for ours, theirs in zip(*results, strict=True):
        scale = theirs.norm(dim=1, keepdim=True).clamp_min(1e-30)  # rows differ in size by 13 orders
        torch.testing.assert_close(ours / scale, theirs / scale)
