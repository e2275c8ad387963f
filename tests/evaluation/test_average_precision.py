"""AP@k against the numbers of the methods' authors, and against a loop down each ranking."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk.core.errors import InputError
from recallk.evaluation import average_precision_at_k
from tests.evaluation.golden import golden


def walked(row: Any, relevant: Any, k: int) -> float:
    if not len(relevant):
        return float("nan")
    hits, total = 0, 0.0
    for rank, item in enumerate(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k], start=1):
        if item in relevant:
            hits += 1
            total += hits / rank
    return total / min(len(relevant), k)


@pytest.mark.parametrize(("name", "k"), [("map_at_100", 100), ("ilias", 50)])
def test_the_numbers_of_the_authors(name: str, k: int) -> None:
    everything = golden("instance")
    given = everything["map_at_100"]
    found = average_precision_at_k(given["similarities"], given["relevant"], k)
    assert found.dtype == torch.float64
    wanted = [float("nan") if value is None else value for value in everything[name]["expected_aps"]]
    np.testing.assert_allclose(found, wanted, atol=1e-12, rtol=0)
    if name == "map_at_100":
        assert float(found.nanmean()) == pytest.approx(given["expected_map"], abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_the_loop(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    queries, gallery = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 50))
    levels = data.draw(st.sampled_from([1, 4, 1000]))
    similarities = rng.integers(-levels, levels + 1, (queries, gallery)) / levels
    relevant = [rng.permutation(gallery)[: rng.integers(0, gallery + 1)] for _ in range(queries)]
    k = data.draw(st.integers(1, 70))
    found = average_precision_at_k(similarities, relevant, k)
    wanted = [walked(row, set(items.tolist()), k) for row, items in zip(similarities, relevant, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-12, rtol=0)


def test_all_queries_may_be_empty() -> None:
    assert average_precision_at_k(np.ones((2, 3)), [[], np.array([])]).isnan().all()


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, list])
def test_tensors_arrays_and_lists(make: Any) -> None:
    found = average_precision_at_k(make([[0.1, 0.9, 0.5]]), [make([0, 1])], k=3)
    assert found.tolist() == pytest.approx([(1 + 2 / 3) / 2])


MISTAKES: dict[str, tuple[Any, Any, Any, str]] = {
    "beyond": ([[1.0]], [[1]], 1, r"relevant items of query 0 name the gallery item 1, but the gallery's are 0 \.\. 0"),
    "twice": ([[1.0]], [[0, 0]], 1, "relevant items of query 0 name the gallery item 0 more than once"),
    "number": ([[1.0]], [0], 1, r"relevant items of query 0 are int64 of shape \(\)"),
    "too many": ([[1.0]], [[0], [0]], 1, "relevant has 2 entries for 1 queries"),
    "k": ([[1.0]], [[0]], 0, "every k must be an integer of at least 1, got 0"),
    "k as text": ([[1.0]], [[0]], "3", "every k must be an integer"),
    "infinite": ([[float("inf")]], [[0]], 1, "similarities of query 0 hold NaN or infinity"),
    "complex": ([[1j]], [[0]], 1, "similarities are complex128"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    similarities, relevant, k, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        average_precision_at_k(similarities, relevant, k)
    assert "\n" not in str(caught.value)
