"""The loss of positives that are no classes, against the definition and a loop that knows nothing of ours."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk import InputError, Positives, RecallAtKLoss, SimilarityMixup, recall_at_k_loss
from recallk.loss.kernels import tiled

SETTINGS: dict[str, Any] = {"ks": (1, 3, 20), "rank_temperature": 0.05, "recall_temperature": (1.0, 0.5, 2.0)}


def by_hand(
    queries: Tensor,
    gallery: Tensor,
    relevant: list[set[int]],
    ignored: list[set[int]],
    rows: list[int],
    query_in_database: bool,
) -> list[float]:
    """Return the losses as the paper writes them, in Python's floats; without the query's own positive."""
    unit = [[value / math.hypot(*row) for value in row] for row in queries.tolist()]
    others = [[value / math.hypot(*row) for value in row] for row in gallery.tolist()]
    losses = []
    for q, query in enumerate(unit):
        own = relevant[q] - ignored[q] - {rows[q]}
        ranked = set(range(len(others))) - ignored[q] - (set() if query_in_database else {rows[q]})
        if rows[q] in ignored[q] and query_in_database and rows[q] >= 0:
            ranked |= {rows[q]}
        if not own:
            continue
        similarity = [sum(a * b for a, b in zip(query, other, strict=True)) for other in others]
        ranks = [
            1 + sum(1 / (1 + math.exp((similarity[x] - similarity[z]) / 0.05)) for z in ranked if z != x) for x in own
        ]
        recalls = []
        for k, tau in zip(SETTINGS["ks"], SETTINGS["recall_temperature"], strict=True):
            hits = sum(1 / (1 + math.exp((rank - k) / tau)) for rank in ranks)
            recalls.append(min(hits, k) / min(k, len(own)))
        losses.append(1 - sum(recalls) / len(recalls))
    return losses


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, int | None, list[set[int]], list[set[int]], list[int]]:
    queries = draw(st.integers(1, 10))
    apart = draw(st.integers(1, 12)) if draw(st.booleans()) else None
    items = queries if apart is None else apart
    rows = st.sets(st.integers(0, items - 1))
    everything = st.just(set(range(items)))
    relevant = draw(st.lists(rows | everything | st.just(set()), min_size=queries, max_size=queries))
    ignored = draw(st.lists(rows | st.just(set()), min_size=queries, max_size=queries))
    own = list(range(queries)) if apart is None else [draw(st.integers(-1, items - 1)) for _ in range(queries)]
    return queries, apart, relevant, ignored, own


@given(graphs(), st.integers(0, 2**16), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_graph_of_relevance(
    graph: tuple[int, int | None, list[set[int]], list[set[int]], list[int]],
    seed: int,
    query_in_database: bool,
    judged: bool,
    small_tiles: bool,
) -> None:
    count, apart, relevant, ignored, rows = graph
    ignored = ignored if judged else [set() for _ in ignored]
    random = np.random.default_rng(seed)
    queries = torch.from_numpy(random.standard_normal((count, 4)))
    gallery = None if apart is None else torch.from_numpy(random.standard_normal((apart, 4)))
    made = Positives.from_lists(relevant, apart, None if apart is None else rows, ignored=ignored if judged else None)
    expected = by_hand(queries, queries if gallery is None else gallery, relevant, ignored, rows, query_in_database)
    how = {**SETTINGS, "query_in_database": query_in_database, "positives": made}
    if not expected:
        with pytest.raises(InputError, match="nothing in the gallery is relevant to any of them"):
            recall_at_k_loss(queries, gallery=gallery, **how)
        return
    found = {}
    for implementation in ("definition", "tiled"):
        q = queries.clone().requires_grad_()
        g = None if gallery is None else gallery.clone().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            if small_tiles:
                patch.setattr(tiled, "TILE_ELEMENTS", 7)
            each = recall_at_k_loss(q, gallery=g, implementation=implementation, reduction="none", **how)
            mean: Tensor = recall_at_k_loss(q, gallery=g, implementation=implementation, **how)
            mean.backward()  # type: ignore[no-untyped-call]
        np.testing.assert_allclose(each.tolist(), expected, atol=1e-9)
        found[implementation] = [part.grad for part in (q, g) if part is not None]
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_positives_of_labels_are_the_labels_to_the_last_digit(labels: list[int], seed: int) -> None:
    if len(set(labels)) == len(labels):
        labels = [*labels, labels[0]]
    embeddings = torch.from_numpy(np.random.default_rng(seed).standard_normal((len(labels), 5))).float()
    losses, gradients = [], []
    for said in ({"labels": labels}, {"positives": Positives.from_labels(labels)}):
        x = embeddings.clone().requires_grad_()
        loss = recall_at_k_loss(x, **said)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        assert x.grad is not None
        gradients.append(x.grad)
    assert losses[0] == losses[1]
    assert torch.equal(gradients[0], gradients[1])
    listed = [[other for other in range(len(labels)) if labels[other] == own] for own in labels]
    assert float(recall_at_k_loss(embeddings, positives=Positives.from_lists(listed))) == pytest.approx(
        losses[0], abs=1e-6
    )


def test_as_a_module() -> None:
    embeddings = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    made = Positives.from_label_sets([{1}, {1, 2}, {2}, {3}, {3}, set()])
    assert RecallAtKLoss()(embeddings, positives=made) == recall_at_k_loss(embeddings, positives=made)
    none = Positives.from_lists([[] for _ in range(6)])
    with pytest.warns(UserWarning, match="no query has a positive"):
        assert RecallAtKLoss(on_no_positives="zero")(embeddings, positives=none) == 0


def test_what_does_not_go_together_is_told() -> None:
    x, made = torch.randn(4, 3), Positives.from_lists([[1], [0], [], []])
    apart = Positives.from_lists([[1], [0], [], []], 5)
    wrong: list[tuple[Any, str]] = [
        (lambda: recall_at_k_loss(x), r"integers are needed, or positives \(recallk.Positives\)"),
        (lambda: recall_at_k_loss(x, [0, 0, 1, 1], positives=made), "leave out labels"),
        (lambda: recall_at_k_loss(x, positives=made, query_rows=[0, 1, 2, 3]), "leave out query_rows"),
        (lambda: recall_at_k_loss(x, positives=[[1], [0]]), "recallk.Positives is needed"),  # type: ignore[arg-type]
        (lambda: recall_at_k_loss(x[:3], positives=made), "of 4 queries in a gallery of 4, there are 3 embeddings"),
        (lambda: recall_at_k_loss(x, positives=apart), "4 queries in a gallery of 5, there are 4 embeddings"),
        (lambda: recall_at_k_loss(x, gallery=x[:, :2], positives=made), "the gallery has 2 dimensions"),
        (lambda: recall_at_k_loss(x * torch.nan, positives=made), "NaN"),
        (lambda: recall_at_k_loss([[1, 2]], positives=made), "floating-point numbers"),
        (
            lambda: recall_at_k_loss(x, positives=made, mix_pairs=[[0, 1]], mix_alpha=[0.5]),
            "similarity mixup mixes items of one class",
        ),
        (lambda: RecallAtKLoss(mixup=SimilarityMixup())(x, positives=made), "similarity mixup mixes items of one"),
        (lambda: RecallAtKLoss(gather_across_devices=True)(x, positives=made), "processes gather items of one class"),
        (
            lambda: recall_at_k_loss(x, positives=Positives.from_lists([[1], [0], [], []], 4)),
            "queries in a gallery apart: give the gallery",
        ),
    ]
    for call, told in wrong:
        with pytest.raises(InputError, match=told):
            call()
