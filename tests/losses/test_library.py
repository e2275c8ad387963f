"""Losses of pytorch-metric-learning, where ours differ from the library's, against explicit loops."""

import numpy as np
import pytest
import torch

from recallk import InputError
from tests.losses.made import batch, module


def test_smooth_ap_is_that_of_the_paper() -> None:
    x, labels = batch(3)
    similarities, total = x @ x.T, 0.0
    for q in range(len(x)):
        positives = [i for i in range(len(x)) if labels[i] == labels[q]]
        precision = 0.0
        for i in positives:

            def rank(among: list[int], i: int = i, q: int = q) -> float:
                return 1 + sum(float(torch.sigmoid((similarities[q, j] - similarities[q, i]) / 0.01)) for j in among)

            above = rank([j for j in positives if j != i])
            precision += above / rank([j for j in range(len(x)) if j != i])
        total += 1 - precision / len(positives)
    assert module("smooth-ap")(x, labels).item() == pytest.approx(total / len(x), rel=1e-4)
    with pytest.raises(InputError, match="equally many items"):
        module("smooth-ap")(x[1:], labels[1:])


def test_the_histogram_loss_is_that_of_the_paper() -> None:
    x, labels = batch(4)
    histograms = {True: np.zeros(101), False: np.zeros(101)}
    for i in range(len(x)):
        for j in range(i):
            place = (float(x[i] @ x[j]) + 1) * 50
            of = histograms[bool(labels[i] == labels[j])]
            of[int(place)] += 1 - place % 1
            of[int(place) + 1] += place % 1
    positive, negative = (h / h.sum() for h in (histograms[True], histograms[False]))
    assert module("histogram")(x, labels).item() == pytest.approx(float(negative @ positive.cumsum()), rel=1e-4)
    assert module("histogram")(x[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])).isfinite()  # duplicates: similarity 1


def test_a_loss_that_diverges_says_so() -> None:
    x, labels = batch(0)
    with pytest.raises(InputError, match="loss=contrastive: the embeddings hold NaN"):
        module("contrastive")(x * torch.nan, labels)
