"""The loss as the paper writes it: one query after the other, nothing clever. The oracle of every fast path."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from recallk.core.relevance import Positives


def losses(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    ks: Sequence[int],
    rank_temperature: float,
    recall_temperatures: Sequence[float],
    query_in_database: bool,
    query_rows: Tensor | None = None,
    mix_pairs: Tensor | None = None,
    mix_alpha: Tensor | None = None,
    exclude_relatives: bool = False,
    positives: Positives | None = None,
) -> Tensor:
    """Return `1 - mean over k of recall_k(q)` for each query that has a positive, in the order of the queries.

    `queries (Q, D)` and `gallery (G, D)` are used as they are (normalised by the caller); without a gallery the
    queries are ranked among each other. `query_rows (Q,)` say where the queries themselves stand in the gallery, -1:
    nowhere; a query is never its own positive, and ranked if `query_in_database`. `mix_pairs (V, 2)` and
    `mix_alpha (V,)` append virtual items to the queries; `exclude_relatives` leaves out for each query the items that
    share a parent with it, both as positives and among the ranked. `positives` take the place of labels. Differentiable
    by autograd.

    Source: CVPR 2022 (arXiv 2108.11179), equations 4 to 7 and section 3.3; leaving relatives out is not the paper's.

    >>> rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    >>> settings = {"ks": (1,), "rank_temperature": 0.01, "recall_temperatures": (1.0,), "query_in_database": False}
    >>> losses(rows, torch.tensor([0, 0, 1, 1]), None, None, **settings)
    tensor([0.5000, 0.7311, 0.5000, 0.7311])

    """
    ranked_for_each = rankings(
        queries,
        query_labels,
        gallery,
        gallery_labels,
        query_in_database,
        query_rows,
        mix_pairs,
        mix_alpha,
        exclude_relatives,
        positives=positives,
    )
    return torch.stack(
        [
            loss_of_a_query(similarity, positive, ranked, ks, rank_temperature, recall_temperatures)
            for similarity, positive, ranked in ranked_for_each
        ]
    )


def rankings(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    query_in_database: bool,
    query_rows: Tensor | None,
    mix_pairs: Tensor | None,
    mix_alpha: Tensor | None,
    exclude_relatives: bool,
    every: int = 1,
    positives: Positives | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield for each query with a positive its similarities `(Z,)`, which items are positives, and which are ranked.

    Of the queries, virtual ones last, only each `every`-th counted from the first.
    """
    parents = torch.arange(len(queries), device=queries.device)[:, None].expand(-1, 2)
    if mix_pairs is not None and mix_alpha is not None:
        parents = torch.cat([parents, mix_pairs])
        one, other = mix_pairs.T
        alpha = mix_alpha[:, None]
        virtual = alpha * queries[one] + (1 - alpha) * queries[other]  # not normalised again: section 3.3
        queries = torch.cat([queries, virtual])
        query_labels = torch.cat([query_labels, query_labels[one]])
    database = queries if gallery is None else gallery
    database_labels = query_labels if gallery_labels is None else gallery_labels
    if gallery is None:
        query_rows = torch.arange(len(queries), device=queries.device)

    for q in range(0, len(queries), every):
        similarity = database @ queries[q]  # (Z,)
        positive = database_labels == query_labels[q] if positives is None else positives.relevant.mask(q)
        ranked = torch.ones_like(positive)
        if positives is not None and positives.ignored is not None:
            ranked[positives.ignored.mask(q)] = False
        if query_rows is not None and query_rows[q] >= 0:
            positive[query_rows[q]] = False
            ranked[query_rows[q]] = query_in_database
        if exclude_relatives:
            related = (parents[:, :, None] == parents[q]).flatten(1).any(1)
            related[q] = False
            positive &= ~related
            ranked &= ~related
        if positive.any():
            yield similarity, positive, ranked


def loss_of_a_query(
    similarity: Tensor,
    positive: Tensor,
    ranked: Tensor,
    ks: Sequence[int],
    rank_temperature: float,
    recall_temperatures: Sequence[float],
) -> Tensor:
    """Return `1 - mean over k of recall_k(q)` from what `rankings` yields."""
    z, x = torch.arange(len(similarity), device=similarity.device), positive.nonzero()[:, 0]  # (Z,), (P,)
    steps = torch.sigmoid((similarity[None, :] - similarity[x, None]) / rank_temperature)  # (P, Z)
    others = ranked[None, :] & (z[None, :] != x[:, None])
    rank = 1 + (steps * others).sum(1)  # (P,)
    recalls = [
        torch.clamp(torch.sigmoid((k - rank) / tau).sum(), max=k) / min(k, len(x))
        for k, tau in zip(ks, recall_temperatures, strict=True)
    ]
    return 1 - torch.stack(recalls).mean()
