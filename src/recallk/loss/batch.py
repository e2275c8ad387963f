"""What the loss is of: queries, and the gallery that they are ranked against where it is another; checked."""

from dataclasses import dataclass

from torch import Tensor

from recallk.core.arrays import ArrayLike, labelled_embeddings
from recallk.core.errors import InputError
from recallk.core.relevance import Positives


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
    if database.shape[1] != queries.shape[1]:
        raise InputError(f"the gallery has {database.shape[1]} dimensions, the queries {queries.shape[1]}")
    if database.device != queries.device:
        raise InputError(f"the gallery is on {database.device}, the queries on {queries.device}: move one")
    return Batch(queries, labels, database, database_labels, query_rows)


def positives_of(batch: Batch) -> Positives:
    """Find the positives of each query."""
    return Positives.from_labels(batch.labels, batch.gallery_labels, batch.query_rows)


def checked_positives(batch: Batch) -> Positives:
    """Find the positives of each query. Raises InputError where none has one."""
    positives = positives_of(batch)
    if not bool((positives.counts > 0).any()):
        raise InputError(
            "no query has a positive in this batch: every label occurs once; "
            "draw at least 2 items of a class (items_per_class)"
            if batch.gallery_labels is None
            else "no query has a positive: none of the labels is in the gallery"
            + ("" if batch.query_rows is None else ", but for the queries themselves")
        )
    return positives
