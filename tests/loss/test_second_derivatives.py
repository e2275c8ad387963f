"""Second derivatives: right where they are known, refused everywhere else, never a silent zero."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recallk import InputError, recall_at_k_loss
from recallk.core.relevance import Positives
from recallk.loss.kernels import streamed, symmetric

LABELS = torch.arange(9) // 3
X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loss_of(x: Tensor, gallery: Tensor | None = None, **settings: Any) -> Tensor:
    labels = None if gallery is None else LABELS
    return recall_at_k_loss(x, LABELS, gallery, labels, rank_temperature=0.5, ks=(1, 2), **settings)


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")  # of the memory that create_graph=True keeps
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("side", ["queries", "gallery", "both", "alone", "alone, symmetric"])
def test_the_fast_ones_refuse(side: str, reduction: str, normalized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "is_faster", lambda *_: side == "alone, symmetric")
    x = X.clone().requires_grad_(side != "gallery")
    gallery = None if side.startswith("alone") else X.roll(1, 1).clone().requires_grad_(side != "queries")
    inputs = [each for each in (x, gallery) if each is not None and each.requires_grad]
    settings: dict[str, Any] = {"reduction": reduction, "normalized": normalized, "implementation": "tiled"}
    with pytest.raises(InputError, match="known to implementation='definition' alone"):
        # a penalty on the gradient beside the loss: its part would be missing without a word
        torch.autograd.grad(loss_of(x, gallery, **settings).sum(), inputs, create_graph=True)
    loss = loss_of(x, gallery, **settings).sum()
    with pytest.raises(InputError, match="second derivatives"):
        loss.backward(create_graph=True)  # type: ignore[no-untyped-call]
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    with pytest.raises(InputError, match="second derivatives"):
        torch.autograd.grad(loss_of(x, gallery, **settings).sum() * weight, inputs, create_graph=True)


def test_first_derivatives_may_be_taken_twice() -> None:
    x = X.clone().requires_grad_()
    loss = loss_of(x, implementation="tiled")
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("apart", [True, False])
def test_the_definition_has_them(apart: bool, reduction: str) -> None:
    inputs = [X.clone().requires_grad_(), X.roll(1, 1).clone().requires_grad_()][: 1 + apart]

    def loss(*sides: Tensor) -> Tensor:
        return loss_of(*sides, implementation="definition", reduction=reduction)

    assert torch.autograd.gradgradcheck(loss, inputs)
    (gradient,) = torch.autograd.grad(loss(*inputs).sum(), inputs[:1], create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), inputs[0])[0].norm() > 1e-4


def test_any_kernel_refuses() -> None:
    """The refusal stands around the kernel: those for a GPU are no exception."""
    objective = streamed.objective_of(
        X,
        Positives.from_labels(LABELS),
        ks=(1,),
        rank_temperature=0.5,
        recall_temperatures=(1.0,),
        query_in_database=True,
    )

    def kernel(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        return torch.ones(9, dtype=torch.float64), torch.ones_like(queries), None

    x = X.clone().requires_grad_()
    with pytest.raises(InputError, match="second derivatives"):
        torch.autograd.grad(streamed.loss(x, None, objective, kernel), x, create_graph=True)
