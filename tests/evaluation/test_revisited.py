"""The revisited protocol against the benchmark's own numbers, and against a loop that walks down each ranking."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk.core.errors import InputError
from recallk.evaluation import revisited_metrics
from tests.evaluation.golden import golden

LEFT_OUT = {"easy": ("junk", "hard"), "medium": ("junk",), "hard": ("junk", "easy")}
POSITIVE = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}


def walked(row: Sequence[float], lists: Mapping[str, Sequence[int]], protocol: str, ks: Sequence[int]) -> list[float]:
    """Average precision and the precisions of one query, item after item; none without a positive."""
    positive = {item for name in POSITIVE[protocol] for item in lists[name]}
    if not positive:
        return []
    left_out = {item for name in LEFT_OUT[protocol] for item in lists[name]}
    ranking = [i for i in sorted(range(len(row)), key=lambda i: (-row[i], i)) if i not in left_out]
    average, found, last = 0.0, 0, 0
    for rank, item in enumerate(ranking):
        if item in positive:
            before = 1.0 if rank == 0 else found / rank
            found += 1
            average += (before + found / (rank + 1)) / 2 / len(positive)
            last = rank + 1
    precisions = []
    for k in ks:
        depth = min(last, k)
        precisions.append(sum(item in positive for item in ranking[:depth]) / depth)
    return [average, *precisions]


def expected(similarities: Any, gnd: Any, ks: Sequence[int]) -> dict[str, dict[str, float]]:
    result = {}
    for protocol in POSITIVE:
        rows = [walked(row, lists, protocol, ks) for row, lists in zip(similarities, gnd, strict=True)]
        means = np.mean([row for row in rows if row], axis=0)
        result[protocol] = dict(zip(["map", *(f"mp@{k}" for k in ks)], means.tolist(), strict=True))
    return result


def test_the_numbers_of_the_benchmark_itself() -> None:
    given = golden("revisited")
    measured = revisited_metrics(given["similarities"], given["gnd"])
    for protocol, values in given["expected"].items():
        precisions = {f"mp@{k}": value for k, value in values["mean_precision_at"].items()}
        assert measured[protocol] == pytest.approx({"map": values["map"], **precisions}, abs=1e-12)
        for query, average in enumerate(values["aps"]):
            found = walked(given["similarities"][query], given["gnd"][query], protocol, ())
            assert found == ([] if average is None else pytest.approx([average], abs=1e-12)), "the loop is wrong"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_the_loop(data: st.DataObject) -> None:
    """With ties, queries without positives, junk anywhere and k beyond the gallery."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    queries, gallery = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 40))
    levels = data.draw(st.sampled_from([2, 5, 1000]))
    similarities = rng.integers(-levels, levels, (queries, gallery)) / levels
    gnd = []
    for query in range(queries):
        shares = [0.8, 0.1, 0.05, 0.05] if rng.random() < 0.5 else [0.2, 0.3, 0.2, 0.3]
        kinds = rng.choice(4, gallery, p=shares) if rng.random() < 0.7 else np.zeros(gallery)
        if query == 0:
            kinds[:2] = [1, 2]
        names = ("easy", "hard", "junk")
        gnd.append({name: rng.permutation(np.flatnonzero(kinds == i)) for i, name in enumerate(names, start=1)})
    ks = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=3, unique=True))
    measured = revisited_metrics(similarities, gnd, ks)
    for protocol, values in expected(similarities, gnd, ks).items():
        assert measured[protocol] == pytest.approx(values, abs=1e-12)
        assert all(type(value) is float for value in measured[protocol].values())


def test_junk_before_the_first_positive_does_not_count() -> None:
    gnd = [{"easy": [3], "hard": [4], "junk": [0, 1, 2]}]
    measured = revisited_metrics([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], gnd, ks=(1, 100))
    assert measured == {protocol: {"map": 1.0, "mp@1": 1.0, "mp@100": 1.0} for protocol in ("easy", "medium", "hard")}


def test_equal_similarities_come_by_index() -> None:
    gnd = [{"easy": [2], "hard": [0], "junk": []}]
    measured = revisited_metrics(np.zeros((1, 3)), gnd, ks=(1,))
    assert measured["hard"] == {"map": 1.0, "mp@1": 1.0}
    assert measured["easy"] == {"map": 0.25, "mp@1": 0.0}  # item 1 first: (0 / 1 + 1 / 2) / 2


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, list, lambda x: torch.tensor(x).half()])
@pytest.mark.parametrize("inside", [np.array, list, torch.tensor, lambda x: np.array(x, dtype=np.uint16)])
def test_tensors_arrays_and_lists(make: Any, inside: Any) -> None:
    similarities = [[0.5, 0.25, 0.75, 0.0], [0.0, 1.0, 0.5, 0.25]]
    plain = [{"easy": [1], "hard": [2], "junk": []}, {"easy": [0, 3], "hard": [], "junk": [1]}]
    gnd = [
        {**{name: inside(numbers) for name, numbers in lists.items()}, "bbx": [1.0, 2.0, 3.5, 4.0]} for lists in plain
    ]
    assert revisited_metrics(make(similarities), gnd) == expected(similarities, plain, (1, 5, 10))


ROW = [[0.3, 0.2, 0.1]]
GOOD = {"easy": [0], "hard": [1], "junk": [2]}
MISTAKES: dict[str, tuple[Any, Any, str]] = {
    "beyond": (
        ROW,
        [{**GOOD, "hard": [3]}],
        r"hard of query 0 name the gallery item 3, but the gallery's are 0 \.\. 2",
    ),
    "negative": (ROW * 2, [GOOD, {**GOOD, "junk": [-1]}], "junk of query 1 name the gallery item -1"),
    "twice": (ROW, [{**GOOD, "easy": [0, 0]}], "easy of query 0 name the gallery item 0 more than once"),
    "two lists": (
        ROW,
        [{**GOOD, "junk": [1]}],
        "easy, hard and junk of query 0 name the gallery item 1 more than once",
    ),
    "floats": (ROW, [{**GOOD, "easy": [0.5]}], "easy of query 0 are float64 of shape"),
    "text": (ROW, [{**GOOD, "easy": ["a"]}], "easy of query 0 are strings"),
    "a list is missing": (ROW, [{"easy": [0], "hard": [1]}], "gnd of query 0 is no dictionary with the lists"),
    "too few": (ROW * 2, [GOOD], "gnd has 1 entries for 2 queries"),
    "the whole pickle": (ROW, {"gnd": [GOOD], "imlist": []}, "gnd: a dictionary for each query is needed, got dict"),
    "nothing": (ROW, None, "got NoneType"),
    "NaN": ([[0.1, 0.2, 0.3], [0.1, float("nan"), 0.2]], [GOOD, GOOD], "similarities of query 1 hold NaN"),
    "1-D": (ROW[0], [GOOD], r"similarities have shape \(3,\)"),
    "no query": (np.empty((0, 3)), [], r"similarities have shape \(0, 3\)"),
    "no easy one": (ROW, [{**GOOD, "easy": []}], "easy: no query has an item in easy, there is no mean to take"),
    "no positive": (ROW, [{"easy": [], "hard": [], "junk": []}], "easy: no query has an item in easy"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    similarities, gnd, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        revisited_metrics(similarities, gnd)
    assert "\n" not in str(caught.value)


def test_ks_are_checked() -> None:
    with pytest.raises(InputError, match="every k must be an integer of at least 1, got 0"):
        revisited_metrics(ROW, [GOOD], ks=(0,))
