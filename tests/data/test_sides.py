"""On which side a class is: trained on, set aside to choose the epoch by, or tested on."""

import numpy as np
import pytest

from recallk import InputError
from recallk.data.item import Record
from recallk.data.records import LabelledItems, labelled
from recallk.data.sides import FEWEST_QUERIES, limit_classes, set_aside, split_classes

PIXELS = np.zeros((2, 2), np.uint8)


def records(**images_of: int) -> list[Record]:
    return [Record(PIXELS, label) for label, count in images_of.items() for _ in range(count)]


def sides(given: list[Record], fraction: float, seed: int) -> dict[str, str | None]:
    return {record.label: record.split for record in split_classes(given, fraction, seed)}


def test_classes_are_split_disjoint_seeded_and_as_asked() -> None:
    given = records(**{f"c{i}": 3 for i in range(400)})
    split = split_classes(given, 0.3, seed=1)
    train, test = (labelled([record for record in split if record.split == side]) for side in ("train", "test"))
    assert not set(train.classes) & set(test.classes)
    assert len(train.classes) + len(test.classes) == 400
    assert abs(len(test.classes) - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5  # four standard deviations
    assert len(train.labels) + len(test.labels) == 1200
    assert split == split_classes(given, 0.3, seed=1)
    assert split != split_classes(given, 0.3, seed=2)
    assert [train.classes[label] for label in train.labels] == [record.label for record in train.records]


@pytest.mark.parametrize("count", [20, 50, 200])
def test_a_class_stays_on_its_side_when_others_come(count: int) -> None:
    given = records(**{f"c{i}": 1 for i in range(count)})
    before = sides(given, 0.5, 0)
    for more in (1, 2, 30):
        after = sides([*records(**{f"new{i}": 1 for i in range(more)}), *given], 0.5, 0)
        assert {name: after[name] for name in before} == before


def test_a_larger_test_fraction_only_adds_classes() -> None:
    given = records(**{f"c{i}": 1 for i in range(100)})
    tests = [{n for n, side in sides(given, fraction, 3).items() if side == "test"} for fraction in (0.2, 0.5, 0.8)]
    assert tests[0] < tests[1] < tests[2]


def test_the_split_is_the_same_in_every_version() -> None:
    """Written down once: a run is evaluated on the classes that it was not trained on."""
    split = sides(records(**dict.fromkeys("abcdefghijkl", 1), é=1), 0.5, 0)
    assert "".join(name for name, side in split.items() if side == "test") == "bcefgjkl"


@pytest.mark.parametrize(("classes", "fewest"), [(2, 1), (3, 1), (4, 2), (5, 2), (9, 2)])
@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_few_classes_leave_no_side_empty(classes: int, fewest: int, fraction: float) -> None:
    for seed in range(20):
        given = records(**{f"c{i}": 1 for i in range(classes)})
        found = list(sides(given, fraction, seed).values())
        assert min(found.count("train"), found.count("test")) >= fewest
        if fraction != 0.5:
            assert min(found.count("train"), found.count("test")) == fewest


def test_each_side_gets_a_class() -> None:
    for fraction in (0.01, 0.99):
        split = split_classes(records(a=2, b=2), fraction, 0)
        assert {record.split for record in split} == {"train", "test"}


def test_a_given_split_is_kept_and_checked() -> None:
    given = [Record(PIXELS, "a", "train"), Record(PIXELS, "b", "test")]
    assert split_classes(given, 0.5, 0) == given
    with pytest.raises(InputError, match="no test items"):
        split_classes([Record(PIXELS, "a", "train"), Record(PIXELS, "b", "train")], 0.5, 0)
    with pytest.raises(InputError, match="class a is in the train and in the test split"):
        split_classes([*given, Record(PIXELS, "a", "test")], 0.5, 0)


def test_one_class_or_none() -> None:
    with pytest.raises(InputError, match=r"only one class \(a\)"):
        split_classes(records(a=5), 0.5, 0)
    with pytest.raises(InputError, match="no items"):
        split_classes([], 0.5, 0)


def test_queries_and_gallery_keep_the_same_classes() -> None:
    splits = {"train": "fbdhj", "gallery": "abcdeg", "query": "cedx"}
    given = [Record(PIXELS, label, split) for split, labels in splits.items() for label in labels for _ in range(2)]
    limited = limit_classes(given, 2)
    left = {split: {record.label for record in limited if record.split == split} for split in splits}
    assert left == {"train": {"b", "d"}, "gallery": {"c", "d"}, "query": {"c", "d"}}
    assert len(limited) == 12
    with pytest.raises(InputError, match="no class is in query and in gallery"):
        limit_classes([Record(PIXELS, "a", "query"), Record(PIXELS, "b", "gallery")], 1)


def test_limited_classes_are_the_first_of_each_split() -> None:
    given = [Record(PIXELS, label, split) for split in ("train", "test-800", "test-1600") for label in "zyx"]
    assert limit_classes(given, 2) == [record for record in given if record.label in "xy"]


# when validation classes can tell


def train_of(classes: int, images: int) -> LabelledItems:
    return labelled([Record(f"{c:03}/{i}", f"{c:03}", "train") for c in range(classes) for i in range(images)])


@pytest.mark.parametrize(
    ("classes", "images", "why_not"),
    [
        (9, 500, "9 training classes are too few to set some aside (10 are needed)"),
        (90, 1, "0 training classes are too few to set some aside (10 are needed)"),
        (90, 4, "36 validation queries are too few to choose an epoch by (100 are needed)"),
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
    more = labelled([*train.records, *train_of(60, 30).records[-600:]])
    again = set_aside(more, 0.5, seed=3, recorded=chosen.classes).validation
    assert again is not None
    assert list(again.classes) == list(chosen.classes)
    nothing = set_aside(train, 0.1, seed=0, recorded=[])
    assert nothing.validation is None
    assert nothing.why_not == "no classes were set aside when the run began"
    assert set_aside(train_of(90, 4), 0.1, 0, recorded=[]).why_not.startswith("36 validation queries")
