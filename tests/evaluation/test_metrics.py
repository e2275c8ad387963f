"""Metrics against a loop over queries that sorts everything, and against pytorch-metric-learning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.evaluation import evaluation_set
from recallk.evaluation.evaluation_set import EvaluationSet, Found, unit_embeddings
from recallk.evaluation.metrics import retrieval_metrics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def obvious_metrics(
    queries: Floats,
    labels: Ints,
    gallery: Floats | None,
    gallery_labels: Ints | None,
    ks: Sequence[int],
    query_rows: Ints | None = None,
) -> dict[str, float]:
    """Rank the whole gallery for one query after the other; equal similarities in the order of indexes."""
    items, classes = (queries, labels) if gallery is None or gallery_labels is None else (gallery, gallery_labels)
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    own = (
        np.arange(len(queries)) if gallery is None else np.full(len(queries), -1) if query_rows is None else query_rows
    )
    by_query: dict[str, list[float]] = {}
    for i, query in enumerate(queries):
        similarities = unit @ (query / np.linalg.norm(query))
        ranking = [int(j) for j in np.argsort(-similarities, kind="stable") if j != own[i]]
        hits = [bool(classes[j] == labels[i]) for j in ranking]
        r = sum(hits)
        if r == 0:
            continue
        values = {f"recall@{k}": float(any(hits[:k])) for k in ks}
        values |= {f"precision@{k}": sum(hits[:k]) / k for k in ks}
        values["r_precision"] = sum(hits[:r]) / r
        values["map@r"] = sum(sum(hits[: j + 1]) / (j + 1) for j in range(r) if hits[j]) / r
        values["mrr"] = 1 / (hits.index(True) + 1)
        for name, value in values.items():
            by_query.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in by_query.items()}


@dataclass
class Case:
    queries: Floats
    labels: Ints
    gallery: Floats | None
    gallery_labels: Ints | None
    query_rows: Ints | None = None


def sides(data: st.DataObject, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Draw classes of any size, in any order; some rows are copies of another of their class."""
    sizes = data.draw(st.lists(st.sampled_from([1, 1, 2, 3, 5, 12]), min_size=1, max_size=7))
    names = rng.permutation(np.arange(-3, 9) * 1_000_000_007)[: len(sizes)]
    labels = rng.permutation(np.repeat(names, sizes))
    rows = rng.normal(size=(len(labels), 4))
    for i in range(len(labels)):
        if rng.random() < 0.2:
            rows[i] = rows[rng.choice(np.flatnonzero(labels == labels[i]))]
    return rows, labels


def draw_problem(data: st.DataObject) -> Case:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    queries, labels = sides(data, rng)
    if data.draw(st.booleans()):
        gallery, gallery_labels = sides(data, rng)
        rows = None
        if data.draw(st.booleans()):
            same = [[-1, *np.flatnonzero(gallery_labels == label)] for label in labels]
            rows = np.array([rng.choice(choices) for choices in same])
        return Case(queries, labels, gallery, gallery_labels, rows)
    return Case(queries, labels, None, None)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_equals_the_loop_over_queries(data: st.DataObject) -> None:
    p = draw_problem(data)
    ks = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=3, unique=True))
    expected = obvious_metrics(p.queries, p.labels, p.gallery, p.gallery_labels, ks, p.query_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_set, "_CELLS_AT_ONCE", data.draw(st.sampled_from([1, 50, 2**22])))
        patch.setattr(evaluation_set, "SCORES_AT_ONCE", data.draw(st.sampled_from([1, 300, 2**26])))
        if not expected:
            with pytest.raises(InputError, match="no query has an item of its own class"):
                retrieval_metrics(p.queries, p.labels, p.gallery, p.gallery_labels, ks, query_rows=p.query_rows)
            return
        measured = retrieval_metrics(p.queries, p.labels, p.gallery, p.gallery_labels, ks, query_rows=p.query_rows)
    assert measured == pytest.approx(expected, abs=1e-9)
    assert all(type(value) is float for value in measured.values())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 40), k=st.integers(1, 5))
def test_ties_between_classes_fall_by_index(seed: int, size: int, k: int) -> None:
    """Exact similarities, at the cut of the searched list and below it; the other k's do not matter."""
    rng = np.random.default_rng(seed)
    rows, gallery = (rng.choice([-0.5, 0.5], size=(n, 4)) for n in (10, size))
    labels, gallery_labels = rng.integers(0, 6, 10), rng.integers(0, 6, size)
    gallery_labels[0] = labels[0]
    expected = obvious_metrics(rows, labels, gallery, gallery_labels, (k, 30))
    measured = retrieval_metrics(rows, labels, gallery, gallery_labels, (k, 30))
    assert measured == pytest.approx(expected, abs=1e-12)
    alone = retrieval_metrics(rows, labels, gallery, gallery_labels, (k,))
    # one bit may differ: sums over tables of another width round in another order
    assert alone == pytest.approx({name: measured[name] for name in alone}, abs=1e-12)


