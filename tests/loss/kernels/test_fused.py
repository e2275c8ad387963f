"""The fused loss against the definition: on a GPU where there is one, else through Triton's interpreter."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from recallk import InputError, SimilarityMixup, recall_at_k_loss
from recallk.core.relevance import Positives
from recallk.loss import definition
from recallk.loss.kernels import blocks, streamed, tiled
from recallk.loss.kernels.streamed import Kernel
from recallk.loss.mixup import labels_of_all
from tests.loss.problems import LossProblem, loss_problems

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
with pytest.MonkeyPatch.context() as environment:  # kernels keep the mode in which they are imported
    if DEVICE == "cpu":
        environment.setenv("TRITON_INTERPRET", "1")
    from recallk.loss.kernels import fused

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # NumPy, far from a sigmoid's middle

Solution = tuple[Tensor, list[Tensor]]


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def in_unit_rows(problem: LossProblem, dtype: torch.dtype) -> LossProblem:
    """Normalise, and round to `dtype` what every implementation is then given."""
    gallery = None if problem.gallery is None else F.normalize(problem.gallery, dim=1).to(dtype)
    rounded = {name: x.to(dtype) for name, x in problem.settings.items() if name == "mix_alpha"}
    return LossProblem(
        F.normalize(problem.embeddings, dim=1).to(dtype),
        problem.labels,
        gallery,
        problem.gallery_labels,
        problem.settings | rounded,
    )


def solve(loss: Callable[..., Tensor], problem: LossProblem, dtype: torch.dtype, device: str, mean: bool) -> Solution:
    """Return loss and gradients as float64 on the CPU, computed by `loss` from a problem's numbers in `dtype`."""

    def on_device(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.to(device, dtype) if x.is_floating_point() else x.to(device)

    inputs = [on_device(x).requires_grad_() for x in (problem.embeddings, problem.gallery) if x is not None]
    options = {name: on_device(value) for name, value in problem.settings.items()}
    options["recall_temperatures"] = options.pop("recall_temperature")
    assert options.pop("mix_relatives", "keep") == "keep"  # the kernels know nothing else
    gallery = inputs[1] if len(inputs) > 1 else None
    losses = loss(inputs[0], on_device(problem.labels), gallery, on_device(problem.gallery_labels), **options)
    if mean:
        losses = losses.mean()  # nothing is left to do where the loss is a mean already
    weights = torch.linspace(1, 2, losses.numel(), dtype=losses.dtype, device=device).reshape(losses.shape)
    gradients = torch.autograd.grad((losses * weights).sum(), inputs)
    return losses.detach().cpu().double(), [gradient.cpu().double() for gradient in gradients]


def streamed_loss(
    kernel: Kernel, dtype: torch.dtype, mean: bool, share: tuple[int, int] = streamed.WHOLE
) -> Callable[..., Tensor]:
    """Return the loss that a kernel computes in `dtype`, with the arguments of `definition.losses`."""

    def loss(
        queries: Tensor, labels: Tensor, gallery: Tensor | None, gallery_labels: Tensor | None, **options: Any
    ) -> Tensor:
        queries, gallery = queries.to(dtype), None if gallery is None else gallery.to(dtype)
        if "mix_pairs" in options:
            labels = labels_of_all(labels, options["mix_pairs"])
        positives = Positives.from_labels(labels, gallery_labels, options.pop("query_rows", None))
        objective = streamed.objective_of(queries, positives, share=share, **options)
        result = streamed.loss(queries, gallery, objective, kernel, mean)
        assert result.dtype == dtype
        assert result.ndim == 1 - mean
        return result

    return loss


def solve_fused(problem: LossProblem, mean: bool = True) -> Solution:
    return solve(streamed_loss(fused.kernel, torch.float32, mean), problem, problem.embeddings.dtype, DEVICE, mean)


def solve_exactly(problem: LossProblem, mean: bool = True) -> Solution:
    return solve(definition.losses, problem, torch.float64, "cpu", mean)


def assert_same(a: Solution, b: Solution, tolerance: float) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=tolerance, atol=tolerance)
    for one, other in zip(a[1], b[1], strict=True):
        assert (one - other).norm() <= tolerance * (1 + other.norm())


any_problem = given(loss_problems(), st.booleans(), st.sampled_from([1, 40, 1 << 22]))


