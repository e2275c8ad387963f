"""What the suite holds to be right is right: the numbers of the authors' code, and examples worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import reference

GOLDEN = np.load(Path(__file__).parents[1] / "loss" / "authors_loss.npz")


@pytest.mark.parametrize("case", sorted({key.split("/")[0] for key in GOLDEN.files}))
def test_the_loss_is_that_of_the_authors_code(case: str) -> None:
    mixed = f"{case}/mix_pairs" in GOLDEN
    found = reference.losses(
        GOLDEN[f"{case}/embeddings"],
        GOLDEN[f"{case}/labels"],
        ks=GOLDEN[f"{case}/ks"].tolist(),
        rank_temperature=float(GOLDEN[f"{case}/rank_temperature"]),
        recall_temperature=GOLDEN[f"{case}/recall_temperatures"].tolist(),
        mix_pairs=GOLDEN[f"{case}/mix_pairs"] if mixed else None,
        mix_alpha=GOLDEN[f"{case}/mix_alpha"] if mixed else None,
    )
    assert np.mean(found) == pytest.approx(float(GOLDEN[f"{case}/loss"]), abs=1e-9)


def test_metrics_by_hand() -> None:
    """On a quarter circle the items stand in the order a b a b: the outer a has its like second, the inner last."""
    angles = np.array([0.0, 0.3, 0.7, 1.2])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    lowest, highest = reference.metrics(rows, np.array([0, 1, 0, 1]), None, None, (1, 2))
    assert lowest == highest
    # nearest others, in order: 0: 1 2 3; 1: 0 2 3; 2: 1 3 0; 3: 2 1 0
    assert lowest["recall@1"] == 0
    assert lowest["recall@2"] == 0.5
    assert lowest["precision@2"] == 0.25
    assert lowest["mrr"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3 + 1 / 2) / 4)
    assert lowest["r_precision"] == lowest["map@r"] == 0


def test_ties_leave_both_values_open() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    lowest, highest = reference.metrics(rows[:1], np.array([1]), rows[1:], np.array([1, 2]), (1,))
    assert (lowest["recall@1"], highest["recall@1"]) == (0, 1)


def test_mutual_information_by_hand() -> None:
    same, other = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert reference.mutual_information(same, 1 - same) == pytest.approx(1)
    assert reference.mutual_information(same, other) == pytest.approx(0)


def test_lengths_beyond_the_range_of_squares() -> None:
    for scale in (1e-300, 1e300):
        assert reference.unit(scale * np.array([[3.0, 4.0]])) == pytest.approx(np.array([[0.6, 0.8]]))
