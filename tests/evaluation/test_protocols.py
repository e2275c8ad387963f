"""The benchmarks' protocols against loops over queries."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recallk import InputError
from recallk.data.item import Record
from recallk.data.records import LabelledItems, labelled
from recallk.data.searches import Search
from recallk.evaluation.metrics import retrieval_metrics
from recallk.evaluation.protocols import display_name, measure, re_identification


def embeddings_and_labels(items: int, classes: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(classes), 2), random.integers(classes, size=items - 2 * classes)])
    embeddings = torch.from_numpy(random.normal(size=(items, 3)))
    return torch.nn.functional.normalize(embeddings, dim=1), random.permutation(labels)


def items_of(labels: np.ndarray) -> LabelledItems:
    return labelled([Record(f"item {number}", f"class {label}") for number, label in enumerate(labels)])


def recall_by_hand(embeddings: torch.Tensor, labels: np.ndarray, search: Search, k: int) -> float:
    gallery = search.queries if search.gallery is None else search.gallery
    found = []
    for query in search.queries:
        others = [item for item in gallery if search.gallery is not None or item != query]
        if labels[query] not in labels[others]:
            continue
        nearest = sorted(others, key=lambda item: -float(embeddings[query] @ embeddings[item]))[:k]
        found.append(labels[query] in labels[nearest])
    return float(np.mean(found))


@given(st.integers(8, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_every_search_is_measured_by_itself(items: int, seed: int) -> None:
    embeddings, labels = embeddings_and_labels(items, 3, seed)
    order = np.random.default_rng(seed).permutation(items)
    assume(np.isin(labels[order[: items // 2]], labels[order[items // 2 :]]).any())  # else nothing is to be found
    searches = [
        Search("all", np.arange(items)),
        Search("some", np.union1d(np.flatnonzero(labels == 1), order[: items // 2])),
        Search("apart", order[: items // 2], order[items // 2 :]),
    ]
    metrics = measure(embeddings, items_of(labels), searches, ks=(1, 3))
    for k in (1, 3):
        assert metrics[f"recall@{k}"] == pytest.approx(recall_by_hand(embeddings, labels, searches[0], k))
        for search in searches[1:]:
            by_hand = recall_by_hand(embeddings, labels, search, k)
            assert metrics[f"{search.name} recall@{k}"] == pytest.approx(by_hand)
    assert metrics["map@r"] == pytest.approx(retrieval_metrics(embeddings, labels)["map@r"])


def test_re_identification_draws_one_gallery_item_of_each_class() -> None:
    embeddings, labels = embeddings_and_labels(40, 8, 0)
    result = re_identification(embeddings, labels, ks=(1, 2), repetitions=3, seed=5)
    random, rounds = np.random.default_rng(5), []
    for _ in range(3):
        order = random.permutation(40)
        gallery = [next(item for item in order if labels[item] == label) for label in range(8)]
        search = Search("", np.setdiff1d(np.arange(40), gallery), np.array(gallery))
        rounds.append([recall_by_hand(embeddings, labels, search, k) for k in (1, 2)])
    for k, values in zip((1, 2), np.transpose(rounds), strict=True):
        assert result[f"recall@{k}"] == pytest.approx((values.mean(), values.std()))
    assert result["recall@1"][1] > 0


def test_re_identification_repeats_and_is_not_all_against_all() -> None:
    embeddings, labels = embeddings_and_labels(60, 6, 1)
    one, again = (re_identification(embeddings, labels, ks=(1,)) for _ in range(2))
    assert one == again
    assert one["recall@1"][0] < measure(embeddings, items_of(labels), [Search("", np.arange(60))], ks=(1,))["recall@1"]


def test_re_identification_needs_a_class_of_two() -> None:
    with pytest.raises(InputError, match="every class has one item"):
        re_identification(torch.eye(3), np.arange(3), ks=(1,))


def test_a_metric_is_shown_with_its_test_set_where_there_are_several() -> None:
    one = [Search("", np.arange(3))]
    three = [Search(name, np.arange(3)) for name in ("small", "medium", "large")]
    assert display_name("recall@1", one) == "recall@1"
    assert display_name("recall@1", three) == "small recall@1"
    assert display_name("medium recall@1", three) == "medium recall@1"
    assert display_name("large map@r", three) == "large map@r"
