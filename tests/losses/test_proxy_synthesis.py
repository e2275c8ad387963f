"""Softmax over proxies, real and mixed, against a loop over items; who is mixed with whom, and how much."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk.losses import proxy_synthesis
from recallk.losses.proxy_synthesis import ProxySynthesis, drawn_parents, proxy_synthesis_loss
from tests.losses.made import batch, module, uneven, with_gradients

CLASSES = 6


def unit(vector: Tensor) -> Tensor:
    divided: Tensor = vector / vector.norm()
    return divided


def looped(x: Tensor, labels: Tensor, proxies: Tensor, parents: Tensor, share: float, scale: float) -> Tensor:
    centres = [unit(proxy) for proxy in proxies]
    items = [(x[i], int(labels[i])) for i in range(len(x))]
    for i, j in parents.tolist():
        items.append((unit(share * x[i] + (1 - share) * x[j]), len(centres)))
        centres.append(unit(share * unit(proxies[labels[i]]) + (1 - share) * unit(proxies[labels[j]])))
    total = x.sum() * 0
    for item, own in items:
        weights = [torch.exp(scale * (item @ centre)) for centre in centres]
        total = total - torch.log(weights[own] / sum(weights)) / len(items)
    return total


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 10),
    dimensions=st.integers(2, 6),
    mixed=st.integers(0, 12),
    share=st.floats(0, 1),
    scale=st.sampled_from([1.0, 23.0]),
)
def test_equals_the_loop(seed: int, items: int, dimensions: int, mixed: int, share: float, scale: float) -> None:
    x, labels = uneven(seed, items, CLASSES, dimensions)
    proxies = 3 * torch.randn(CLASSES, dimensions, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    parents = drawn_parents(labels, mixed, torch.Generator().manual_seed(seed))
    found = with_gradients(lambda *own: proxy_synthesis_loss(own[0], labels, own[1], parents, share, scale), x, proxies)
    twin = with_gradients(lambda *own: looped(own[0], labels, own[1], parents, share, scale), x, proxies)
    for one, other in zip(found, twin, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), items=st.integers(1, 12), classes=st.integers(1, 4), count=st.integers(0, 30))
def test_parents_are_of_two_classes(seed: int, items: int, classes: int, count: int) -> None:
    _, labels = uneven(seed, items, classes, 2)
    parents = drawn_parents(labels, count, torch.Generator().manual_seed(seed))
    assert len(parents) == (count if len(set(labels.tolist())) > 1 else 0)
    assert (labels[parents[:, 0]] != labels[parents[:, 1]]).all()
    uses = torch.bincount(parents[:, 0], minlength=items)
    assert uses.max() - uses.min() <= 1


def test_the_second_parent_is_any_item_of_another_class() -> None:
    labels = torch.tensor([3, 0, 5, 0, 3, 0])
    parents = drawn_parents(labels, 6_000, torch.Generator().manual_seed(0))
    for row in range(len(labels)):
        counts = torch.bincount(parents[parents[:, 0] == row, 1], minlength=len(labels))
        others = labels != labels[row]
        assert not counts[~others].any()
        assert torch.allclose(counts[others] / 1_000, 1 / others.sum(), atol=0.06)


def drawn(monkeypatch: pytest.MonkeyPatch, steps: int = 1, **given_settings: float) -> tuple[list[Tensor], list[float]]:
    """The parents and the shares of some steps."""
    parents, shares = [], []

    def watch(unit: Tensor, labels: Tensor, proxies: Tensor, pairs: Tensor, share: float, scale: float) -> Tensor:
        del labels, proxies, scale
        parents.append(pairs)
        shares.append(share)
        return unit.sum()

    monkeypatch.setattr(proxy_synthesis, "proxy_synthesis_loss", watch)
    loss, (x, labels) = module("proxy-synthesis", **given_settings), batch(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        loss(x, labels, generator=generator)
    return parents, shares


@pytest.mark.parametrize("alpha", [0.4, 5.0])
def test_the_share_is_of_the_beta_distribution(monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
    _, shares = drawn(monkeypatch, 2_000, alpha=alpha)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@pytest.mark.parametrize(("mu", "mixed"), [(0.5, 12), (1.0, 24), (2.0, 48)])
def test_mu_is_how_many_are_mixed(monkeypatch: pytest.MonkeyPatch, mu: float, mixed: int) -> None:
    parents, _ = drawn(monkeypatch, mu=mu)
    assert [len(pairs) for pairs in parents] == [mixed]


def test_the_module_takes_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = batch(0)
    with monkeypatch.context() as watched:
        (parents,), (share,) = drawn(watched)
    for scale in (23.0, 5.0):
        loss = module("proxy-synthesis", scale=scale)
        assert isinstance(loss, ProxySynthesis)
        expected = looped(x, labels, loss.proxies.detach(), parents, share, scale)
        found = loss(7 * x, labels, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(found.detach(), expected)
        assert loss.proxies.shape == (CLASSES, 8)
        assert loss.proxies.abs().max() <= 8**-0.5


def test_a_batch_of_one_class_is_not_mixed() -> None:
    x, labels = batch(0)
    x, labels = x[labels == 1], labels[labels == 1]
    loss = module("proxy-synthesis")
    assert isinstance(loss, ProxySynthesis)
    nobody = torch.empty(0, 2, dtype=torch.int64)
    torch.testing.assert_close(loss(x, labels), looped(x, labels, loss.proxies, nobody, 0.5, 23.0))
