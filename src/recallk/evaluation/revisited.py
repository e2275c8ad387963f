"""The protocol of "Revisiting Oxford and Paris": easy, medium and hard, junk taken out of the ranking."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from recallk.core.arrays import ArrayLike, checked_ks, gallery_numbers
from recallk.core.errors import InputError
from recallk.evaluation.rankings import Numbers, listed, ranks_in_order, similarity_matrix

LISTS = ("easy", "hard", "junk")
PROTOCOLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""The lists whose items are positives, and those whose items are left out, by protocol."""


@torch.no_grad()
def revisited_metrics(
    similarities: ArrayLike, gnd: Sequence[Mapping[str, Any]], ks: Sequence[int] = (1, 5, 10)
) -> dict[str, dict[str, float]]:
    """Measure rankings as the revisited Oxford and Paris benchmarks do.

    Easy: the positives are a query's list `easy`, those of `junk` and `hard` are taken out of the ranking. Medium:
    `easy` and `hard`, without `junk`. Hard: `hard`, without `junk` and `easy`. Queries without a positive are left out.

    - `map`: mean average precision, the area under precision over recall, by trapezoids: at the j-th of n positives, of
      rank r (both from 0), the mean of j / r (1 where r is 0) and (j + 1) / (r + 1), times 1 / n.
    - `mp@K`: mean share of positives among the K first, or down to a query's last positive where that comes earlier.

    Source: "Revisiting Oxford and Paris" (CVPR 2018, arXiv 1803.11285) and the code of its authors.

    Args:
        similarities: `(Q, G)` numbers, a tensor, an array or lists; larger is more similar, equal ones come in the
            order of their index.
        gnd: for each query a dictionary with the lists `easy`, `hard` and `junk` of gallery numbers, 0 .. G-1, as in
            the pickles of the benchmark; what else it holds (`bbx`) is not looked at. No item is in two lists of a
            query.
        ks: the K's of mP@K, each at least 1; those above the gallery's size are allowed.

    Returns:
        The metrics, in 0 .. 1, by protocol: `easy`, `medium` and `hard`.

    Raises:
        InputError: for shapes, types or values that do not fit, and where no query has a positive in one of the
            protocols: a mean over no queries is none.

    >>> gnd = [{"easy": [2], "hard": [1], "junk": [0]}]
    >>> metrics = revisited_metrics([[0.9, 0.8, 0.7, 0.6]], gnd, ks=(1,))
    >>> metrics["hard"]  # without items 0 and 2 the ranking is 1, 3
    {'map': 1.0, 'mp@1': 1.0}
    >>> [metrics[protocol]["map"] for protocol in ("easy", "medium")]
    [1.0, 1.0]

    """
    depths = checked_ks(ks)
    rows = similarity_matrix(similarities)
    answers = checked_answers(gnd, *rows.shape)
    ranks = []
    for row, lists in zip(rows, answers, strict=True):
        place = ranks_in_order(row)
        ranks.append({name: place[numbers] for name, numbers in lists.items()})
    return metrics_of_ranks(ranks, depths)


def checked_answers(gnd: Sequence[Mapping[str, Any]], queries: int, gallery: int) -> list[dict[str, Numbers]]:
    """Return the three lists of each query. Raises InputError, naming the query, for what does not fit."""
    answers = []
    for query, table in enumerate(listed(gnd, "gnd", "a dictionary for each query", queries)):
        if not isinstance(table, Mapping) or any(name not in table for name in LISTS):
            raise InputError(f"gnd of query {query} is no dictionary with the lists easy, hard and junk")
        lists = {name: gallery_numbers(table[name], gallery, f"{name} of query {query}") for name in LISTS}
        gallery_numbers(np.concatenate(list(lists.values())), gallery, f"easy, hard and junk of query {query}")
        answers.append(lists)
    return answers


def metrics_of_ranks(ranks: Sequence[Mapping[str, Numbers]], ks: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return the metrics by protocol, from the ranks (from 0, in the whole gallery) of the items in each query's lists.

    Raises InputError where no query has a positive in one of the protocols.
    """
    return {protocol: protocol_of_ranks(protocol, ranks, ks) for protocol in PROTOCOLS}


def protocol_of_ranks(protocol: str, ranks: Sequence[Mapping[str, Numbers]], ks: Sequence[int]) -> dict[str, float]:
    """Return the metrics of one protocol. Raises InputError where no query has a positive in it."""
    positives, left_out = PROTOCOLS[protocol]
    rows = []
    for lists in ranks:
        found = np.sort(np.concatenate([lists[name] for name in positives]))
        if len(found):
            junk = np.sort(np.concatenate([lists[name] for name in left_out]))
            found = found - np.searchsorted(junk, found)
            rows.append([_average_precision(found), *(_precision(found, k) for k in ks)])
    if not rows:
        raise InputError(f"{protocol}: no query has an item in {' or '.join(positives)}, there is no mean to take")
    names = ["map", *(f"mp@{k}" for k in ks)]
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def _average_precision(ranks: Numbers) -> float:
    """Return the area under precision over recall, from the rising ranks (from 0) of the positives."""
    before = np.arange(len(ranks))
    above = np.where(ranks == 0, 1.0, before / np.maximum(ranks, 1))
    return float(np.mean((above + (before + 1) / (ranks + 1)) / 2))


def _precision(ranks: Numbers, k: int) -> float:
    """Return the share of positives among the `k` first, or down to the last positive if that comes earlier."""
    depth = min(int(ranks[-1]) + 1, k)
    return float((ranks < depth).sum() / depth)
