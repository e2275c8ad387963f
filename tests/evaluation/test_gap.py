"""Global average precision against the numbers of the authors, and against a loop down the predictions."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk.core.errors import InputError
from recallk.evaluation import gap
from tests.evaluation.golden import golden


def walked(predicted: Any, confidence: Any, truth: Any) -> float:
    right, total, answered = 0, 0.0, 0
    for rank, i in enumerate(sorted(range(len(truth)), key=lambda i: (-confidence[i], i)), start=1):
        answered += truth[i] != -1
        if truth[i] != -1 and predicted[i] == truth[i]:
            right += 1
            total += right / rank
    return total / answered


def test_the_numbers_of_the_authors() -> None:
    given = golden("instance")["gap"]
    columns = [np.array(given[name]) for name in ("predicted", "confidence", "truth")]
    assert gap(*columns) == pytest.approx(given["expected"], abs=1e-12)
    answered = [column[columns[2] >= 0] for column in columns]
    assert gap(*answered) == pytest.approx(given["expected_without_distractors"], abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(-1, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(-1, 3)), max_size=30
    ),
    answer=st.integers(0, 3),
)
def test_equals_the_loop(rows: list[tuple[int, float, int]], answer: int) -> None:
    columns = list(zip(*rows, (2, 0.5, answer), strict=True))
    found = gap(*columns)
    assert type(found) is float
    assert found == pytest.approx(walked(*columns), abs=1e-12)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, list])
def test_tensors_arrays_and_lists(make: Any) -> None:
    assert gap(make([7, 3, 7]), make([0.9, 0.8, 0.7]), make([7, -1, 7])) == pytest.approx(5 / 6)


MISTAKES: dict[str, tuple[Any, Any, Any, str]] = {
    "shapes": ([1, 2], [0.5], [1, 2], r"have shapes \(2,\), \(1,\), \(2,\)"),
    "2-D": ([[1]], [[0.5]], [[1]], "one value for each query is needed"),
    "no answer": ([1, 2], [0.5, 0.6], [-1, -1], "no query has an answer"),
    "NaN": ([1, 2], [0.5, float("nan")], [1, 2], "confidence of query 1 is NaN"),
    "truth": ([1, 2], [0.5, 0.5], [1, -2], "truth of query 1 is below -1"),
    "floats": ([1.0], [0.5], [1], "predicted are float64: integers are needed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    *columns, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        gap(*columns)
    assert "\n" not in str(caught.value)
