"""What the loss is of: queries, and the gallery that they are ranked against where it is another; checked."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_embeddings, labelled_embeddings
from recallk.core.errors import InputError
from recallk.core.relevance import Positives
from recallk.core.text import brief


@dataclass(frozen=True)
class Batch:
    """Queries `(B, D)` with labels `(B,)`; without a gallery `(G, D)`, with labels `(G,)`, they rank each other.

    `query_rows (B,)` as the caller gives them: `Positives.from_labels` checks them.
    """

    queries: Tensor
    labels: Tensor
    gallery: Tensor | None = None
    gallery_labels: Tensor | None = None
    query_rows: ArrayLike | None = None
    positives: Positives | None = None
    """Of these the batch may be, in place of labels, which are then of no meaning."""


def given_batch(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    gallery: ArrayLike | None,
    gallery_labels: ArrayLike | None,
    query_rows: ArrayLike | None,
    positives: Positives | None,
) -> Batch:
    """Return the batch as a caller gives it, with labels or with positives. Raises InputError for what does not fit."""
    if positives is not None:
        others = {"labels": labels, "gallery_labels": gallery_labels, "query_rows": query_rows}
        return judged_batch(embeddings, gallery, positives, others)
    if labels is None:
        raise InputError("labels are of type NoneType: integers are needed, or positives (recallk.Positives)")
    return checked_batch(embeddings, labels, gallery, gallery_labels, query_rows)


def checked_batch(
    embeddings: ArrayLike,
    labels: ArrayLike,
    gallery: ArrayLike | None,
    gallery_labels: ArrayLike | None,
    query_rows: ArrayLike | None,
    *,
    least: int = 1,
) -> Batch:
    """Return the batch as a caller gives it, of `least` queries and gallery items or more.

    Raises InputError where something does not fit.
    """
    if (gallery is None) != (gallery_labels is None):
        raise InputError("gallery and gallery_labels go together: give both or neither")
    queries, labels = labelled_embeddings(embeddings, labels, least=least)
    if gallery is None or gallery_labels is None:
        return Batch(queries, labels, query_rows=query_rows)
    database, database_labels = labelled_embeddings(gallery, gallery_labels, "gallery", "gallery_labels", least=least)
    _check_alike(queries, database)
    return Batch(queries, labels, database, database_labels, query_rows)


def _check_alike(queries: Tensor, gallery: Tensor) -> None:
    if gallery.shape[1] != queries.shape[1]:
        raise InputError(f"the gallery has {gallery.shape[1]} dimensions, the queries {queries.shape[1]}")
    if gallery.device != queries.device:
        raise InputError(f"the gallery is on {gallery.device}, the queries on {queries.device}: move one")


def judged_batch(
    embeddings: ArrayLike, gallery: ArrayLike | None, positives: Positives, others: Mapping[str, object]
) -> Batch:
    """Return the batch as a caller gives it whose positives are given; raises as `checked_batch`.

    `others` are what else is given, by name: nothing of it goes together with positives.
    """
    if not isinstance(positives, Positives):
        raise InputError(f"positives={brief(positives)}: recallk.Positives is needed")
    if given := [name for name, value in others.items() if value is not None]:
        raise InputError(f"positives say who is relevant to whom: leave out {' and '.join(given)}")
    queries = checked_embeddings(embeddings)
    database = queries if gallery is None else checked_embeddings(gallery, "gallery")
    if gallery is not None:
        _check_alike(queries, database)
    positives.check(len(queries), None if gallery is None else len(database))
    positives = positives.to(queries.device)
    none = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    return Batch(queries, none, None if gallery is None else database, positives=positives)


def positives_of(batch: Batch) -> Positives:
    """Find the positives of each query."""
    if batch.positives is not None:
        return batch.positives
    return Positives.from_labels(batch.labels, batch.gallery_labels, batch.query_rows)


def checked_positives(batch: Batch) -> Positives:
    """Find the positives of each query. Raises InputError where none has one."""
    positives = positives_of(batch)
    if not bool((positives.counts > 0).any()):
        if batch.positives is not None:
            raise InputError("no query has a positive: nothing in the gallery is relevant to any of them")
        raise InputError(
            "no query has a positive in this batch: every label occurs once; "
            "draw at least 2 items of a class (items_per_class)"
            if batch.gallery_labels is None
            else "no query has a positive: none of the labels is in the gallery"
            + ("" if batch.query_rows is None else ", but for the queries themselves")
        )
    return positives
