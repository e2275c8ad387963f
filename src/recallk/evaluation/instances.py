"""Instance-level test sets: each query against a gallery of any size, measured as the test set's own protocol says."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.progress import Advance, silent
from recallk.data.instances.instance import Classes, Landmarks, Relevant, Revisited, Truth
from recallk.evaluation.average_precision import average_precisions
from recallk.evaluation.gap import gap
from recallk.evaluation.rankings import relevant_items
from recallk.evaluation.revisited import LISTS, checked_answers, metrics_of_ranks, protocol_of_ranks
from recallk.retrieval.parts import Part
from recallk.retrieval.stored import nearest_stored, ranks_stored

REVISITED_KS = (1, 5, 10)
"""The depths at which the revisited benchmarks report mean precision."""


def measure_instances(
    queries: Tensor, parts: Sequence[Part], truth: Truth, *, advance: Advance = silent
) -> dict[str, float]:
    """Search the gallery with each query and measure what was found, as the truth of the test set asks for.

    - `Revisited`: "easy map", "easy mp@1", "easy mp@5", "easy mp@10", and the same of "medium" and "hard", as
      `revisited_metrics` defines them.
    - `Relevant`: "map@K", the mean of `average_precision_at_k` over the queries that something answers; where there are
      subsets, that of each: "public map@100".
    - `Landmarks`: "gap", of predicting the landmark of the nearest gallery item, its similarity the confidence. A query
      that shows several landmarks is right with any of them.
    - `Classes`: "map", "mp@1", "mp@5", "mp@10", as those of "easy", where the others of a query's class are the easy
      ones, and the query itself is junk.

    Args:
        queries: `(Q, D)` float32, L2-normalised.
        parts: the gallery: arrays or memory maps `(n_i, D)` of float16 or float32, L2-normalised, numbered through.
            Items beyond those that the truth numbers are distractors.
        truth: of these queries.
        advance: is told how many gallery items were read.

    Returns:
        The metrics by name, all in 0 .. 1. Memory does not grow with the gallery.

    Raises:
        InputError: for what `ranks_stored` or `nearest_stored` refuses, a truth that does not fit the queries and the
            gallery, and where a mean would be over no queries.

    >>> gallery = np.eye(3, dtype=np.float16)
    >>> truth = Revisited([{"easy": [2], "hard": [1], "junk": [0]}])
    >>> measure_instances(torch.tensor([[0.8, 0.6, 0.0]]), [gallery], truth)["hard map"]
    1.0

    """
    if isinstance(truth, Revisited):
        return _revisited(queries, parts, truth, advance)
    if isinstance(truth, Relevant):
        return _relevant(queries, parts, truth, advance)
    if isinstance(truth, Classes):
        return _classes(queries, parts, truth, advance)
    return _landmarks(queries, parts, truth, advance)


def _revisited(queries: Tensor, parts: Sequence[Part], truth: Revisited, advance: Advance) -> dict[str, float]:
    answers = checked_answers(truth.answers, len(queries), sum(map(len, parts)))
    items = [np.concatenate([lists[name] for name in LISTS]) for lists in answers]
    ranks = []
    for lists, found in zip(answers, ranks_stored(queries, parts, items, advance=advance), strict=True):
        ends = np.cumsum([len(lists[name]) for name in LISTS])
        ranks.append(dict(zip(LISTS, np.split(found, ends[:-1]), strict=True)))
    measured = metrics_of_ranks(ranks, REVISITED_KS)
    return {f"{protocol} {name}": value for protocol, row in measured.items() for name, value in row.items()}


def _relevant(queries: Tensor, parts: Sequence[Part], truth: Relevant, advance: Advance) -> dict[str, float]:
    relevant = relevant_items(truth.items, len(queries), sum(map(len, parts)))
    subsets = np.array(truth.subsets or [""] * len(queries))
    if len(subsets) != len(queries):
        raise InputError(f"the truth has subsets of {len(subsets)} queries, but there are {len(queries)}")
    found = nearest_stored(queries, parts, truth.k, advance=advance).indexes
    values = average_precisions(found, relevant, truth.k).numpy()
    metrics = {}
    for subset in dict.fromkeys(subsets.tolist()):
        counted = values[(subsets == subset) & ~np.isnan(values)]
        name = f"{subset} map@{truth.k}".lstrip()
        if not len(counted):
            raise InputError(f"{name}: nothing in the gallery answers any of the queries, there is no mean to take")
        metrics[name] = float(counted.mean())
    return metrics


def _classes(queries: Tensor, parts: Sequence[Part], truth: Classes, advance: Advance) -> dict[str, float]:
    total = sum(map(len, parts))
    if len(truth.labels) != len(queries) or len(truth.labels) > total:
        raise InputError(f"{len(truth.labels)} classes of {len(queries)} queries and {total} gallery items: do not fit")
    order = np.argsort(truth.labels, kind="stable")
    _, starts = np.unique(truth.labels[order], return_index=True)
    of_class = np.split(order, starts[1:])
    items = [np.empty(0, dtype=np.int64)] * len(queries)
    for members in of_class:
        for query in members.tolist():
            items[query] = np.append(members[members != query], query)  # itself comes last
    ranks = ranks_stored(queries, parts, items, advance=advance)
    nothing = np.empty(0, dtype=np.int64)
    return protocol_of_ranks(
        "easy", [{"easy": found[:-1], "hard": nothing, "junk": found[-1:]} for found in ranks], REVISITED_KS
    )


def _landmarks(queries: Tensor, parts: Sequence[Part], truth: Landmarks, advance: Advance) -> dict[str, float]:
    total = sum(map(len, parts))
    for what, given, there in (("gallery items", truth.gallery, total), ("queries", truth.queries, len(queries))):
        if len(given) > there or (what == "queries" and len(given) < there):
            raise InputError(f"the truth has the landmarks of {len(given)} {what}, but there are {there}")
    found = nearest_stored(queries, parts, 1, advance=advance)
    nearest = found.indexes[:, 0].numpy()
    known = nearest < len(truth.gallery)
    predicted = np.full(len(nearest), -1)  # a distractor shows no landmark
    predicted[known] = truth.gallery[nearest[known]]
    answers = [
        landmark if landmark in shown else next(iter(shown), -1)
        for landmark, shown in zip(predicted.tolist(), truth.queries, strict=True)
    ]
    return {"gap": gap(predicted, found.similarities[:, 0], torch.tensor(answers))}
