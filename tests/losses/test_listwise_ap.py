"""The listwise loss against the numbers of its authors, and against a loop over queries, bins and items."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk import InputError
from recallk.losses.listwise_ap import ListwiseAP, listwise_ap_loss
from tests.losses.made import batch, module

GOLDEN = np.load(Path(__file__).with_name("listwise_ap.npz"))
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


def case(name: str) -> tuple[Tensor, Tensor, int, float, Tensor]:
    keys = ("similarities", "labels", "bins", "loss", "grad")
    similarities, labels, bins, loss, grad = (GOLDEN[f"{name}/{key}"] for key in keys)
    classes = torch.from_numpy(labels)
    return torch.from_numpy(similarities), classes[:, None] == classes, int(bins), float(loss), torch.from_numpy(grad)


def looped(similarities: Tensor, relevant: Tensor, bins: int) -> Tensor:
    gap = 2 / (bins - 1)
    total = similarities.new_zeros(())
    for q in range(len(similarities)):
        items = positives = average = similarities.new_zeros(())
        for b in range(bins):
            in_bin = relevant_in_bin = similarities.new_zeros(())
            for i in range(similarities.shape[1]):
                kernel = 1 - (similarities[q, i] - (1 - b * gap)).abs() / gap
                beyond = (b == 0 and similarities[q, i] > 1) or (b == bins - 1 and similarities[q, i] < -1)
                share = torch.ones_like(kernel) if beyond else kernel.clamp(min=0)
                in_bin = in_bin + share
                relevant_in_bin = relevant_in_bin + share * relevant[q, i]
            items, positives = items + in_bin, positives + relevant_in_bin
            average = average + positives / (items + 1e-16) * relevant_in_bin / relevant[q].sum()
        total = total + 1 - average
    return total / len(similarities)


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_of_its_authors(name: str) -> None:
    """Also at similarities of exactly 1, at the end of the bins, where the slope is a matter of convention: theirs."""
    similarities, relevant, bins, expected, grad = case(name)
    leaf = similarities.clone().requires_grad_()
    loss = listwise_ap_loss(leaf, relevant, bins)
    (found,) = torch.autograd.grad(loss, leaf)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert (similarities == 1).any()
    torch.testing.assert_close(found, grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_what_reaches_the_embeddings_is_the_authors(name: str) -> None:
    similarities, relevant, bins, _, grad = case(name)
    values, vectors = torch.linalg.eigh(similarities)
    x = vectors * values.clamp(min=0).sqrt()
    torch.testing.assert_close(x @ x.T, similarities, atol=1e-12, rtol=0)
    leaf = similarities.clone().requires_grad_()
    (found,) = torch.autograd.grad(listwise_ap_loss(leaf, relevant, bins), leaf)

    def along_the_sphere(gradient: Tensor) -> Tensor:
        to_x = (gradient + gradient.T) @ x
        tangent: Tensor = to_x - (to_x * x).sum(1, keepdim=True) * x
        return tangent

    assert along_the_sphere(grad).abs().max() > 1e-3
    torch.testing.assert_close(along_the_sphere(found), along_the_sphere(grad), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [-1e-6, 1e-6])
def test_at_the_end_of_the_bins_it_is_flat(name: str, step: float) -> None:
    similarities, relevant, bins, expected, _ = case(name)
    moved = listwise_ap_loss(similarities + step * (similarities == 1), relevant, bins)
    assert moved.item() == pytest.approx(expected, abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_the_loop(data: st.DataObject) -> None:
    """Classes of any size, similarities beyond the ends, and such as fall on no centre (where there is no slope)."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    queries, gallery = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    bins = data.draw(st.integers(2, 26))
    similarities = torch.from_numpy(rng.uniform(-1.2, 1.2, (queries, gallery)))
    relevant = torch.from_numpy(rng.random((queries, gallery)) < 0.4)
    relevant[torch.arange(queries), torch.arange(queries) % gallery] = True
    leaves = [similarities.clone().requires_grad_() for _ in range(2)]
    loss, twin = listwise_ap_loss(leaves[0], relevant, bins), looped(leaves[1], relevant, bins)
    torch.testing.assert_close(loss, twin, atol=1e-12, rtol=0)
    grads = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip((loss, twin), leaves, strict=True)]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-10, rtol=0)


def test_values_on_the_centres_are_wholly_in_their_bin() -> None:
    similarities = torch.tensor([[1.0, 0.5, 0.0, -0.5, -1.0]])
    relevant = torch.tensor([[False, True, False, False, True]])
    assert listwise_ap_loss(similarities, relevant, 5).item() == pytest.approx(1 - (1 / 2 + 2 / 5) / 2)
    torch.testing.assert_close(listwise_ap_loss(similarities, relevant, 5), looped(similarities, relevant, 5))


def test_the_module_ranks_a_batch_by_itself() -> None:
    x, labels = batch(2)
    labels = labels.clone()
    labels[:3] = torch.tensor([70, 71, 71])  # an item alone finds itself
    expected = looped(x.double() @ x.double().T, labels[:, None] == labels, 20)
    assert module("listwise-ap")(7 * x, labels).item() == pytest.approx(expected.item(), abs=1e-5)
    assert module("listwise-ap", bins=25)(x, labels).item() != pytest.approx(expected.item(), abs=1e-5)
    alone = ListwiseAP(20)(x[:4], torch.arange(4))
    assert alone.item() == pytest.approx(looped(x[:4] @ x[:4].T, torch.eye(4), 20).item(), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_embeddings_of_any_precision(dtype: torch.dtype) -> None:
    x, labels = batch(2)
    rounded = x.to(dtype)
    expected = ListwiseAP(20)(rounded.double(), labels)
    assert ListwiseAP(20)(rounded, labels).item() == pytest.approx(expected.item(), abs=1e-5)


def test_autocast_does_not_round_the_similarities() -> None:
    x, labels = batch(2)
    expected = ListwiseAP(20)(x, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ListwiseAP(20)(x, labels), expected)


def test_mistakes_are_named() -> None:
    x, labels = batch(0)
    with pytest.raises(InputError, match="bins=1: at least 2 are needed"):
        module("listwise-ap", bins=1)
    with pytest.raises(InputError, match="bins=1: at least 2 are needed"):
        listwise_ap_loss(x @ x.T, labels[:, None] == labels, 1)
    with pytest.raises(InputError, match="hold NaN or infinity: after steps of training, lower the learning rate"):
        module("listwise-ap")(x * torch.nan, labels)
