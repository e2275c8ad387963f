"""A test set measured block by block, against the metrics on the whole matrix of similarities."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk.core.errors import InputError
from recallk.data.instances.instance import Classes, Landmarks, Relevant, Revisited
from recallk.evaluation import average_precision_at_k, gap, revisited_metrics
from recallk.evaluation.instances import measure_instances
from recallk.retrieval import parts as parts_module


def made(seed: int, queries: int, gallery: int) -> tuple[torch.Tensor, list[Any], Any]:
    """Queries, a gallery in two parts, and their similarities, which are exact and often equal."""
    rng = np.random.default_rng(seed)
    rows = (rng.integers(-3, 4, (gallery, 4)) / 8).astype(np.float16)
    asked = (rng.integers(-3, 4, (queries, 4)) / 8).astype(np.float32)
    middle = gallery // 3
    return torch.from_numpy(asked), [rows[:middle], rows[middle:].astype(np.float32)], asked @ rows.astype(np.float32).T


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.sampled_from([1, 5, 1000]), queries=st.integers(1, 6))
def test_revisited(seed: int, height: int, queries: int) -> None:
    asked, parts, similarities = made(seed, queries, 40)
    rng = np.random.default_rng(seed)
    answers = []
    for query in range(queries):
        kinds = rng.choice(4, 40, p=[0.7, 0.1, 0.1, 0.1]) if query else np.arange(40) % 4
        answers.append(
            {name: np.flatnonzero(kinds == i).tolist() for i, name in enumerate(("easy", "hard", "junk"), 1)}
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "_TILE", 1)
        patch.setattr(parts_module, "_BLOCK_ROWS", height)
        measured = measure_instances(asked, parts, Revisited(answers))
    expected = revisited_metrics(similarities, answers)
    assert list(measured) == [f"{p} {m}" for p in ("easy", "medium", "hard") for m in ("map", "mp@1", "mp@5", "mp@10")]
    assert measured == {f"{protocol} {name}": v for protocol, row in expected.items() for name, v in row.items()}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 60))
def test_relevant_by_subset(seed: int, k: int) -> None:
    asked, parts, similarities = made(seed, 8, 40)
    rng = np.random.default_rng(seed)
    relevant = [rng.permutation(40)[: rng.integers(0, 12)].tolist() for _ in range(8)]
    relevant[:2], subsets = [[3], [4, 5]], ["public", "private", *rng.choice(["public", "private"], 6).tolist()]
    values = average_precision_at_k(similarities, relevant, k).numpy()
    expected = {f"{s} map@{k}": float(np.nanmean(values[np.array(subsets) == s])) for s in ("public", "private")}
    assert measure_instances(asked, parts, Relevant(relevant, k, subsets)) == pytest.approx(expected, abs=1e-12)
    alone = measure_instances(asked, parts, Relevant(relevant, k))
    assert alone == {f"map@{k}": pytest.approx(float(np.nanmean(values)), abs=1e-12)}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_landmarks(seed: int) -> None:
    """Queries that show none, one or two landmarks; the last ten gallery items are distractors."""
    asked, parts, similarities = made(seed, 12, 40)
    rng = np.random.default_rng(seed)
    landmarks = rng.integers(0, 4, 30)
    shown = [set(rng.integers(0, 4, rng.integers(0, 3)).tolist()) for _ in range(11)]
    shown.append({2})
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, 0]
    predicted = [int(landmarks[i]) if i < 30 else -1 for i in nearest]
    truth = [(p if p in s else min(s)) if s else -1 for p, s in zip(predicted, shown, strict=True)]
    expected = gap(predicted, similarities.max(axis=1), truth)
    assert measure_instances(asked, parts, Landmarks(landmarks, shown)) == {"gap": pytest.approx(expected, abs=1e-12)}


def test_how_far_it_is_comes_to_whoever_asks() -> None:
    asked, parts, _ = made(0, 2, 40)
    answers = [{"easy": [1], "hard": [2], "junk": []}] * 2
    for truth in (Revisited(answers), Relevant([[1], [2]], 3), Landmarks(np.zeros(40, dtype=np.int64), [{0}, {1}])):
        told: list[tuple[str, int, int]] = []
        measure_instances(asked, parts, truth, advance=lambda *step, told=told: told.append(step))
        assert told == [("searching the gallery", 40, 40)]


ANSWER = {"easy": [1], "hard": [2], "junk": [0]}
MISTAKES: dict[str, tuple[Any, str]] = {
    "answers": (Revisited([ANSWER]), "gnd has 1 entries for 2 queries"),
    "beyond": (Revisited([ANSWER, {**ANSWER, "hard": [40]}]), "hard of query 1 name the gallery item 40"),
    "nothing hard": (Revisited([{**ANSWER, "hard": []}] * 2), "hard: no query has an item in hard"),
    "relevant": (Relevant([[1]], 5), "relevant has 1 entries for 2 queries"),
    "subsets": (Relevant([[1], [2]], 5, ["public"]), "subsets of 1 queries, but there are 2"),
    "empty subset": (
        Relevant([[1], []], 5, ["public", "private"]),
        "private map@5: nothing in the gallery answers any",
    ),
    "all empty": (Relevant([[], []], 5), "^map@5: nothing in the gallery answers"),
    "landmarks": (
        Landmarks(np.zeros(41, dtype=np.int64), [{0}, {0}]),
        "landmarks of 41 gallery items, but there are 40",
    ),
    "queries": (Landmarks(np.zeros(40, dtype=np.int64), [{0}]), "landmarks of 1 queries, but there are 2"),
    "no answer": (Landmarks(np.zeros(40, dtype=np.int64), [(), ()]), "no query has an answer"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    truth, message = MISTAKES[mistake]
    asked, parts, _ = made(0, 2, 40)
    with pytest.raises(InputError, match=message) as caught:
        measure_instances(asked, parts, truth)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 8))
def test_own_classes(seed: int, classes: int) -> None:
    """Every item asks for the others of its class, itself left out, among distractors too."""
    rng = np.random.default_rng(seed)
    gallery = (rng.integers(-3, 4, (30, 4)) / 8).astype(np.float16)
    labels = np.array([0, 0, *rng.integers(0, classes, 22)])
    queries = torch.from_numpy(gallery[:24].astype(np.float32))
    measured = measure_instances(queries, [gallery[:24], gallery[24:]], Classes(labels))
    others = [np.flatnonzero((labels == labels[i]) & (np.arange(24) != i)) for i in range(24)]
    gnd = [{"easy": found, "hard": [], "junk": [i]} for i, found in enumerate(others)]
    gnd.append({"easy": [0], "hard": [1], "junk": []})  # its hard one is what revisited_metrics cannot do without
    similarities = queries.numpy() @ gallery.astype(np.float32).T
    expected = [
        revisited_metrics(np.stack([similarities[i], similarities[0]]), [gnd[i], gnd[-1]])["easy"]
        for i in range(24)
        if len(others[i])
    ]
    alone = revisited_metrics(similarities[:1], gnd[-1:])["easy"]
    for name in ("map", "mp@1", "mp@5", "mp@10"):
        assert measured[name] == pytest.approx(np.mean([2 * row[name] - alone[name] for row in expected]), abs=1e-12)


def test_own_classes_that_do_not_fit_or_have_nothing_to_find() -> None:
    rows = np.eye(3, dtype=np.float16)
    queries = torch.eye(3)
    with pytest.raises(InputError, match="do not fit"):
        measure_instances(queries, [rows], Classes(np.array([0, 0])))
    with pytest.raises(InputError, match="no query has an item"):
        measure_instances(queries, [rows], Classes(np.arange(3)))
