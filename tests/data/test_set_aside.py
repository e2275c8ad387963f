"""Training classes are set aside only where they can tell which epoch is best."""

from pathlib import Path

import numpy as np
import pytest

from recallk.data.item import LabelledItems, Record, labelled
from recallk.data.sides import FEWEST_QUERIES, set_aside


def train_of(classes: int, items: int) -> LabelledItems:
    return labelled([Record(Path(f"{c:03}/{i}.png"), f"{c:03}", "train") for c in range(classes) for i in range(items)])


@pytest.mark.parametrize(
    ("classes", "items", "why_not"),
    [
        (9, 500, "9 training classes are too few to set some aside (10 are needed)"),
        (90, 1, "0 training classes are too few to set some aside (10 are needed)"),
        (90, 4, "36 validation queries could not tell (100 are needed)"),
        (249, 4, ""),
        (10, 50, ""),
    ],
)
def test_enough_queries_or_the_last_epoch(classes: int, items: int, why_not: str) -> None:
    train = train_of(classes, items)
    aside = set_aside(train, 0.1, seed=0)
    assert aside.why_not == why_not
    if why_not:
        assert aside.train is train
        assert aside.validation is None
    else:
        assert aside.validation is not None
        assert len(aside.validation.labels) >= FEWEST_QUERIES
        assert set(aside.train.classes) | set(aside.validation.classes) == set(train.classes)


def test_enough_is_what_the_standard_error_says() -> None:
    draws = np.random.default_rng(0).binomial(FEWEST_QUERIES, 0.5, 100_000) / FEWEST_QUERIES
    assert 100 * draws.std() == pytest.approx(50 / FEWEST_QUERIES**0.5, rel=0.02)
    assert 100 * draws.std() < 5.1


def test_classes_set_aside_before_are_set_aside_again() -> None:
    train = train_of(40, 30)
    chosen = set_aside(train, 0.1, seed=0).validation
    assert chosen is not None
    more = labelled([*train.records, *train_of(60, 30).records[-600:]])
    again = set_aside(more, 0.5, seed=3, recorded=chosen.classes).validation
    assert again is not None
    assert list(again.classes) == list(chosen.classes)
    nothing = set_aside(train, 0.1, seed=0, recorded=[])
    assert nothing.validation is None
    assert nothing.why_not == "no classes were set aside when the run began"
    assert set_aside(train_of(90, 4), 0.1, 0, recorded=[]).why_not.startswith("36 validation queries")