@any_problem
@settings(max_examples=8, deadline=None, derandomize=True)
def test_equals_the_definition(problem: LossProblem, mean: bool, cut: int) -> None:
    check_equals_the_definition(problem, mean, cut)


@pytest.mark.slow
@any_problem
@settings(max_examples=25, deadline=None, derandomize=True)
def test_equals_the_definition_in_more_cases(problem: LossProblem, mean: bool, cut: int) -> None:
    check_equals_the_definition(problem, mean, cut)


def check_equals_the_definition(problem: LossProblem, mean: bool, cut: int) -> None:
    """Whatever the size of tiles and blocks."""
    assume(problem.settings.get("mix_relatives") != "exclude")
    problem = in_unit_rows(problem, torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ELEMENTS", cut)
        patch.setattr(blocks, "BLOCK_ROWS", 1 if cut == 1 else 16)
        patch.setattr(fused, "RANK_COLUMNS", 16 if cut == 40 else 128)
        patch.setattr(fused, "WEIGHT_COLUMNS", 16 if cut == 40 else 1024)
        fast = solve_fused(problem, mean)
    assert_same(fast, solve_exactly(problem, mean), 2e-4)


def random_batch(items: int, dimensions: int, mixup: bool = False, seed: int = 5) -> LossProblem:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, max(1, items // 4), (items,), generator=generator)
    options: dict[str, Any] = {
        "ks": (1, 2, 4, 8, 16),
        "rank_temperature": 0.01,
        "recall_temperature": (1.0,) * 5,
        "query_in_database": True,
    }
    if mixup:
        options["mix_pairs"], options["mix_alpha"] = SimilarityMixup().draw(labels, generator)
    centres = torch.randn(items, dimensions, generator=generator, dtype=torch.float64)
    noise = torch.randn(items, dimensions, generator=generator, dtype=torch.float64)
    return LossProblem(centres[labels] + noise, labels, settings=options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mixup", [False, True])
def test_half_precision_is_computed_exactly(dtype: torch.dtype, mixup: bool) -> None:
    problem = in_unit_rows(random_batch(25, 19, mixup), dtype)
    loss, gradients = solve_fused(problem)
    exact, exact_gradients = solve_exactly(problem)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    error = (gradients[0] - exact_gradients[0]).norm() / exact_gradients[0].norm()
    assert error < {torch.float16: 5e-4, torch.bfloat16: 4e-3}[dtype]  # the rounding of the gradient itself
    _, eager_gradients = solve(definition.losses, problem, dtype, "cpu", True)
    assert error <= (eager_gradients[0] - exact_gradients[0]).norm() / exact_gradients[0].norm()


@pytest.mark.parametrize("mixup", [False, True])
def test_two_runs_give_the_same_bits(mixup: bool) -> None:
    torch.use_deterministic_algorithms(False)  # it is the kernels, not PyTorch's replacements, that are repeatable
    problem = in_unit_rows(random_batch(22, 17, mixup), torch.float32)
    assert_same(solve_fused(problem), solve_fused(problem), 0)


def test_large_classes_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = in_unit_rows(random_batch(33, 7), torch.float32)
    expected = solve_exactly(problem)
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 99)  # a few queries' positives for each k
    assert_same(solve_fused(problem), expected, 2e-4)


@pytest.mark.parametrize("cut", [1, 300, 1 << 22])
@pytest.mark.parametrize("form", ["plain", "mixup", "gallery"])
def test_of_large_classes_the_nearest_positives_alone_are_ranked(
    form: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight of each query's: with fewer the values would be others, with more the kernels would do more work."""
    problem = random_batch(24, 7, seed=2)
    problem.labels = torch.arange(24) % 2
    problem.settings |= {"ks": (1, 2), "rank_temperature": 0.1, "recall_temperature": (0.01, 0.05)}
    if form == "mixup":
        generator = torch.Generator().manual_seed(1)
        problem.settings["mix_pairs"], problem.settings["mix_alpha"] = SimilarityMixup(pairs_per_class=5).draw(
            problem.labels, generator
        )
    elif form == "gallery":
        problem.gallery, problem.gallery_labels = problem.embeddings.roll(1, 0) * 1.5 + 0.1, problem.labels
    problem = in_unit_rows(problem, torch.float32)
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", cut)
    widths: list[int] = []

    def spy(*arguments: Any) -> tuple[Tensor, Tensor]:
        found = nearest_positives(*arguments)
        widths.append(found[0].shape[1])
        return found

    nearest_positives = fused.nearest_positives
    monkeypatch.setattr(fused, "nearest_positives", spy)
    fast = solve_fused(problem)
    assert set(widths) == {8}
    assert_same(fast, solve_exactly(problem), 2e-4)


@pytest.mark.parametrize("mixup", [False, True])
def test_shares_add_up_to_the_batch(mixup: bool) -> None:
    problem = in_unit_rows(random_batch(17, 6, mixup), torch.float32)
    for parts in (2, 9):  # the latter more than there are classes
        shares = [
            solve(streamed_loss(fused.kernel, torch.float32, True, (part, parts)), problem, torch.float32, DEVICE, True)
            for part in range(parts)
        ]
        together = sum(share[0] for share in shares), [torch.stack([share[1][0] for share in shares]).sum(0)]
        assert_same(together, solve_exactly(problem), 2e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("query_in_database", [True, False])
def test_the_shards_of_a_batch_are_the_batch(query_in_database: bool) -> None:
    problem = in_unit_rows(random_batch(26, 6), torch.float32)
    options = problem.settings | {"query_in_database": query_in_database, "rank_temperature": 0.1}
    options["recall_temperatures"] = options.pop("recall_temperature")
    whole, labels = problem.embeddings.double().requires_grad_(), problem.labels
    expected = definition.losses(whole, labels, None, None, **options)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), whole)

    x, classes = problem.embeddings.to(DEVICE).requires_grad_(), labels.to(DEVICE)
    fused_loss = streamed_loss(fused.kernel, torch.float32, mean=False)
    losses = torch.cat(
        [
            fused_loss(x[rows], classes[rows], x, classes, query_rows=rows.to(DEVICE), **options)
            for rows in torch.tensor_split(torch.arange(26), 3)
        ]
    )
    (gradient,) = torch.autograd.grad(losses.sum(), x)
    torch.testing.assert_close(losses.detach().cpu().double(), expected.detach(), rtol=1e-5, atol=1e-5)
    assert (gradient.cpu().double() - expected_gradient).norm() <= 2e-4 * expected_gradient.norm()


def test_it_is_chosen_by_name_alone(caplog: pytest.LogCaptureFixture) -> None:
    problem = random_batch(20, 6)
    embeddings = problem.embeddings.to(DEVICE, torch.float32)
    with caplog.at_level(logging.DEBUG, logger="recallk"):
        losses = [
            recall_at_k_loss(embeddings, problem.labels, implementation=name).item()
            for name in ("definition", "fused", "auto")
        ]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)
    assert [record.getMessage().split("'")[1] for record in caplog.records] == ["fused", "tiled"]


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("mixup", [False, True])
def test_a_full_batch_equals_the_tiled_loss(mixup: bool) -> None:
    torch.use_deterministic_algorithms(False)
    problem = in_unit_rows(random_batch(4000, 512, mixup), torch.float32)
    in_float64 = streamed_loss(tiled.kernel, torch.float64, mean=True)
    assert_same(solve_fused(problem), solve(in_float64, problem, torch.float64, DEVICE, True), 2e-4)


def test_positives_that_are_no_classes() -> None:
    """Lists of them, of any length; where items are ignored, it says that it does not know how."""
    random = torch.Generator().manual_seed(0)
    embeddings = torch.randn(12, 5, generator=random, dtype=torch.float64)
    relevant = [(torch.rand(12, generator=random) < 0.3).nonzero()[:, 0].tolist() for _ in range(12)]
    positives = Positives.from_lists(relevant)
    solved = []
    for implementation, dtype, device in (("fused", torch.float32, DEVICE), ("definition", torch.float64, "cpu")):
        x = embeddings.to(device, dtype).requires_grad_()
        losses = recall_at_k_loss(x, positives=positives, implementation=implementation, reduction="none")  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        solved.append((losses.detach().cpu().double(), [gradient.cpu().double()]))
    assert_same(solved[0], solved[1], 1e-4)
    some = Positives.from_lists(relevant, ignored=[[0] for _ in relevant])
    with pytest.raises(InputError, match="some are ignored: leave these out of the positives, or choose 'auto'"):
        recall_at_k_loss(embeddings.to(DEVICE).float(), positives=some, implementation="fused")
