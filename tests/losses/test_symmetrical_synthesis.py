"""N-pairs with mirrored points against a loop over pairs, and over the points of both."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk.core.arrays import normalised
from recallk.losses.symmetrical_synthesis import symmetrical_synthesis_loss
from tests.losses.made import batch, module, uneven, with_gradients


def mirrored(point: Tensor, axis: Tensor) -> Tensor:
    direction = axis / axis.norm()
    foot = (point @ direction) * direction
    reflected: Tensor = point + 2 * (foot - point)
    return reflected


def pairs_of(labels: Tensor) -> list[tuple[int, int]]:
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        rows.setdefault(label, []).append(row)
    return [pair for of_class in rows.values() for pair in zip(of_class[::2], of_class[1::2], strict=False)]


def looped(x: Tensor, labels: Tensor, scale: float) -> Tensor:
    pairs, total = pairs_of(labels), x.sum() * 0
    points = [(x[i], x[j], mirrored(x[i], x[j]), mirrored(x[j], x[i])) for i, j in pairs]
    for v, (i, j) in enumerate(pairs):
        inside = torch.ones((), dtype=x.dtype)
        for w, (k, _) in enumerate(pairs):
            if labels[k] != labels[i]:
                hardest = max((one @ other for one in points[v] for other in points[w]), key=Tensor.item)
                inside = inside + torch.exp(scale * (hardest - x[i] @ x[j]))
        total = total + torch.log(inside) / len(pairs)
    return total


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 14),
    classes=st.integers(1, 5),
    dimensions=st.integers(2, 6),
    scale=st.sampled_from([1.0, 20.0]),
)
def test_equals_the_loop(seed: int, items: int, classes: int, dimensions: int, scale: float) -> None:
    x, labels = uneven(seed, items, classes, dimensions)
    found = with_gradients(lambda rows: symmetrical_synthesis_loss(normalised(rows), labels, scale), x)
    for one, other in zip(found, with_gradients(lambda rows: looped(normalised(rows), labels, scale), x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_mirrored_points_are_as_long_and_as_near() -> None:
    x, _ = uneven(1, 2, 1, 5)
    point = mirrored(x[0], x[1])
    assert point.norm().item() == pytest.approx(1)
    assert (point @ x[1]).item() == pytest.approx((x[0] @ x[1]).item())


def test_a_mirrored_point_is_the_harder_negative() -> None:
    """Two classes on a circle: the point of one that faces the other lies beyond its items, 20 degrees nearer."""
    angles = torch.deg2rad(torch.tensor([0.0, 20.0, 90.0, 110.0]))
    x, labels = torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([0, 0, 1, 1])
    nearest = torch.cos(torch.deg2rad(torch.tensor(70.0 - 2 * 20)))
    expected = torch.log1p(torch.exp(nearest - torch.cos(torch.deg2rad(torch.tensor(20.0)))))
    assert symmetrical_synthesis_loss(x, labels, scale=1).item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_module_takes_cosines() -> None:
    x, labels = batch(2)
    assert module("symmetrical-synthesis")(7 * x, labels).item() == pytest.approx(
        looped(x, labels, 20).item(), rel=1e-5
    )
    found = module("symmetrical-synthesis", scale=5)(x, labels).item()
    assert found == pytest.approx(looped(x, labels, 5).item(), rel=1e-5)
