"""What is right, as obvious loops in float64: the loss by the paper's equations, the metrics by their definitions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


def unit(rows: Matrix) -> Matrix:
    """Return rows of length 1; those of zeros stay."""
    largest = np.abs(rows).max(1, keepdims=True)
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    length = np.sqrt((scaled**2).sum(1, keepdims=True))
    found: Matrix = np.divide(scaled, length, out=np.zeros_like(rows), where=length > 0)
    return found


def sigmoid(x: Matrix) -> Matrix:
    """Return 1 / (1 + exp(-x)); beyond 700 it is 0 or 1."""
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def losses(
    queries: Matrix,
    labels: Labels,
    gallery: Matrix | None = None,
    gallery_labels: Labels | None = None,
    *,
    ks: Sequence[int] = (1, 2, 4, 8, 16),
    rank_temperature: float = 0.01,
    recall_temperature: float | Sequence[float] = 1.0,
    query_in_database: bool = True,
    mix_pairs: NDArray[np.int64] | None = None,
    mix_alpha: Matrix | None = None,
    mix_relatives: str = "keep",
) -> list[float]:
    """Return the loss of each query that has a positive (METHOD.md 1 and 2)."""
    items, classes = unit(queries), labels.tolist()
    parents = [{number} for number in range(len(items))]
    if mix_pairs is not None and mix_alpha is not None:
        virtual = []
        for (one, other), share in zip(mix_pairs.tolist(), mix_alpha.tolist(), strict=True):
            virtual.append(share * items[one] + (1 - share) * items[other])
            classes.append(classes[one])
            parents.append({one, other})
        items = np.concatenate([items, np.array(virtual).reshape(len(virtual), items.shape[1])])
    apart = gallery is not None and gallery_labels is not None
    database = unit(gallery) if gallery is not None else items
    of_database = gallery_labels.tolist() if gallery_labels is not None else classes
    taus = [float(recall_temperature)] * len(ks) if isinstance(recall_temperature, int | float) else recall_temperature
    found = []
    for q, own in enumerate(items):
        similar = database @ own
        ranked, positive = [], []
        for z, of_z in enumerate(of_database):
            itself = not apart and z == q
            left_out = mix_relatives == "exclude" and not apart and not itself and bool(parents[z] & parents[q])
            ranked.append(not left_out and (query_in_database or not itself))
            positive.append(not left_out and not itself and of_z == classes[q])
        positives = np.flatnonzero(positive)
        if not len(positives):
            continue
        ranks = []
        for x in positives:
            others = np.array(ranked)
            others[x] = False
            ranks.append(1 + sigmoid((similar[others] - similar[x]) / rank_temperature).sum())
        recalls = [
            min(float(sigmoid((k - np.array(ranks)) / tau).sum()), k) / min(k, len(positives))
            for k, tau in zip(ks, taus, strict=True)
        ]
        found.append(1 - sum(recalls) / len(recalls))
    return found


def slope(function: Callable[[Matrix], float], at: Matrix, direction: Matrix, step: float = 1e-6) -> float:
    """Return how fast a function grows along a direction."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def metrics(
    queries: Matrix, labels: Labels, gallery: Matrix | None, gallery_labels: Labels | None, ks: Sequence[int]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the lowest and the highest value of each metric that rounding to float32 allows.

    Where an item of the query's class and one of another are as similar as rounding can tell, either may come first.
    """
    ends = []
    for sign in (-1, 1):
        rows = [
            _metrics_of(q, unit(queries), labels, gallery, gallery_labels, ks, sign * 2e-6) for q in range(len(queries))
        ]
        answered = [row for row in rows if row is not None]
        ends.append({name: math.fsum(row[name] for row in answered) / len(answered) for name in answered[0]})
    return ends[0], ends[1]


def _metrics_of(
    q: int,
    queries: Matrix,
    labels: Labels,
    gallery: Matrix | None,
    gallery_labels: Labels | None,
    ks: Sequence[int],
    favour: float,
) -> dict[str, float] | None:
    similar = (queries if gallery is None else unit(gallery)) @ queries[q]
    classes = labels if gallery_labels is None else gallery_labels
    candidates = [z for z in range(len(similar)) if gallery is not None or z != q]
    right = {z: bool(classes[z] == labels[q]) for z in candidates}
    count = sum(right.values())
    if not count:
        return None
    order = sorted(candidates, key=lambda z: -(similar[z] + (favour if right[z] else 0)))
    hits = [right[z] for z in order]
    found = {f"recall@{k}": float(any(hits[:k])) for k in ks}
    found |= {f"precision@{k}": sum(hits[:k]) / k for k in ks}
    found["r_precision"] = sum(hits[:count]) / count
    found["map@r"] = sum(sum(hits[: i + 1]) / (i + 1) for i in range(count) if hits[i]) / count
    found["mrr"] = 1 / (hits.index(True) + 1)
    return found


def mutual_information(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the normalised mutual information of two labellings, by the arithmetic mean of their entropies."""
    n = len(one)
    pairs = _counts(list(zip(one.tolist(), other.tolist(), strict=True)))
    a, b = _counts(one.tolist()), _counts(other.tolist())
    if len(a) == len(b) == 1:
        return 1.0
    shared = math.fsum(c / n * math.log(n * c / (a[x] * b[y])) for (x, y), c in pairs.items())
    entropies = [-math.fsum(c / n * math.log(c / n) for c in counts.values()) for counts in (a, b)]
    return shared / (sum(entropies) / 2)


def _counts(values: list[Any]) -> Mapping[Any, int]:
    found: dict[Any, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found
