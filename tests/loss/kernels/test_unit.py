"""Rows of any length, as long or short as their numbers allow: values and gradients of the loss."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recallk import recall_at_k_loss
from recallk.loss.kernels.unit import unit_rows

LABELS = torch.arange(8) // 2
DIRECTIONS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
IMPLEMENTATIONS: tuple[Any, ...] = ("definition", "tiled")
LENGTHS = {
    torch.float32: (1e-36, 1e-30, 1e-13, 1e-6, 1e17, 1e20, 1e30, 1e37),
    torch.float64: (1e-300, 1e-170, 1e-30, 1e-13, 1e20, 1e170, 1e300),
}
CASES = [(precision, length) for precision, lengths in LENGTHS.items() for length in lengths]


def solve(x: Tensor, gallery: Tensor | None = None, **settings: Any) -> tuple[float, list[Tensor]]:
    inputs = [side.clone().requires_grad_() for side in (x, gallery) if side is not None]
    sides = (inputs[0], LABELS, inputs[1], LABELS) if gallery is not None else (inputs[0], LABELS)
    loss = recall_at_k_loss(*sides, rank_temperature=0.1, **settings)
    return loss.item(), list(torch.autograd.grad(loss, inputs))


def test_the_example_of_a_wrong_loss() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    for implementation in IMPLEMENTATIONS:
        losses = [recall_at_k_loss(x * length, LABELS, implementation=implementation) for length in (1, 1e20, 1e-30)]
        assert losses[1:] == pytest.approx([losses[0].item()] * 2, rel=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("reduction", ["mean", "gallery"])
@pytest.mark.parametrize(("precision", "length"), CASES)
def test_every_row_of_that_length(precision: torch.dtype, length: float, reduction: str, implementation: Any) -> None:
    gallery = DIRECTIONS.roll(1, 1) if reduction == "gallery" else None
    expected, gradients = solve(DIRECTIONS, gallery)
    scaled = [(side * length).to(precision) for side in (DIRECTIONS, gallery) if side is not None]
    loss, found = solve(*scaled, implementation=implementation)
    tolerance = 2e-5 if precision == torch.float32 else 1e-9
    assert loss == pytest.approx(expected, rel=tolerance)
    for one, other in zip(found, gradients, strict=True):
        one = one.double() * length  # a row that is longer by a factor has a gradient that is shorter by it
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rows_of_every_length_in_one_batch(implementation: Any) -> None:
    lengths = torch.tensor([1e-36, 1e-20, 1e-12, 1.0, 1e10, 1e18, 1e25, 1e37], dtype=torch.float64)[:, None]
    expected, (gradient,) = solve(DIRECTIONS)
    loss, (found,) = solve((DIRECTIONS * lengths).float(), implementation=implementation)
    assert loss == pytest.approx(expected, rel=2e-5)
    assert (found.double() * lengths - gradient).norm() <= 2e-5 * gradient.norm()


def test_rows_whose_length_is_no_number_of_their_precision() -> None:
    corners = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, -1, 1, 1], [1, -1, 1, 1]], dtype=torch.float64)
    corners = corners.repeat(2, 1)
    expected, _ = solve(corners)
    for precision in LENGTHS:
        largest = (corners * torch.finfo(precision).max).to(precision)
        for implementation in IMPLEMENTATIONS:
            loss, (gradient,) = solve(largest, implementation=implementation)
            assert loss == pytest.approx(expected, rel=1e-5)
            assert gradient.isfinite().all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_row_of_zeros_is_similar_to_nothing(implementation: Any) -> None:
    """Its own gradient is as if its length were 1e-12, as PyTorch's `normalize` has it."""
    x = DIRECTIONS.clone()
    x[2] = 0
    loss, (gradient,) = solve(x, implementation=implementation)
    rows = x.clone().requires_grad_()
    theirs = recall_at_k_loss(
        torch.nn.functional.normalize(rows), LABELS, rank_temperature=0.1, normalized=True, implementation="definition"
    )
    (expected,) = torch.autograd.grad(theirs, rows)
    assert loss == pytest.approx(theirs.item(), rel=1e-12)
    assert expected[2].norm() > 1e9
    for row in range(8):
        torch.testing.assert_close(gradient[row], expected[row], rtol=1e-9, atol=1e-9 * float(expected[row].norm()))


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_rows_within_range_are_divided_once(precision: torch.dtype) -> None:
    """Beside a row that must be scaled first, all others keep their bits."""
    x = DIRECTIONS.to(precision)
    alone = unit_rows(x)
    beside = unit_rows(torch.cat([x, x[:1] * 1e25]))
    assert torch.equal(beside[:8], alone)
    torch.testing.assert_close(beside[8], alone[0])
