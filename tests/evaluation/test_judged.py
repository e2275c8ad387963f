"""The metrics of judged pairs, against a loop over queries, trec_eval and scikit-learn; ties and ignored items."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk import InputError, Positives
from recallk.evaluation import (
    evaluation_set,
    judged_metrics,
    judged_metrics_by_query,
    retrieval_metrics,
    write_by_query,
)

KS = (1, 3, 10, 50)
Grades = list[dict[int, float]]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None, Grades, list[set[int]]]:
    """Draw rows of few values, so that many similarities are equal, and exact; grades and ignored items of any kind."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, size = draw(st.integers(1, 8)), draw(st.integers(1, 30))
    apart = draw(st.booleans())
    items = size if apart else count
    queries, gallery = (random.choice([-0.5, 0.5], (n, 4)) for n in (count, size))
    grades: Grades = []
    for _ in range(count):
        some = draw(st.sampled_from([0, 0.2, 1]))
        judged = np.flatnonzero(random.random(items) < some)
        grades.append({int(item): float(random.choice([-1, 0, 1, 1, 2, 3.5])) for item in judged})
    ignored = [set(np.flatnonzero(random.random(items) < draw(st.sampled_from([0, 0, 0.3]))).tolist()) for _ in grades]
    return queries, gallery if apart else None, grades, ignored


def names(count: int) -> list[str]:
    """Name documents so that trec_eval, which sorts equal ones by name from the last, has them in our order."""
    return [f"d{9_999 - number:04}" for number in range(count)]


def positives_of(grades: Grades, ignored: list[set[int]], size: int | None, least: float = 1) -> Positives:
    documents = names(len(grades) if size is None else size)
    queries = documents if size is None else [f"q{number}" for number in range(len(grades))]
    qrels = {query: {documents[i]: grade for i, grade in of.items()} for query, of in zip(queries, grades, strict=True)}
    without = {query: [documents[i] for i in of] for query, of in zip(queries, ignored, strict=True)}
    return Positives.from_qrels(qrels, queries, documents, least_grade=least, ignored=without)


def by_hand(
    queries: np.ndarray[Any, Any],
    gallery: np.ndarray[Any, Any] | None,
    grades: Grades,
    ignored: list[set[int]],
    least: float,
) -> dict[str, list[float]]:
    items = queries if gallery is None else gallery
    values: dict[str, list[float]] = {}
    for q, query in enumerate(queries):
        left_out = ignored[q] | ({q} if gallery is None else set())
        ranking = [int(i) for i in np.argsort(-(items @ query), kind="stable") if i not in left_out]
        grade = {i: g for i, g in grades[q].items() if i not in left_out}
        hits = [i in grade and grade[i] >= least for i in ranking]
        gains = [max(0.0, grade.get(i, 0.0)) for i in ranking]
        r = sum(hits)
        found: dict[str, float] = {}
        for k in KS:
            found[f"hit_rate@{k}"] = float(any(hits[:k]))
            found[f"recall@{k}"] = sum(hits[:k]) / r if r else 0
            found[f"precision@{k}"] = sum(hits[:k]) / k
            found[f"map@{k}"] = (
                sum(sum(hits[: j + 1]) / (j + 1) for j, hit in enumerate(hits[:k]) if hit) / r if r else 0
            )
            found[f"mrr@{k}"] = 1 / (hits.index(True) + 1) if any(hits[:k]) else 0.0
            dcg, best = (
                sum(gain / math.log2(j + 2) for j, gain in enumerate(order[:k]))
                for order in (gains, sorted(gains, reverse=True))
            )
            found[f"ndcg@{k}"] = dcg / best if best else 0.0
        found["r_precision"] = sum(hits[:r]) / r if r else 0
        for name, value in found.items():
            values.setdefault(name, []).append(value if r else math.nan)
    return values


