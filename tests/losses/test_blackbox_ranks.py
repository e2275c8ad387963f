"""Losses of exact ranks against loops over queries and items that count who is ahead."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk.losses.blackbox_ranks import BlackboxRanks, Measure, blackbox_loss, of_average_precision, of_recall
from tests.losses.made import batch, module, uneven, with_gradients

COSTS: dict[Measure, Callable[[Tensor, int], Tensor]] = {
    of_recall: lambda rank, own: torch.log(1 + torch.log(1 + rank - own)),
    of_average_precision: lambda rank, own: 1 - own / rank,
}


def rank(i: int, scores: list[float], among: list[int]) -> int:
    ahead = [j for j in among if scores[j] > scores[i] or (scores[j] == scores[i] and j < i)]
    return 1 + len(ahead)


def looped(
    similarities: Tensor, relevant: Tensor, measure: Measure, strength: float, margin: float
) -> tuple[float, Tensor]:
    """The loss, and its gradient by the similarities."""
    queries, items = similarities.shape
    everything, counted = list(range(items)), [q for q in range(queries) if bool(relevant[q].any())]
    loss, gradient = 0.0, torch.zeros_like(similarities)
    for q in counted:
        positives = [i for i in everything if relevant[q, i]]
        scores = [float(similarities[q, i]) + (-margin / 2 if i in positives else margin / 2) for i in everything]
        moved = list(scores)
        for i in positives:
            place = torch.tensor(float(rank(i, scores, everything)), dtype=torch.float64, requires_grad=True)
            cost = COSTS[measure](place, rank(i, scores, positives)) / len(positives) / len(counted)
            loss += cost.item()
            (slope,) = torch.autograd.grad(cost, place)
            moved[i] += strength * items * float(slope)
        for i in everything:
            further = rank(i, moved, everything) - rank(i, scores, everything)
            gradient[q, i] = further / items / strength
    return loss, gradient


@settings(max_examples=80, deadline=None)
@given(data=st.data(), measure=st.sampled_from(list(COSTS)), rounded=st.booleans())
def test_equals_the_loop(data: st.DataObject, measure: Measure, rounded: bool) -> None:
    """Classes of any size, queries without positives, and ties."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    queries, items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    strength, margin = data.draw(st.sampled_from([0.2, 1.0, 4.0])), data.draw(st.sampled_from([0.0, 0.02, 0.3]))
    similarities = torch.from_numpy(rng.uniform(-1, 1, (queries, items)))
    similarities = (similarities * 8).round() / 8 if rounded else similarities
    relevant = torch.from_numpy(rng.random((queries, items)) < 0.3)
    loss, gradient = with_gradients(lambda s: blackbox_loss(s, relevant, measure, strength, margin), similarities)
    expected, by_counting = looped(similarities, relevant, measure, strength, margin)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(gradient, by_counting, atol=1e-12, rtol=0)


@pytest.mark.parametrize("measure", COSTS)
def test_a_positive_behind_is_pulled_up_and_what_it_passes_is_pushed_down(measure: Measure) -> None:
    similarities, relevant = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[False, False, True]])
    _, gradient = with_gradients(lambda s: blackbox_loss(s, relevant, measure), similarities)
    assert (gradient.sign() == torch.tensor([[1, 1, -1]])).all()


@pytest.mark.parametrize("measure", COSTS)
def test_the_margin_lies_between_positives_and_negatives(measure: Measure) -> None:
    similarities, relevant = torch.tensor([[0.80, 0.79]]), torch.tensor([[True, False]])
    assert blackbox_loss(similarities, relevant, measure, margin=0.005) == 0
    assert blackbox_loss(similarities, relevant, measure, margin=0.02) > 0


def test_a_scaled_loss_has_a_scaled_gradient() -> None:
    """As in training in half precision; the ranks of moved scores are not linear in what follows the loss."""
    x, labels = batch(1)
    loss = module("blackbox-recall")
    _, gradient = with_gradients(lambda rows: loss(rows, labels), x)
    _, scaled = with_gradients(lambda rows: 1024 * loss(rows, labels), x)
    torch.testing.assert_close(scaled, 1024 * gradient)


@pytest.mark.parametrize(("name", "measure"), [("blackbox-recall", of_recall), ("blackbox-ap", of_average_precision)])
def test_the_module_ranks_a_batch_by_itself(name: str, measure: Measure) -> None:
    x, labels = uneven(3, 20, 6, 8)
    similarities = (x @ x.T).fill_diagonal_(-torch.inf)
    relevant = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)

    def expected(strength: float, margin: float) -> tuple[float, Tensor]:
        loss, by_similarities = looped(similarities, relevant, measure, strength, margin)
        along = (by_similarities + by_similarities.T) @ x
        return loss, along - (along * x).sum(1, keepdim=True) * x  # the embeddings are normalised inside

    for given_settings in ((4.0, 0.02), (0.5, 0.3)):
        built = BlackboxRanks(measure, *given_settings)
        loss, gradient = with_gradients(lambda rows, built=built: built(rows, labels), x)
        assert loss.item() == pytest.approx(expected(*given_settings)[0], abs=1e-12)
        torch.testing.assert_close(gradient, expected(*given_settings)[1], atol=1e-12, rtol=0)
    assert module(name)(x, labels).item() == pytest.approx(expected(4.0, 0.02)[0], abs=1e-12)
    assert module(name, margin=0.3)(x, labels).item() == pytest.approx(expected(4.0, 0.3)[0], abs=1e-12)
    _, gradient = with_gradients(lambda rows: module(name, **{"lambda": 0.5})(rows, labels), x)
    torch.testing.assert_close(gradient, expected(0.5, 0.02)[1], atol=1e-12, rtol=0)
