"""Who searches what: the protocols of the benchmarks, each an exact search measured by `retrieval_metrics`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.errors import InputError
from recallk.data.records import LabelledItems
from recallk.data.searches import Search
from recallk.evaluation.metrics import retrieval_metrics

Indexes = NDArray[np.int64]


def measure(
    embeddings: Tensor, items: LabelledItems, searches: Sequence[Search], ks: Sequence[int]
) -> dict[str, float]:
    """Return the metrics of every search over the embeddings `(N, D)` of items.

    As `retrieval_metrics` names them; where there are several searches, those of the first have these names and the
    others' come with theirs in front: "large recall@1".
    """
    metrics: dict[str, float] = {}
    for number, search in enumerate(searches):
        gallery = None if search.gallery is None else embeddings[search.gallery]
        positives = items.positives(search.queries, search.gallery)
        found = retrieval_metrics(embeddings[search.queries], gallery=gallery, ks=ks, positives=positives)
        metrics |= {name if number == 0 else f"{search.name} {name}": value for name, value in found.items()}
    return metrics


def display_name(metric: str, searches: Sequence[Search]) -> str:
    """Return a metric's name as a person should read it: with the first search's name too, where there are several."""
    others = [search.name for search in searches[1:]]
    if not others or any(metric.startswith(f"{name} ") for name in others):
        return metric
    return f"{searches[0].name} {metric}"


def re_identification(
    embeddings: Tensor, labels: Indexes, ks: Sequence[int], *, repetitions: int = 10, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of recall@k where the gallery is one random item of each class.

    The protocol of the vehicle re-identification papers: all other items are queries, the draw is repeated. Not to be
    compared with the all-against-all numbers, where a query has all items of its class to find. Embeddings `(N, D)`,
    labels `(N,)`. Raises InputError where no class has two items.
    """
    random = np.random.default_rng(seed)
    rounds: list[dict[str, float]] = []
    for _ in range(repetitions):
        shuffled = random.permutation(len(labels))
        _, first = np.unique(labels[shuffled], return_index=True)
        gallery = shuffled[first]
        queries = np.setdiff1d(np.arange(len(labels)), gallery)
        if not len(queries):
            raise InputError("every class has one item: there is nothing to search with beside the gallery")
        found = retrieval_metrics(embeddings[queries], labels[queries], embeddings[gallery], labels[gallery], ks=ks)
        rounds.append({name: value for name, value in found.items() if name.startswith("recall@")})
    table = {name: torch.tensor([found[name] for found in rounds], dtype=torch.float64) for name in rounds[0]}
    return {name: (float(values.mean()), float(values.std(correction=0))) for name, values in table.items()}
