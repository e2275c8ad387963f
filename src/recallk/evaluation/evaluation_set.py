"""What is measured: queries, the gallery that they search, and who is relevant to whom; and what a search finds."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_embeddings, labelled_embeddings, normalised
from recallk.core.errors import InputError
from recallk.core.relevance import Positives
from recallk.core.text import brief
from recallk.retrieval.exact import SCORES_AT_ONCE, blocks, inner_products, nearest

_CELLS_AT_ONCE = 2**22


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
    return _unit(rows), classes


def _unit(rows: Tensor) -> Tensor:
    rows = rows.detach()
    return normalised(rows if rows.dtype == torch.float64 else rows.float()).float()


@dataclass(frozen=True)
class Found:
    """What some of the queries `(B,)` found: their K nearest items, best first, and which of them are relevant.

    Items that are ignored for a query come last in its row, where the gallery has no others left.
    """

    queries: Tensor  # (B,)
    items: Tensor  # (B, K)
    relevant: Tensor  # (B, K)


@dataclass(frozen=True)
class EvaluationSet:
    """Queries and what they search, of unit length; on one device."""

    queries: Tensor  # (N, D)
    gallery: Tensor  # (G, D)
    positives: Positives

    def found(self, depth: int) -> Iterator[Found]:
        """Search for all queries, some at a time, those left out that have no relevant item.

        `K` is at least `depth` and every query's number of relevant items, as far as the gallery goes.
        """
        counts = self.positives.counts
        in_gallery = self.positives.query_rows >= 0
        for chosen in (in_gallery, ~in_gallery):  # the former have one item fewer to find, themselves
            rows = torch.nonzero(chosen & (counts > 0))[:, 0]
            # the largest classes first: a block is as deep as its largest class, and so no deeper than needed
            rows = rows[counts[rows].argsort(descending=True, stable=True)]
            while len(rows):
                deep = max(depth, int(counts[rows[0]]))
                height = max(1, _CELLS_AT_ONCE // min(deep, len(self.gallery)))
                yield self._found(rows[:height], deep)
                rows = rows[height:]

    def _found(self, rows: Tensor, depth: int) -> Found:
        """Return what queries find that are all in the gallery, or all not."""
        own = self.positives.query_rows[rows]
        exclude = own if bool((own >= 0).any()) else None
        ignored = self.positives.ignored
        further = 0 if ignored is None else int(ignored.counts[rows].max())
        items = nearest(self.queries[rows], self.gallery, depth + further, exclude=exclude).indexes.to(rows.device)
        if further:
            last = self.positives.are_ignored(rows, items).byte().argsort(dim=1, stable=True)
            items = items.gather(1, last)[:, :depth]
        return Found(rows, items, self.positives.are_relevant(rows, items))

    def first_ranks(self, found: Found) -> Tensor:
        """Return the rank `(B,)`, from 1, of each query's first relevant item, however far down."""
        ranks = found.relevant.int().argmax(dim=1) + 1
        missed = ~found.relevant.any(dim=1)
        if missed.any():
            # at least one below what was found, should rounding say otherwise here than in the search
            ranks[missed] = self._counted_ranks(found.queries[missed]).clamp_min(found.relevant.shape[1] + 1)
        return ranks

    def _counted_ranks(self, rows: Tensor) -> Tensor:
        """Return the first relevant item's rank for the queries `rows`, by counting the gallery items before it.

        Those before it are more similar, or as similar and of a lower index, as in the search.
        """
        positions = torch.arange(len(self.gallery), device=rows.device)
        ranks = []
        for block in blocks(len(rows), max(1, SCORES_AT_ONCE // (4 * len(positions)))):
            queries = rows[block]
            scores = inner_products(self.queries[queries], self.gallery)
            scores.masked_fill_(positions == self.positives.query_rows[queries, None], -torch.inf)
            if self.positives.ignored is not None:
                scores.masked_fill_(self.positives.are_ignored(queries, positions), -torch.inf)
            relevant = self.positives.are_relevant(queries, positions)
            at = scores.masked_fill(~relevant, -torch.inf).argmax(dim=1, keepdim=True)
            best = scores.gather(1, at)
            before = (scores > best) | ((scores == best) & (positions < at))
            ranks.append(before.sum(dim=1) + 1)
        return torch.cat(ranks)


def evaluation_set(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    gallery: ArrayLike | None,
    gallery_labels: ArrayLike | None,
    query_rows: ArrayLike | None,
    positives: Positives | None,
) -> EvaluationSet:
    """Return what is to be measured, by labels or by positives.

    Raises InputError for what does not fit, and where no query has anything to find.
    """
    if positives is not None:
        others = {"labels": labels, "gallery_labels": gallery_labels, "query_rows": query_rows}
        if given := [name for name, value in others.items() if value is not None]:
            raise InputError(f"positives say who is relevant to whom: leave out {' and '.join(given)}")
        return judged_set(embeddings, gallery, positives)
    if labels is None:
        raise InputError("labels are of type NoneType: integers are needed, or positives (recallk.Positives)")
    if (gallery is None) != (gallery_labels is None):
        raise InputError("gallery and gallery_labels go together: give both or neither")
    queries, classes = unit_embeddings(embeddings, labels)
    if gallery is None or gallery_labels is None:
        items, positives = queries, Positives.from_labels(classes, None, query_rows)
    else:
        items, item_classes = unit_embeddings(gallery, gallery_labels, "gallery", "gallery_labels")
        items, positives = items.to(queries.device), Positives.from_labels(classes, item_classes, query_rows)
        _check_alike(queries, items)
    if not (positives.counts > 0).any():
        raise InputError(
            "no query has an item of its own class to find: give classes with at least two items, "
            "or a gallery that holds the queries' classes"
        )
    return EvaluationSet(queries, items, positives)


def judged_set(embeddings: ArrayLike, gallery: ArrayLike | None, positives: Positives) -> EvaluationSet:
    """Return what is to be measured by positives. Raises as `evaluation_set`."""
    if not isinstance(positives, Positives):
        raise InputError(f"positives={brief(positives)}: recallk.Positives is needed")
    queries = _unit(checked_embeddings(embeddings))
    items = queries if gallery is None else _unit(checked_embeddings(gallery, "gallery")).to(queries.device)
    _check_alike(queries, items)
    positives.check(len(queries), None if gallery is None else len(items))
    if not (positives.counts > 0).any():
        raise InputError("no query has anything to find: nothing in the gallery is relevant to any of them")
    return EvaluationSet(queries, items, positives.to(queries.device))


def _check_alike(queries: Tensor, gallery: Tensor) -> None:
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"embeddings have {queries.shape[1]} dimensions but the gallery has {gallery.shape[1]}: "
            "embed both with one model"
        )
