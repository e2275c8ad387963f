"""The metrics beside those of pytorch-metric-learning, which the base install does not have."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from recallk.evaluation.metrics import retrieval_metrics


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pytorch_metric_learning(apart: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 90, 400))  # unequal classes, some of one item
    centres = rng.normal(size=(90, 16))
    embeddings = torch.from_numpy(centres[labels] + 1.2 * rng.normal(size=(400, 16))).float()
    embeddings = torch.nn.functional.normalize(embeddings, dim=1)
    queries = slice(0, 150) if apart else slice(None)
    gallery = slice(150, None) if apart else slice(None)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
    )
    theirs = calculator.get_accuracy(
        embeddings[queries],
        labels[queries],
        embeddings[gallery],
        labels[gallery],
        ref_includes_query=not apart,
    )
    if apart:
        ours = retrieval_metrics(embeddings[queries], labels[queries], embeddings[gallery], labels[gallery])
    else:
        ours = retrieval_metrics(embeddings, labels)
    assert 0.1 < ours["map@r"] < 0.9, "vacuous otherwise"
    assert ours["precision@1"] == ours["recall@1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)
