"""The retrieval metrics of metric learning, all read off one table: which of a query's neighbours are relevant."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_ks
from recallk.core.relevance import Positives
from recallk.evaluation.evaluation_set import EvaluationSet, Found, evaluation_set


@torch.no_grad()
def retrieval_metrics(
    embeddings: ArrayLike,
    labels: ArrayLike | None = None,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    ks: Sequence[int] = (1, 10),
    *,
    query_rows: ArrayLike | None = None,
    positives: Positives | None = None,
) -> dict[str, float]:
    """Search the items of each query's class by cosine similarity and measure what was found.

    Without a gallery every item queries all the others; itself is left out by its index, so that duplicates count
    as what they are. So is a query that stands in a gallery apart, where `query_rows` say so. An item is relevant if
    it has the query's label, or where `positives` say so. Queries without a relevant item are left out of every mean.

    - `recall@K`: share of queries with at least one relevant item among the K nearest.
    - `precision@K`: mean share of relevant items among the K nearest; divided by K also where there are fewer.
    - `r_precision`: with R the number of a query's relevant items, the share of them among the R nearest.
    - `map@r`: sum of the precisions at the relevant ones of the R nearest, divided by R.
    - `mrr`: mean of 1 / (rank of the first relevant item), exact however far down that item is.

    R-precision and MAP@R are those of "A Metric Learning Reality Check" (ECCV 2020, arXiv 2003.08505).

    Args:
        embeddings: `(N, D)` floats of any precision, a tensor, an array or lists, need not be normalised; the queries,
            and without a gallery also what is searched. A row of zeros has similarity 0 with everything.
        labels: `(N,)` integers of any width, any values in any order, classes of any size.
        gallery: `(G, D)` floats: what is searched, if that is apart from the queries.
        gallery_labels: `(G,)` integers.
        ks: the K's of recall@K and precision@K, each at least 1; those above the gallery's size are allowed.
        query_rows: `(N,)` integers in -1 .. G-1: where the queries themselves stand in the gallery, each under its own
            label, -1 for those that do not (by default: all).
        positives: who is relevant to whom, in place of labels, gallery_labels and query_rows: several labels an item,
            a level of a hierarchy. Of judged pairs `judged_metrics` gives the metrics that are usual there.

    Returns:
        The metrics by name, `recall@K` and `precision@K` for each K; all in 0 .. 1. Memory grows with neither the
        square of `N` nor the size of a class.

    Raises:
        InputError: for shapes, types or values that do not fit, NaN or infinite embeddings, and if no query has
            a relevant item.

    >>> metrics = retrieval_metrics([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]], [0, 0, 1, 1], ks=(1, 2))
    >>> metrics["recall@1"], metrics["recall@2"]
    (0.5, 1.0)
    >>> gallery, gallery_labels = [[0.8, 0.6], [1.0, 0.0], [0.6, 0.8]], [0, 0, 1]  # the query is row 1
    >>> retrieval_metrics([[1.0, 0.0]], [0], gallery, gallery_labels, ks=(1,), query_rows=[1])["recall@1"]
    1.0

    """
    depths = checked_ks(ks)
    evaluated = evaluation_set(embeddings, labels, gallery, gallery_labels, query_rows, positives)
    sums: dict[str, float] = {}
    total = 0
    for found in evaluated.found(max(depths)):
        for name, values in _metrics_by_query(evaluated, found, depths).items():
            sums[name] = sums.get(name, 0.0) + float(values.double().sum())
        total += len(found.queries)
    return {name: value / total for name, value in sums.items()}


def _metrics_by_query(evaluated: EvaluationSet, found: Found, ks: Sequence[int]) -> dict[str, Tensor]:
    """Return each metric's value `(B,)` for the queries of one block."""
    table = found.relevant
    relevant = evaluated.positives.counts[found.queries]
    ranks = torch.arange(1, table.shape[1] + 1, device=table.device)
    hits = table & (ranks <= relevant[:, None])
    precisions = hits.cumsum(dim=1).double() / ranks
    metrics: dict[str, Tensor] = {}
    metrics.update({f"recall@{k}": table[:, :k].any(dim=1) for k in ks})
    metrics.update({f"precision@{k}": table[:, :k].sum(dim=1).double() / k for k in ks})
    metrics["map@r"] = (precisions * hits).sum(dim=1) / relevant
    metrics["r_precision"] = hits.sum(dim=1).double() / relevant
    metrics["mrr"] = 1.0 / evaluated.first_ranks(found).double()
    return metrics
