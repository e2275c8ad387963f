"""Retrieval metrics, all read off one table: which of a query's neighbours are relevant."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_ks, labelled_embeddings, normalised
from recallk.core.errors import InputError
from recallk.core.relevance import Positives
from recallk.retrieval.exact import SCORES_AT_ONCE, blocks, inner_products, nearest

_CELLS_AT_ONCE = 2**22


@torch.no_grad()
def retrieval_metrics(
    embeddings: ArrayLike,
    labels: ArrayLike,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    ks: Sequence[int] = (1, 10),
    *,
    query_rows: ArrayLike | None = None,
) -> dict[str, float]:
    """Search the items of each query's class by cosine similarity and measure what was found.

    Without a gallery every item queries all the others; itself is left out by its index, so that duplicates count
    as what they are. So is a query that stands in a gallery apart, where `query_rows` say so. An item is relevant if
    it has the query's label. Queries without a relevant item are left out of every mean.

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
    evaluation_set = _evaluation_set(embeddings, labels, gallery, gallery_labels, query_rows)
    sums: dict[str, float] = {}
    total = 0
    for rows, table in _relevance_tables(evaluation_set, max(depths)):
        for name, values in _metrics_by_query(evaluation_set, rows, table, depths).items():
            sums[name] = sums.get(name, 0.0) + float(values.double().sum())
        total += len(rows)
    return {name: value / total for name, value in sums.items()}


def unit_embeddings(
    embeddings: ArrayLike, labels: ArrayLike, name: str = "embeddings", labels_name: str = "labels"
) -> tuple[Tensor, Tensor]:
    """Check embeddings with their labels and bring them into the form that evaluation computes with.

    Takes and raises what `core.arrays.labelled_embeddings` does. Returns `(N, D)` float32, L2-normalised (a row of
    zeros stays), and `(N,)` int64, both on the embeddings' device.

    >>> unit_embeddings([[3.0, 4.0]], [7])
    (tensor([[0.6000, 0.8000]]), tensor([7]))

    """
    rows, classes = labelled_embeddings(embeddings, labels, name, labels_name)
    rows = rows.detach()
    return normalised(rows if rows.dtype == torch.float64 else rows.float()).float(), classes


@dataclass(frozen=True)
class _EvaluationSet:
    """Queries and what they search; on one device."""

    queries: Tensor  # (N, D)
    gallery: Tensor  # (G, D)
    positives: Positives


def _evaluation_set(
    embeddings: ArrayLike,
    labels: ArrayLike,
    gallery: ArrayLike | None,
    gallery_labels: ArrayLike | None,
    query_rows: ArrayLike | None,
) -> _EvaluationSet:
    if (gallery is None) != (gallery_labels is None):
        raise InputError("gallery and gallery_labels go together: give both or neither")
    queries, classes = unit_embeddings(embeddings, labels)
    if gallery is None or gallery_labels is None:
        items, positives = queries, Positives.from_labels(classes, None, query_rows)
    else:
        items, item_classes = unit_embeddings(gallery, gallery_labels, "gallery", "gallery_labels")
        items, positives = items.to(queries.device), Positives.from_labels(classes, item_classes, query_rows)
        if queries.shape[1] != items.shape[1]:
            raise InputError(
                f"embeddings have {queries.shape[1]} dimensions but the gallery has {items.shape[1]}: "
                "embed both with one model"
            )
    if not (positives.counts > 0).any():
        raise InputError(
            "no query has an item of its own class to find: give classes with at least two items, "
            "or a gallery that holds the queries' classes"
        )
    return _EvaluationSet(queries, items, positives)


def _relevance_tables(evaluation_set: _EvaluationSet, depth: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield query rows `(B,)` with their table `(B, K)`, which tells whether the j-th nearest item is relevant.

    `K` is at least `depth` and every R of the block, as far as the gallery goes. Queries without a relevant item do
    not appear.
    """
    counts = evaluation_set.positives.counts
    in_gallery = evaluation_set.positives.query_rows >= 0
    for chosen in (in_gallery, ~in_gallery):  # the former have one item fewer to find, themselves
        rows = torch.nonzero(chosen & (counts > 0))[:, 0]
        # the largest classes first: a block is as deep as its largest class, and so no deeper than needed
        rows = rows[counts[rows].argsort(descending=True, stable=True)]
        while len(rows):
            deep = max(depth, int(counts[rows[0]]))
            height = max(1, _CELLS_AT_ONCE // min(deep, len(evaluation_set.gallery)))
            yield rows[:height], _relevance_table(evaluation_set, rows[:height], deep)
            rows = rows[height:]


def _relevance_table(evaluation_set: _EvaluationSet, rows: Tensor, depth: int) -> Tensor:
    """Return the table of queries that are all in the gallery, or all not."""
    own = evaluation_set.positives.query_rows[rows]
    exclude = own if bool((own >= 0).any()) else None
    found = nearest(evaluation_set.queries[rows], evaluation_set.gallery, depth, exclude=exclude)
    return evaluation_set.positives.are_relevant(rows, found.indexes.to(rows.device))


def _metrics_by_query(
    evaluation_set: _EvaluationSet, rows: Tensor, table: Tensor, ks: Sequence[int]
) -> dict[str, Tensor]:
    """Return each metric's value `(B,)` for the queries of one relevance table."""
    relevant = evaluation_set.positives.counts[rows]
    ranks = torch.arange(1, table.shape[1] + 1, device=table.device)
    hits = table & (ranks <= relevant[:, None])
    precisions = hits.cumsum(dim=1).double() / ranks
    metrics: dict[str, Tensor] = {}
    metrics.update({f"recall@{k}": table[:, :k].any(dim=1) for k in ks})
    metrics.update({f"precision@{k}": table[:, :k].sum(dim=1).double() / k for k in ks})
    metrics["map@r"] = (precisions * hits).sum(dim=1) / relevant
    metrics["r_precision"] = hits.sum(dim=1).double() / relevant
    metrics["mrr"] = 1.0 / _first_ranks(evaluation_set, rows, table).double()
    return metrics


def _first_ranks(evaluation_set: _EvaluationSet, rows: Tensor, table: Tensor) -> Tensor:
    """Return the rank `(B,)`, from 1, of each query's first relevant item."""
    ranks = table.int().argmax(dim=1) + 1
    missed = ~table.any(dim=1)
    if missed.any():
        # at least one below the table, should rounding say otherwise here than in the search
        ranks[missed] = _counted_ranks(evaluation_set, rows[missed]).clamp_min(table.shape[1] + 1)
    return ranks


def _counted_ranks(evaluation_set: _EvaluationSet, rows: Tensor) -> Tensor:
    """Return the first relevant item's rank for the queries `rows`, by counting the gallery items before it.

    Those before it are more similar, or as similar and of a lower index, as in the search.
    """
    positions = torch.arange(len(evaluation_set.gallery), device=rows.device)
    ranks = []
    for block in blocks(len(rows), max(1, SCORES_AT_ONCE // (4 * len(positions)))):
        queries = rows[block]
        scores = inner_products(evaluation_set.queries[queries], evaluation_set.gallery)
        scores.masked_fill_(positions == evaluation_set.positives.query_rows[queries, None], -torch.inf)
        relevant = evaluation_set.positives.are_relevant(queries, positions)
        at = scores.masked_fill(~relevant, -torch.inf).argmax(dim=1, keepdim=True)
        best = scores.gather(1, at)
        before = (scores > best) | ((scores == best) & (positions < at))
        ranks.append(before.sum(dim=1) + 1)
    return torch.cat(ranks)