@given(problems(), st.sampled_from([1, 2]), st.sampled_from([1, 50, 2**22]), st.sampled_from([1, 300, 2**26]))
@settings(max_examples=150, deadline=None)
def test_equals_a_loop(problem: Any, least: float, cells: int, scores: int) -> None:
    queries, gallery, grades, ignored = problem
    positives = positives_of(grades, ignored, None if gallery is None else len(gallery), least)
    expected = by_hand(queries, gallery, grades, ignored, least)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_set, "_CELLS_AT_ONCE", cells)
        patch.setattr(evaluation_set, "SCORES_AT_ONCE", scores)
        if all(math.isnan(value) for value in expected["r_precision"]):
            with pytest.raises(InputError, match="no query has anything to find"):
                judged_metrics(queries, positives, gallery, KS)
            return
        measured = judged_metrics_by_query(queries, positives, gallery, KS)
        means = judged_metrics(queries, positives, gallery, KS)
        hits = retrieval_metrics(queries, gallery=gallery, ks=KS, positives=positives)
    assert set(measured) == set(expected)
    for name, values in measured.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-9)
        assert means[name] == pytest.approx(np.nanmean(expected[name]), abs=1e-9)
    for k in KS:  # metric learning's name of it
        assert hits[f"recall@{k}"] == pytest.approx(means[f"hit_rate@{k}"], abs=1e-9)
    assert hits["mrr"] == pytest.approx(means["mrr@50"], abs=1e-9)  # all of the gallery
    assert hits["r_precision"] == pytest.approx(means["r_precision"], abs=1e-9)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_agrees_with_trec_eval(problem: Any) -> None:
    from pytrec_eval import RelevanceEvaluator

    queries, gallery, grades, _ = problem
    grades = [{item: math.floor(grade) for item, grade in of.items()} for of in grades]  # it knows whole ones alone
    items = queries if gallery is None else gallery
    positives = positives_of(grades, [set() for _ in grades], None if gallery is None else len(gallery))
    if not bool((positives.counts > 0).any()):
        return
    documents = names(len(items))
    own = positives.query_rows.tolist()
    qrels = {
        f"q{q}": {documents[item]: int(grade) for item, grade in of.items() if item != own[q]}
        for q, of in enumerate(grades)
    }
    run = {
        f"q{q}": {
            name: float(query @ item)
            for i, (name, item) in enumerate(zip(documents, items, strict=True))
            if i != own[q]
        }
        for q, query in enumerate(queries)
    }
    cuts = ",".join(map(str, KS))
    asked = {f"{name}.{cuts}" for name in ("success", "recall", "P", "map_cut", "ndcg_cut")} | {"recip_rank", "Rprec"}
    theirs = RelevanceEvaluator({name: of for name, of in qrels.items() if of}, asked).evaluate(run)
    ours = judged_metrics_by_query(queries, positives, gallery, KS)
    their_names = {"hit_rate": "success", "recall": "recall", "precision": "P", "map": "map_cut", "ndcg": "ndcg_cut"}
    for q in (positives.counts > 0).nonzero()[:, 0].tolist():
        found = theirs[f"q{q}"]
        for name, theirs_name in their_names.items():
            for k in KS:
                assert float(ours[f"{name}@{k}"][q]) == pytest.approx(found[f"{theirs_name}_{k}"], abs=1e-9)
        assert float(ours["mrr@50"][q]) == pytest.approx(found["recip_rank"], abs=1e-9)
        assert float(ours["r_precision"][q]) == pytest.approx(found["Rprec"], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    from sklearn.metrics import average_precision_score, ndcg_score

    random = np.random.default_rng(seed)
    queries, gallery = random.standard_normal((6, 5)), random.standard_normal((40, 5))
    gallery[20:] = gallery[:20]  # the same items twice: scikit-learn is asked to take ties in their order
    grades = random.integers(0, 4, (6, 40))
    listed: Grades = [{item: float(grade) for item, grade in enumerate(row)} for row in grades]
    ours = judged_metrics_by_query(queries, positives_of(listed, [set()] * 6, 40), gallery, (5, 40))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    similarity = unit[0] @ unit[1].T
    order = np.argsort(-similarity, axis=1, kind="stable")
    scores = np.empty_like(similarity)
    np.put_along_axis(scores, order, np.arange(40.0, 0, -1)[None].repeat(6, 0), axis=1)
    for q in range(6):
        for k in (5, 40):
            theirs = ndcg_score(grades[q : q + 1], scores[q : q + 1], k=k)
            assert float(ours[f"ndcg@{k}"][q]) == pytest.approx(theirs, abs=1e-9)
        theirs = average_precision_score(grades[q] >= 1, scores[q])
        assert float(ours["map@40"][q]) == pytest.approx(theirs, abs=1e-9)


def test_several_labels_an_item() -> None:
    rows = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
    positives = Positives.from_label_sets([{"red"}, {"blue"}, {"blue", "red"}, {"green"}])
    found = retrieval_metrics(rows, positives=positives, ks=(1, 2, 3))
    assert found["recall@1"] == 0
    assert found["recall@2"] == pytest.approx(1 / 3)  # the third finds the second before the first
    assert found["recall@3"] == 1


def test_file_of_each_query(tmp_path: Path) -> None:
    positives = Positives.from_qrels({"a": {"x": 1}, "c": {"y": 1}}, ["a", "b", "c"], ["x", "y"])
    by_query = judged_metrics_by_query(np.eye(3)[:, :2] + 0.1, positives, np.eye(2), (1,))
    write_by_query(tmp_path / "by-query.txt", by_query, ["a", "b", "c"])
    lines = [line.split("\t") for line in (tmp_path / "by-query.txt").read_text().splitlines()]
    assert [line for line in lines if line[0] == "recall@1"] == [
        ["recall@1", "a", "1.0"],
        ["recall@1", "c", "0.0"],
        ["recall@1", "all", "0.5"],
    ]
    assert {line[0] for line in lines} == set(by_query)
    for ids, message in ((["a", "b"], "2 ids for 3 queries"), (["a", "b c", "d"], "'b c': an id without white space")):
        with pytest.raises(InputError, match=message):
            write_by_query(tmp_path / "other.txt", by_query, ids)


ONE = Positives.from_lists([[1], [0]])
ROWS = np.eye(2)
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no positives": (lambda: judged_metrics(ROWS, [0, 1]), r"positives=\[0, 1\]: recallk.Positives is needed"),  # type: ignore[arg-type]
    "of others": (lambda: judged_metrics(np.eye(3), ONE), "of 2 queries in a gallery of 2, there are 3 embeddings"),
    "gallery apart": (
        lambda: judged_metrics(ROWS, Positives.from_lists([[1], [0]], 2)),
        "positives are of queries in a gallery apart: give the gallery",
    ),
    "dimensions": (lambda: judged_metrics(ROWS, ONE, np.ones((2, 3))), "2 dimensions but the gallery has 3"),
    "NaN": (lambda: judged_metrics(ROWS * np.nan, ONE), "2 of 2 rows of the embeddings hold NaN"),
    "k of 0": (lambda: judged_metrics(ROWS, ONE, ks=(0,)), "at least 1, got 0"),
    "both": (lambda: retrieval_metrics(ROWS, [0, 0], positives=ONE), "say who is relevant to whom: leave out labels"),
    "neither": (lambda: retrieval_metrics(ROWS), "labels are of type NoneType: integers are needed, or positives"),
    "grades": (
        lambda: Positives.from_qrels({"q": {"d": "2"}}, ["q"], ["d"]),  # type: ignore[dict-item]
        "the grade of 'd' for 'q' is '2': a number is needed",
    ),
    "NaN grade": (lambda: Positives.from_qrels({"q": {"d": math.nan}}, ["q"], ["d"]), "is nan: a number is needed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu() -> None:
    rows, gallery = torch.randn(20, 8), torch.randn(60, 8)
    grades: Grades = [{item: float(item % 3) for item in range(query, 60, 7)} for query in range(20)]
    positives = positives_of(grades, [{1, 2}] * 20, 60)
    assert judged_metrics(rows.cuda(), positives, gallery) == pytest.approx(judged_metrics(rows, positives, gallery))
