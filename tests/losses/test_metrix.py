"""Mixed embeddings against a loop over anchors that mixes the vectors; and without them, against the library's loss."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk.core.arrays import normalised
from recallk.losses import metrix
from recallk.losses.metrix import Mixed, metrix_loss
from tests.losses.made import batch, module, uneven, with_gradients

STEEPNESS = {"alpha": 2.0, "beta": 50.0, "base": 0.5}


def looped(
    x: Tensor,
    labels: Tensor,
    mixed: Mixed,
    share: float,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    weight: float = 0.4,
) -> Tensor:
    def cost(anchor: Tensor, items: list[tuple[Tensor, float]]) -> Tensor:
        """Of items, and how far each is a positive."""
        pull = push = anchor.sum() * 0
        for item, positive in items:
            pull = pull + positive * torch.exp(-alpha * (anchor @ item - base))
            push = push + (1 - positive) * torch.exp(beta * (anchor @ item - base))
        return torch.log(1 + pull) / alpha + torch.log(1 + push) / beta

    total = x.sum() * 0
    for a in range(len(x)):
        positives = [i for i in range(len(x)) if labels[i] == labels[a] and i != a]
        negatives = [i for i in range(len(x)) if labels[i] != labels[a]]
        clean = [(x[i], 1.0) for i in positives] + [(x[i], 0.0) for i in negatives]
        between = [
            share * x[p] + (1 - share) * x[n] for p in (positives if mixed == "positives" else [a]) for n in negatives
        ]
        total = total + cost(x[a], clean) + weight * cost(x[a], [(item / item.norm(), share) for item in between])
    return total / len(x)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 9),
    classes=st.integers(1, 4),
    dimensions=st.integers(2, 6),
    mixed=st.sampled_from(["positives", "anchors"]),
    share=st.floats(0.01, 0.99),
    steepness=st.sampled_from([STEEPNESS, {"alpha": 18.0, "beta": 75.0, "base": 0.77}]),
    weight=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_equals_the_loop(
    seed: int,
    items: int,
    classes: int,
    dimensions: int,
    mixed: Mixed,
    share: float,
    steepness: dict[str, float],
    weight: float,
) -> None:
    x, labels = uneven(seed, items, classes, dimensions)
    found = with_gradients(
        lambda rows: metrix_loss(normalised(rows), labels, mixed, share, **steepness, weight=weight), x
    )
    twin = with_gradients(lambda rows: looped(normalised(rows), labels, mixed, share, **steepness, weight=weight), x)
    for one, other in zip(found, twin, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_without_mixed_items_it_is_the_librarys_loss_of_all_pairs() -> None:
    from pytorch_metric_learning.losses import MultiSimilarityLoss

    x, labels = uneven(4, 30, 7, 8)
    expected = with_gradients(lambda rows: MultiSimilarityLoss(**STEEPNESS)(rows, labels), x)
    found = with_gradients(lambda rows: module("metrix", mixup_weight=0)(rows, labels), x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-6)


def drawn(monkeypatch: pytest.MonkeyPatch, steps: int, **given_settings: float) -> list[tuple[Mixed, float]]:
    """What is mixed, and the share, of some steps."""
    found = []

    def watch(unit: Tensor, labels: Tensor, mixed: Mixed, share: float, **steepness: float) -> Tensor:
        del labels, steepness
        found.append((mixed, share))
        return unit.sum()

    monkeypatch.setattr(metrix, "metrix_loss", watch)
    loss, (x, labels) = module("metrix", **given_settings), batch(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        loss(x, labels, generator=generator)
    return found


@pytest.mark.parametrize("alpha", [2.0, 0.4])
def test_what_is_mixed_and_how_much_is_drawn(monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
    found = drawn(monkeypatch, 2_000, mixup_alpha=alpha)
    assert np.mean([mixed == "anchors" for mixed, _ in found]) == pytest.approx(0.5, abs=0.03)
    for kind in ("anchors", "positives"):
        shares = [share for mixed, share in found if mixed == kind]
        assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
        assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_share_of_nothing_has_finite_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as watched:
        shares = [share for _, share in drawn(watched, 50, mixup_alpha=1e-4)]
    assert all(math.isfinite(math.log(share)) and math.isfinite(math.log(1 - share)) for share in shares)
    value, gradient = with_gradients(lambda rows: module("metrix", mixup_alpha=1e-4)(rows, batch(0)[1]), batch(0)[0])
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("given_settings", [{}, {"alpha": 3.0}, {"beta": 30.0}, {"base": 0.3}, {"mixup_weight": 1.0}])
def test_the_module_takes_cosines(monkeypatch: pytest.MonkeyPatch, given_settings: dict[str, float]) -> None:
    x, labels = batch(0)
    with monkeypatch.context() as watched:
        ((mixed, share),) = drawn(watched, 1)
    found = module("metrix", **given_settings)(7 * x, labels, generator=torch.Generator().manual_seed(0))
    named = {key.removeprefix("mixup_"): value for key, value in given_settings.items()}
    torch.testing.assert_close(found, looped(x, labels, mixed, share, **named))
