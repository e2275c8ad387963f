"""The metrics of information retrieval, for queries with judged documents; by query, in mean, and as a file."""

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_ks
from recallk.core.errors import InputError
from recallk.core.files import user_path, write_text
from recallk.core.relevance import Positives
from recallk.evaluation.evaluation_set import EvaluationSet, Found, judged_set


def judged_metrics(
    embeddings: ArrayLike, positives: Positives, gallery: ArrayLike | None = None, ks: Sequence[int] = (1, 10, 100)
) -> dict[str, float]:
    """Search by cosine similarity and measure what was found, as is usual for judged pairs of query and document.

    The means of what `judged_metrics_by_query` returns, over the queries that have a relevant item. Takes and raises
    what that does.

    >>> positives = Positives.from_qrels({"q": {"a": 2, "c": 1}}, ["q"], ["a", "b", "c"])
    >>> metrics = judged_metrics([[1.0, 0.0]], positives, [[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]], ks=(2,))
    >>> metrics["hit_rate@2"], metrics["recall@2"], metrics["mrr@2"]
    (1.0, 0.5, 0.5)

    """
    by_query = judged_metrics_by_query(embeddings, positives, gallery, ks)
    return {name: float(values.nanmean()) for name, values in by_query.items()}


@torch.no_grad()
def judged_metrics_by_query(
    embeddings: ArrayLike, positives: Positives, gallery: ArrayLike | None = None, ks: Sequence[int] = (1, 10, 100)
) -> dict[str, Tensor]:
    """Search by cosine similarity and return what each query found, `(Q,)` float64; NaN where nothing is relevant.

    With R relevant items of a query in all:

    - `hit_rate@K`: 1 with a relevant item among the K nearest, else 0 (the `recall@K` of metric learning).
    - `recall@K`: the share of the R that are among the K nearest.
    - `precision@K`: the share of relevant items among the K nearest; divided by K also where there are fewer.
    - `map@K`: the sum of the precisions at the relevant ones of the K nearest, divided by R.
    - `mrr@K`: 1 / (rank of the first relevant item); 0 where it is not among the K nearest.
    - `ndcg@K`: the sum of grade / log2(1 + rank) over the K nearest, divided by what the best order has.
    - `r_precision`: the share of relevant items among the R nearest.

    They are those of trec_eval (success, recall, P, map_cut, recip_rank, ndcg_cut, Rprec). Equal similarities come in
    the order of the gallery, where trec_eval takes that of the documents' names; and queries without a relevant item
    are no zeros. An item that is ignored for a query is as if the gallery did not have it.

    Args:
        embeddings: `(Q, D)` floats of any precision, the queries; need not be normalised.
        positives: who is relevant to whom, with grades where there are any.
        gallery: `(G, D)` floats: what is searched; without it the queries search each other, each without itself.
        ks: the K's, each at least 1; those above the gallery's size are allowed.

    Raises:
        InputError: for shapes, types or values that do not fit, and if no query has a relevant item.

    """
    depths = checked_ks(ks)
    evaluated = judged_set(embeddings, gallery, positives)
    values: dict[str, Tensor] = {}
    for found in evaluated.found(max(depths)):
        for name, of_block in _values(evaluated, found, depths).items():
            of_all = values.setdefault(name, of_block.new_full((len(evaluated.queries),), torch.nan))
            of_all[found.queries] = of_block
    return {name: of_all.cpu() for name, of_all in values.items()}


def _values(evaluated: EvaluationSet, found: Found, ks: Sequence[int]) -> dict[str, Tensor]:
    table, relevant = found.relevant.double(), evaluated.positives.counts[found.queries]
    ranks = torch.arange(1, table.shape[1] + 1, device=table.device)
    discounts = 1 / torch.log2(1.0 + ranks.double())
    precisions = table * table.cumsum(dim=1) / ranks
    gains = evaluated.positives.grades(found.queries, found.items) * discounts
    best = evaluated.positives.best_grades(found.queries, len(ranks)) * discounts
    values: dict[str, Tensor] = {}
    values |= {f"hit_rate@{k}": table[:, :k].amax(dim=1) for k in ks}
    values |= {f"recall@{k}": table[:, :k].sum(dim=1) / relevant for k in ks}
    values |= {f"precision@{k}": table[:, :k].sum(dim=1) / k for k in ks}
    values |= {f"map@{k}": precisions[:, :k].sum(dim=1) / relevant for k in ks}
    values |= {f"mrr@{k}": (table / ranks)[:, :k].amax(dim=1) for k in ks}
    values |= {f"ndcg@{k}": gains[:, :k].sum(dim=1) / best[:, :k].sum(dim=1) for k in ks}
    values["r_precision"] = (table * (ranks <= relevant[:, None])).sum(dim=1) / relevant
    return values


def write_by_query(file: str | os.PathLike[str], by_query: Mapping[str, Tensor], query_ids: Sequence[str]) -> None:
    """Write what `judged_metrics_by_query` returns as `trec_eval -q` prints it: metric, query and value, by tabs.

    The means come last, under the name `all`; queries in which nothing is relevant are left out. Raises InputError for
    ids that are not one for each query, or that hold white space.
    """
    ids = list(query_ids)
    if broken := [name for name in ids if not name or len(name.split()) != 1]:
        raise InputError(f"query {broken[0]!r}: an id without white space is needed in such a file")
    lines = list[str]()
    for metric, values in by_query.items():
        if len(values) != len(ids):
            raise InputError(f"{len(ids)} ids for {len(values)} queries: one for each is needed")
        pairs = [(name, value) for name, value in zip(ids, values.tolist(), strict=True) if value == value]
        lines += [f"{metric}\t{name}\t{value!r}\n" for name, value in pairs]
    lines += [f"{metric}\tall\t{float(values.nanmean())!r}\n" for metric, values in by_query.items()]
    write_text(user_path(file), "".join(lines))
