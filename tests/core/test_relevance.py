"""The positives against a loop over all pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk.core.errors import InputError
from recallk.core.relevance import Positives


@dataclass
class Case:
    labels: list[int]
    gallery_labels: list[int] | None
    query_rows: list[int] | None

    def positives(self) -> Positives:
        return Positives.from_labels(self.labels, self.gallery_labels, self.query_rows)

    def own_row(self, query: int) -> int:
        if self.gallery_labels is None:
            return query
        return -1 if self.query_rows is None else self.query_rows[query]

    def relevant(self, query: int) -> list[int]:
        """Return the rows of the gallery that are relevant to a query, in their order."""
        items = self.labels if self.gallery_labels is None else self.gallery_labels
        return [j for j, label in enumerate(items) if label == self.labels[query] and j != self.own_row(query)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    label = st.sampled_from([-(2**62), -3, 0, 1, 7, 2**62])
    labels = draw(st.lists(label, min_size=1, max_size=15))
    if draw(st.booleans()):
        return Case(labels, None, None)
    gallery_labels = draw(st.lists(label, min_size=1, max_size=20))
    if draw(st.booleans()):
        return Case(labels, gallery_labels, None)
    rows = [
        draw(st.sampled_from([-1, *(j for j, other in enumerate(gallery_labels) if other == own)])) for own in labels
    ]
    return Case(labels, gallery_labels, rows)


@given(cases(), st.integers(0, 3), st.integers(0, 25))
@settings(max_examples=300, deadline=None)
def test_equals_the_loop_over_all_pairs(case: Case, first: int, more: int) -> None:
    positives = case.positives()
    everyone = torch.arange(len(case.labels))
    expected = [case.relevant(q) for q in range(len(case.labels))]
    size = len(case.labels if case.gallery_labels is None else case.gallery_labels)
    assert positives.gallery_size == size
    assert positives.counts.tolist() == [len(items) for items in expected]
    assert positives.query_rows.tolist() == [case.own_row(q) for q in range(len(case.labels))]
    items, exist = positives.numbered(everyone, first, first + more)
    assert items.shape == exist.shape == (len(case.labels), more)
    assert [row[there].tolist() for row, there in zip(items, exist, strict=True)] == [
        found[first : first + more] for found in expected
    ]
    for q, found in enumerate(expected):
        assert positives.nth(torch.full((len(found),), q), torch.arange(len(found))).tolist() == found
    table = positives.are_relevant(everyone, torch.arange(size))
    assert [row.nonzero()[:, 0].tolist() for row in table] == expected
    backwards = positives.are_relevant(everyone.flip(0), torch.arange(size).flip(0).expand(len(case.labels), -1))
    assert backwards.equal(table.flip(0, 1))


@given(cases())
def test_the_starts_tell_which_queries_share_their_positives(case: Case) -> None:
    starts = case.positives().starts.tolist()
    able = [q for q in range(len(starts)) if case.relevant(q)]
    for one in able:
        for other in able:
            assert (starts[one] == starts[other]) == (case.labels[one] == case.labels[other])


def test_memory_grows_with_the_items_and_not_with_the_pairs() -> None:
    """One class of a million: as a matrix of pairs that is a terabyte."""
    positives = Positives.from_labels(torch.zeros(1_000_000, dtype=torch.int64))
    assert int(positives.counts[5]) == 999_999
    assert positives.nth(torch.tensor([0, 5, 999_999]), torch.tensor([0, 5, 999_998])).tolist() == [1, 6, 999_998]


@pytest.mark.parametrize("integers", [np.uint8, np.int16, np.uint64])
def test_integers_of_any_width(integers: Any) -> None:
    labels, gallery_labels, rows = np.array([3, 4]), np.array([3, 4, 4, 3]), np.array([3, 2])
    positives = Positives.from_labels(*(values.astype(integers) for values in (labels, gallery_labels, rows)))
    assert positives.nth(torch.arange(2), torch.tensor(0)).tolist() == [0, 1]
    assert positives.counts.dtype == positives.query_rows.dtype == torch.int64


LABELS = [3, 3, 5]
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "labels of floats": (lambda: Positives.from_labels([0.5]), "labels are float64: integers are needed"),
    "labels 2-D": (lambda: Positives.from_labels([LABELS]), r"labels have shape \(1, 3\): \(items,\) is needed"),
    "gallery labels 2-D": (lambda: Positives.from_labels(LABELS, [LABELS]), r"gallery_labels have shape \(1, 3\)"),
    "no gallery": (lambda: Positives.from_labels(LABELS, None, [0, 1, 2]), "give gallery and gallery_labels too"),
    "rows of floats": (lambda: Positives.from_labels(LABELS, LABELS, [0.0, 1.0, 2.0]), "query_rows are float64"),
    "rows of truth": (lambda: Positives.from_labels(LABELS, LABELS, [True] * 3), "query_rows are bool: integers"),
    "rows of words": (lambda: Positives.from_labels(LABELS, LABELS, list("abc")), "query_rows are strings"),
    "too few": (
        lambda: Positives.from_labels(LABELS, LABELS, [0, 1]),
        r"query_rows have shape \(2,\), there are 3 queries: give one row of the gallery for each, -1",
    ),
    "2-D": (lambda: Positives.from_labels(LABELS, LABELS, [[0, 1, 2]]), r"query_rows have shape \(1, 3\)"),
    "too far": (lambda: Positives.from_labels(LABELS, LABELS, [0, 1, 3]), r"must lie in -1 \.\. 2, .*, got 3"),
    "too low": (lambda: Positives.from_labels(LABELS, LABELS, [0, 1, -2]), "got -2"),
    "another label": (
        lambda: Positives.from_labels(LABELS, LABELS, [0, 2, -1]),
        "query 1 has the label 3, row 2 of the gallery 5: a query stands where its own label is",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
