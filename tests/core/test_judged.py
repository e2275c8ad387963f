"""Positives of several labels, hierarchies, judged pairs and lists, against loops over all pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk import InputError, Positives

LABELS = st.sets(st.sampled_from(["a", "b", "c", "d"]), max_size=4)


def said(positives: Positives, ignored: bool = False) -> list[list[int]]:
    """Return what is said of each query, in three ways that have to agree."""
    lists = positives.ignored if ignored else positives.relevant
    queries = torch.arange(len(positives.counts))
    if lists is None:
        return [[] for _ in queries]
    items, exist = lists.numbered(queries, 0, int(lists.counts.max()) + 1)
    found = [row[there].tolist() for row, there in zip(items, exist, strict=True)]
    assert [lists.mask(int(query)).nonzero()[:, 0].tolist() for query in queries] == found
    table = lists.contain(queries, torch.arange(positives.gallery_size))
    assert [row.nonzero()[:, 0].tolist() for row in table] == found
    assert lists.counts.tolist() == [len(row) for row in found]
    return found


@given(st.lists(LABELS, min_size=1, max_size=12), st.data(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
@settings(max_examples=200, deadline=None)
def test_label_sets(queries: list[set[str]], data: st.DataObject, share: float) -> None:
    apart = data.draw(st.booleans())
    items = data.draw(st.lists(LABELS, min_size=1, max_size=12)) if apart else queries
    rows = [data.draw(st.integers(-1, len(items) - 1)) for _ in queries] if apart else list(range(len(queries)))
    made = Positives.from_label_sets(queries, items if apart else None, rows if apart else None, share=share)
    expected = [
        [
            row
            for row, other in enumerate(items)
            if row != rows[q] and own & other and len(own & other) >= share * len(own | other)
        ]
        for q, own in enumerate(queries)
    ]
    assert said(made) == expected
    assert made.query_rows.tolist() == rows


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12), st.data())
@settings(max_examples=100, deadline=None)
def test_hierarchies(queries: list[tuple[int, ...]], data: st.DataObject) -> None:
    level = data.draw(st.integers(0, 2))
    apart = data.draw(st.booleans())
    items = data.draw(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12)) if apart else queries
    made = Positives.from_hierarchy(queries, items if apart else None, level=level)
    depth = level + 1
    assert said(made) == [
        [row for row, other in enumerate(items) if other[:depth] == own[:depth] and (apart or row != q)]
        for q, own in enumerate(queries)
    ]
    assert made.are_classes


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_judged_pairs(data: st.DataObject) -> None:
    queries, documents = [f"q{n}" for n in range(6)] + ["d1"], [f"d{n}" for n in range(8)]
    ids = st.sampled_from([*documents, "elsewhere"])
    qrels = data.draw(st.dictionaries(st.sampled_from([*queries, "other"]), st.dictionaries(ids, st.integers(-1, 3))))
    left_out = data.draw(st.dictionaries(st.sampled_from(queries), st.sets(ids)))
    least = data.draw(st.sampled_from([1, 2]))
    made = Positives.from_qrels(qrels, queries, documents, least_grade=least, ignored=left_out)
    ignored = [
        [row for row, name in enumerate(documents) if name in left_out.get(query, ()) and name != query]
        for query in queries
    ]
    assert said(made, ignored=True) == ignored
    assert said(made) == [
        [
            row
            for row, name in enumerate(documents)
            if qrels.get(query, {}).get(name, 0) >= least and row not in ignored[q] and name != query
        ]
        for q, query in enumerate(queries)
    ]
    assert made.query_rows.tolist() == [-1] * 6 + [1]
    assert not made.are_classes


@given(st.lists(st.lists(st.integers(0, 7), max_size=10), min_size=8, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_lists(relevant: list[list[int]], data: st.DataObject) -> None:
    ignored = data.draw(st.lists(st.sets(st.integers(0, 7)), min_size=8, max_size=8))
    made = Positives.from_lists(relevant, ignored=ignored)
    assert said(made) == [sorted({*own} - {q} - ignored[q]) for q, own in enumerate(relevant)]
    assert said(made, ignored=True) == [sorted(own - {q}) for q, own in enumerate(ignored)]
    apart = Positives.from_lists([np.array(own, np.int64) for own in relevant], 9, [8, *[-1] * 7])
    assert said(apart) == [sorted({*own}) for own in relevant]
    assert apart.gallery_size == 9


def test_memory_is_that_of_the_lists() -> None:
    """Ten thousand items of two thousand sets of labels: a matrix of pairs would have a hundred million places."""
    random = np.random.default_rng(0)
    sets = [frozenset(random.choice(1_000, 2, replace=False).tolist()) for _ in range(10_000)]
    made = Positives.from_label_sets(sets)
    held = sum(value.numel() for value in vars(made.relevant).values() if isinstance(value, torch.Tensor))
    assert held < 100 * len(sets)


WRONG: list[tuple[Any, str]] = [
    (lambda: Positives.from_lists([[0, 3], [1]]), "row 3 of the gallery, which has 2"),
    (lambda: Positives.from_lists([[-1]], 5), "row -1"),
    (lambda: Positives.from_lists([[0.5]], 5), "query 0: a list of whole numbers"),  # type: ignore[list-item]
    (lambda: Positives.from_lists([["a"]], 5), "query 0: a list of whole numbers"),  # type: ignore[list-item]
    (lambda: Positives.from_lists([[1]], 5, [5]), "must lie in -1 .. 4"),
    (lambda: Positives.from_lists([[1]], 5, [1, 2]), "there are 1 queries"),
    (lambda: Positives.from_lists([[1]], 5, [0.5]), "integers are needed"),
    (lambda: Positives.from_lists([[0]], None, [0]), "give the gallery too"),
    (lambda: Positives.from_lists([[0]], 5, ignored=[[1], [2]]), "ignored says something of 2 queries, there are 1"),
    (lambda: Positives.from_label_sets(["ab", "b"]), "item 0 has 'ab' for labels"),
    (lambda: Positives.from_label_sets([{1}, 2]), "item 1 has 2 for labels"),  # type: ignore[list-item]
    (lambda: Positives.from_label_sets([{1}], share=1.5), "share=1.5: a number from 0 to 1"),
    (lambda: Positives.from_label_sets([{1}], share="all"), "a number from 0 to 1"),  # type: ignore[arg-type]
    (lambda: Positives.from_label_sets([{1}], None, [0]), "give the gallery too"),
    (lambda: Positives.from_hierarchy([[1, 2]], level=2), "level=2: from 0 to 1"),
    (lambda: Positives.from_hierarchy([1, 2], level=0), "integers, \\(items, levels\\)"),
    (lambda: Positives.from_hierarchy([[0.5]], level=0), "integers, \\(items, levels\\)"),
    (lambda: Positives.from_qrels({}, ["q", "q"], ["d"]), "an id is there twice"),
    (lambda: Positives.from_qrels({}, ["q"], ["d", "d"]), "an id is there twice"),
]


@pytest.mark.parametrize(("make", "told"), WRONG)
def test_what_does_not_fit_is_told(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make()


def test_queries_with_the_same_labels_share_a_list() -> None:
    sets: Sequence[set[str]] = [{"a", "b"}, {"b", "a"}, {"a"}]
    made = Positives.from_label_sets(sets)
    assert made.starts[0] == made.starts[1] != made.starts[2]