def test_query_is_excluded_by_index_among_duplicates() -> None:
    """Four equal rows of four classes, and far away a pair for each: no query finds its class at first."""
    rows = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    result = retrieval_metrics(rows, labels, ks=(1, 3, 7))
    assert result["recall@1"] == result["recall@3"] == result["r_precision"] == 0
    assert result["recall@7"] == 1
    # duplicates of one class find each other
    assert retrieval_metrics(rows, np.repeat([0, 1], 4), ks=(3,))["precision@3"] == 1


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), shards=st.integers(1, 4))
def test_the_shards_of_a_set_are_the_set(seed: int, shards: int) -> None:
    """Each against the whole, in another order, with the queries' own rows there: means over the queries that count."""
    rng = np.random.default_rng(seed)
    rows, labels = rng.normal(size=(40, 3)), rng.integers(0, 15, 40)
    order = rng.permutation(40)
    place = np.argsort(order)
    sums: dict[str, float] = {}
    able = np.array([(labels == label).sum() > 1 for label in labels])
    for shard in np.array_split(np.arange(40), shards):
        found = retrieval_metrics(rows[shard], labels[shard], rows[order], labels[order], query_rows=place[shard])
        for name, value in found.items():
            sums[name] = sums.get(name, 0) + value * able[shard].sum() / able.sum()
    assert sums == pytest.approx(retrieval_metrics(rows, labels), abs=1e-9)


def test_a_query_outside_of_the_gallery_may_find_all_of_it() -> None:
    """Beside one that leaves itself out and so has an item fewer to find."""
    gallery = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    found = retrieval_metrics(
        gallery[:1].repeat(2, 0), np.array([0, 1]), gallery, np.array([0, 0, 1]), ks=(3,), query_rows=np.array([0, -1])
    )
    assert found["recall@3"] == 1


def test_singletons_are_distractors_only() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    result = retrieval_metrics(rows, np.array([0, 0, 1, 2]), ks=(1, 3))
    assert result["recall@1"] == 0  # each of the pair is nearer to a singleton
    assert result["recall@3"] == 1
    assert result["mrr"] == pytest.approx((1 / 3 + 1 / 3) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e3])
def test_any_precision_and_scale(dtype: torch.dtype, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(60, 8, generator=generator) * scale).to(dtype)
    labels = torch.arange(60) % 7
    expected = obvious_metrics(rows.double().numpy(), labels.numpy(), None, None, (1, 10))
    assert retrieval_metrics(rows, labels) == pytest.approx(expected, abs=1e-9)


def test_extreme_scales_are_normalised() -> None:
    rows, _ = unit_embeddings(np.array([[3e300, 4e300], [3e-300, 4e-300], [0.0, 0.0]]), np.arange(3))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16, np.int64])
def test_arrays_of_any_integer_and_layout(kind: type[np.integer[Any]]) -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(30, 4)), rng.integers(0, 5, 30)
    expected = retrieval_metrics(torch.from_numpy(rows), torch.from_numpy(labels))
    turned = np.asfortranarray(rows)[::-1]
    turned.flags.writeable = False
    assert retrieval_metrics(turned, labels.astype(kind)[::-1]) == pytest.approx(expected, abs=1e-9)


def test_gradients_are_left_alone() -> None:
    rows = torch.randn(10, 3, requires_grad=True)
    retrieval_metrics(rows, torch.arange(10) % 2, rows, torch.arange(10) % 2)
    assert rows.requires_grad
    assert rows.grad is None


def test_a_large_class_stays_within_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One class of 1,000 among small ones: no table larger than asked, and the small classes' are narrow."""
    shapes: list[tuple[int, ...]] = []

    def spy(evaluated: EvaluationSet, rows: torch.Tensor, depth: int) -> Found:
        found = original(evaluated, rows, depth)
        shapes.append(tuple(found.relevant.shape))
        return found

    original = EvaluationSet._found
    monkeypatch.setattr(EvaluationSet, "_found", spy)
    monkeypatch.setattr(evaluation_set, "_CELLS_AT_ONCE", 2**17)
    labels = torch.cat([torch.zeros(1000, dtype=torch.int64), torch.arange(1, 101).repeat_interleave(2)])
    retrieval_metrics(torch.randn(1200, 8), labels)
    assert max(rows * depth for rows, depth in shapes) <= 2**17
    assert sum(rows for rows, _ in shapes) == 1200
    assert shapes[0][1] == 999
    assert shapes[-1][1] == 10


