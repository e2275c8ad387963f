"""Temperatures of any type and size: a right loss, or a line that says which is the smallest."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from recallk import InputError, RecallAtKLoss, recall_at_k_loss
from recallk.loss.kernels import symmetric

LABELS = torch.arange(12) // 3
X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SIZES = (1e-320, 1e-300, 1e-200, 1e-45, 2e-39, 1e-38, 1e-31, 1e-20, 1e-5, 1.0, 1e10, 1e39, 1e308)


def solve(x: torch.Tensor, implementation: Any, **settings: Any) -> tuple[float, torch.Tensor]:
    x = x.clone().requires_grad_()
    loss = recall_at_k_loss(x, LABELS, implementation=implementation, **settings)
    return loss.item(), torch.autograd.grad(loss, x)[0].double()


@pytest.mark.parametrize("recall", SIZES)
@pytest.mark.parametrize("rank", SIZES)
def test_a_right_result_or_the_smallest_that_works(rank: float, recall: float) -> None:
    settings: dict[str, Any] = {"rank_temperature": rank, "recall_temperature": recall, "ks": (1, 4)}
    reference: Any = None
    refused = []
    for x in (X, X.float()):
        for implementation in ("definition", "tiled"):
            try:
                loss, gradient = solve(x, implementation, **settings)
            except InputError as error:
                refused.append((x.dtype, str(error)))
                continue
            reference = reference or (loss, gradient)
            assert loss == pytest.approx(reference[0], abs=1e-5)
            assert gradient.isfinite().all()
            assert (gradient - reference[1]).norm() <= 1e-4 * (1 + reference[1].norm())
    for dtype, message in refused:
        assert f"is the smallest that {str(dtype)[6:]} can divide by" in message
        least = {torch.float32: 1e-31, torch.float64: 2e-292}[dtype]
        assert min(rank, recall, rank * recall) < least


@pytest.mark.parametrize("symmetry", [True, False])
@pytest.mark.parametrize("recall", [1e-31, 1e-25, 1e-20, 1e-11, 1.0])
@pytest.mark.parametrize("rank", [1e-31, 1e-25, 1e-20, 1e-11])
def test_ties_are_steepest(rank: float, recall: float, symmetry: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between equal similarities the slope is that of both temperatures together: it must be a number too."""
    monkeypatch.setattr(symmetric, "is_faster", lambda *_: symmetry)
    settings: dict[str, Any] = {"rank_temperature": rank, "recall_temperature": recall, "ks": (1, 2)}
    equal = X.float()[torch.arange(12) // 2]
    for implementation in ("definition", "tiled"):
        if rank * recall < 0.99e-31:
            with pytest.raises(InputError, match=r"recall_temperature=.* is the smallest that float32 can divide by"):
                solve(equal, implementation, **settings)
        else:
            loss, gradient = solve(equal, implementation, **settings)
            assert np.isfinite(loss)
            assert gradient.isfinite().all()


def test_the_smallest_that_is_named_works() -> None:
    for x, smallest in ((X.float(), 1e-31), (X, 1.1e-292)):
        for implementation in ("definition", "tiled"):
            with pytest.raises(InputError, match="rank_temperature=") as caught:
                solve(x, implementation, rank_temperature=smallest / 10)
            named = float(str(caught.value).split(": ")[1].split(" is the")[0])
            assert named == pytest.approx(smallest, rel=0.1)
            assert np.isfinite(solve(x, implementation, rank_temperature=smallest)[0])


WRONG: list[tuple[Any, str]] = [
    ("0.01", "='0.01': a number above 0 is needed"),
    (None, "=None: a number above 0 is needed"),
    (True, "=True: a number above 0 is needed"),
    (torch.tensor(0.1), r"=tensor\(0.1000\): a number above 0 is needed"),
    (1j, "=1j: a number above 0 is needed"),
    (Decimal("0.1"), r"=Decimal\('0.1'\): a number above 0 is needed"),
    (0, "=0: temperatures are above 0 and finite"),
    (-1, "=-1: temperatures are above 0 and finite"),
    (float("nan"), "=nan: temperatures are above 0 and finite"),
    (float("inf"), "=inf: temperatures are above 0 and finite"),
    (10**400, "=1000.*: temperatures are above 0 and finite"),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
@pytest.mark.parametrize("name", ["rank_temperature", "recall_temperature"])
def test_what_is_no_temperature_gets_one_line(name: str, value: Any, message: str) -> None:
    for given in (value, [1.0, value]) if name == "recall_temperature" else (value,):
        settings: dict[str, Any] = {"ks": (1, 2), name: given}
        with pytest.raises(InputError, match=name + message) as caught:
            RecallAtKLoss(**settings)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=name + message):
            recall_at_k_loss(X, LABELS, **settings)


@pytest.mark.parametrize(
    "value", [1, np.float32(1), np.int64(1), np.array(1.0), np.array([1.0, 1.0]), Fraction(1), (1, 1)]
)
def test_numbers_of_any_kind(value: Any) -> None:
    expected = recall_at_k_loss(X, LABELS, ks=(1, 2), recall_temperature=1.0)
    assert recall_at_k_loss(X, LABELS, ks=(1, 2), recall_temperature=value) == expected
