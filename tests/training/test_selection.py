"""Which epoch's model is kept, and when validation classes can tell."""

from pathlib import Path

import numpy as np
import pytest

from recallk.data.item import Record
from recallk.data.source import Part, part
from recallk.training.selection import FEWEST_QUERIES, set_aside


def train_of(classes: int, images: int) -> Part:
    return part(
        [Record(Path(f"{c:03}/{i}.png"), f"{c:03}", "train") for c in range(classes) for i in range(images)], None
    )


@pytest.mark.parametrize(
    ("classes", "images", "why_not"),
    [
        (9, 500, "9 training classes are too few to set some aside (10 are needed)"),
        (90, 1, "0 training classes are too few to set some aside (10 are needed)"),
        (90, 4, "36 validation queries could not tell (100 are needed)"),
        (249, 4, ""),
        (10, 50, ""),
    ],
)
def test_enough_queries_or_the_last_epoch(classes: int, images: int, why_not: str) -> None:
    train = train_of(classes, images)
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
    more = part([*train.records, *train_of(60, 30).records[-600:]], None)
    again = set_aside(more, 0.5, seed=3, recorded=chosen.classes).validation
    assert again is not None
    assert list(again.classes) == list(chosen.classes)
    nothing = set_aside(train, 0.1, seed=0, recorded=[])
    assert nothing.validation is None
    assert nothing.why_not == "no classes were set aside when the run began"
    assert set_aside(train_of(90, 4), 0.1, 0, recorded=[]).why_not.startswith("36 validation queries")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ({"recall@1": 0.368, "map@r": 0.7}, "recall@1 fell from 37.9 to 36.8;"),
        ({"recall@1": 0.4, "map@r": 0.1}, "map@r fell from 20.0 to 10.0;"),
        ({"recall@1": 0.3, "map@r": 0.1}, "recall@1 fell from 37.9 to 30.0 and map@r fell from 20.0 to 10.0;"),
        ({"recall@1": 0.379, "map@r": 0.2}, None),
        ({"recall@1": 0.6, "map@r": 0.5, "recall@2": 0.0}, None),
    ],
)
def test_a_result_below_the_start_is_told(after: dict[str, float], told: str | None) -> None:
    from recallk.training.selection import below_start

    said = below_start({"recall@1": 0.379, "recall@2": 0.5, "map@r": 0.2}, after, 1, "last")
    assert (told in said[0] and "try a lower --learning-rate" in said[0]) if told else said == []
    assert not said or "--select last" not in said[0]


def test_a_start_that_is_lost_is_below_nothing() -> None:
    from recallk.training.selection import below_start

    assert below_start({}, {"recall@1": 0.1, "map@r": 0.1}, 1, "last") == []