ROWS = np.random.default_rng(0).normal(size=(6, 3))
LABELS = np.array([0, 0, 1, 1, 2, 2])
BAD = np.where(np.arange(6)[:, None] < 2, np.nan, ROWS)
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "labels too short": (
        lambda: retrieval_metrics(ROWS, LABELS[:5]),
        r"labels have shape \(5,\), embeddings have 6 rows",
    ),
    "labels 2-D": (lambda: retrieval_metrics(ROWS, LABELS[:, None]), r"labels have shape \(6, 1\)"),
    "labels of floats": (lambda: retrieval_metrics(ROWS, LABELS * 1.0), "labels are float64: integers are needed"),
    "labels of words": (
        lambda: retrieval_metrics(ROWS, np.array(list("aabbcc"))),
        "labels are strings: integers are needed; number the classes",
    ),
    "gallery labels": (
        lambda: retrieval_metrics(ROWS, LABELS, ROWS, LABELS[:2]),
        r"gallery_labels have shape \(2,\), gallery have 6 rows",
    ),
    "NaN": (
        lambda: retrieval_metrics(BAD, LABELS),
        "2 of 6 rows of the embeddings hold NaN or infinity: after steps of training, lower",
    ),
    "infinite": (
        lambda: retrieval_metrics(ROWS, LABELS, BAD * np.inf, LABELS),
        "6 of 6 rows of the gallery hold NaN or infinity",
    ),
    "dimensions": (
        lambda: retrieval_metrics(ROWS, LABELS, ROWS[:, :2], LABELS),
        "embeddings have 3 dimensions but the gallery has 2",
    ),
    "1-D": (lambda: retrieval_metrics(ROWS[:, 0], LABELS), r"have shape \(6,\): \(items, dimensions\) is needed"),
    "integers": (
        lambda: retrieval_metrics(ROWS.astype(int), LABELS),
        "embeddings are int64: floating-point numbers are needed",
    ),
    "empty": (lambda: retrieval_metrics(ROWS[:0], LABELS[:0]), r"embeddings are empty, of shape \(0, 3\)"),
    "empty gallery": (lambda: retrieval_metrics(ROWS, LABELS, ROWS[:0], LABELS[:0]), "gallery are empty"),
    "no gallery labels": (lambda: retrieval_metrics(ROWS, LABELS, ROWS), "give both or neither"),
    "no gallery": (lambda: retrieval_metrics(ROWS, LABELS, None, LABELS), "give both or neither"),
    "k of 0": (lambda: retrieval_metrics(ROWS, LABELS, ks=(1, 0)), "integer of at least 1, got 0"),
    "k of 1.5": (lambda: retrieval_metrics(ROWS, LABELS, ks=(1.5,)), "got 1.5"),  # type: ignore[arg-type]
    "one k": (lambda: retrieval_metrics(ROWS, LABELS, ks=10), "ks must be a sequence"),  # type: ignore[arg-type]
    "no k": (lambda: retrieval_metrics(ROWS, LABELS, ks=()), "ks must be a sequence of at least one"),
    "rows without a gallery": (
        lambda: retrieval_metrics(ROWS, LABELS, query_rows=np.arange(6)),
        "query_rows say where the queries stand in a gallery apart: give gallery and gallery_labels too",
    ),
    "rows of another class": (
        lambda: retrieval_metrics(ROWS, LABELS, ROWS, LABELS, query_rows=np.arange(6)[::-1]),
        "query 0 has the label 0, row 5 of the gallery 2: a query stands where its own label is",
    ),
    "rows out of range": (
        lambda: retrieval_metrics(ROWS, LABELS, ROWS, LABELS, query_rows=np.arange(6) + 1),
        r"query_rows must lie in -1 \.\. 5, the gallery's rows",
    ),
    "singletons": (lambda: retrieval_metrics(ROWS, np.arange(6)), "no query has an item of its own class"),
    "other classes": (lambda: retrieval_metrics(ROWS, LABELS, ROWS, LABELS + 3), "no query has an item of its own"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu() -> None:
    rows = torch.randn(500, 32)
    labels = torch.arange(500) % 60
    expected = retrieval_metrics(rows, labels)
    assert retrieval_metrics(rows.cuda(), labels) == pytest.approx(expected, abs=1e-6)
    apart = retrieval_metrics(rows.cuda(), labels, rows, labels.cuda())
    assert apart == pytest.approx(retrieval_metrics(rows, labels, rows, labels), abs=1e-6)
