"""Who is relevant to whom: the positives of every query, for the loss, the metrics and the pages alike."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, class_labels
from recallk.core.errors import InputError
from recallk.core.judged import Lists, lists_of_qrels, lists_of_sets
from recallk.core.row_lists import RowLists
from recallk.core.stated_labels import checked_rows, levels, no_rows, one_for_each, rows_of


@dataclass(frozen=True, eq=False)
class Positives:
    """The items of a gallery of size G that are relevant to each of Q queries, and those that are ignored.

    Made from labels, from several labels an item, from a hierarchy, from judged pairs, or from lists of items. There is
    no matrix of pairs: the positives of a query are a run of one list of items, which queries share. A query is never
    its own positive. An ignored item is neither a positive of a query nor ranked for it. Where pairs are judged, items
    have grades too, which some metrics weigh. All tensors are on one device.

    >>> positives = Positives.from_labels([3, 5, 3, 3])  # the queries are the gallery
    >>> positives.counts
    tensor([2, 0, 2, 2])
    >>> positives.are_relevant(torch.tensor([0, 2]), torch.tensor([[0, 1, 2], [0, 1, 3]]))
    tensor([[False, False,  True],
            [ True, False,  True]])

    """

    relevant: RowLists
    ignored: RowLists | None = None
    graded: RowLists | None = None
    """With the grades above 0 for values; without it all positives are of grade 1."""

    @classmethod
    def from_labels(
        cls, query_labels: ArrayLike, gallery_labels: ArrayLike | None = None, query_rows: ArrayLike | None = None
    ) -> Positives:
        """Find the positives from labels: the items with the query's label, the query itself left out.

        Args:
            query_labels: `(Q,)` integers of any width, in any order; classes of any size.
            gallery_labels: `(G,)` integers; without them the queries are the gallery.
            query_rows: `(Q,)` integers in -1 .. G-1: where the queries themselves stand in a gallery given apart; -1
                for those that are not in it (without `query_rows`: all).

        Raises:
            InputError: for shapes, types or rows that do not fit, rows without a gallery, and a row whose label is
                not that of its query.

        >>> Positives.from_labels([3, 5], gallery_labels=[5, 3, 3], query_rows=[-1, 0]).counts
        tensor([2, 0])

        """
        labels = one_for_each(class_labels(query_labels), "labels")
        if gallery_labels is None:
            if query_rows is not None:
                raise InputError(
                    "query_rows say where the queries stand in a gallery apart: give gallery and gallery_labels too"
                )
            of_gallery, rows = labels, torch.arange(len(labels), device=labels.device)
        else:
            of_gallery = one_for_each(class_labels(gallery_labels, "gallery_labels"), "gallery_labels")
            of_gallery = of_gallery.to(labels.device)
            rows = torch.full_like(labels, -1) if query_rows is None else checked_rows(query_rows, labels, of_gallery)
        return cls(RowLists.from_classes(labels, of_gallery, rows))

    @classmethod
    def from_label_sets(
        cls,
        query_sets: Sequence[Collection[Hashable]],
        gallery_sets: Sequence[Collection[Hashable]] | None = None,
        query_rows: ArrayLike | None = None,
        *,
        share: float = 0.0,
    ) -> Positives:
        """Find the positives where an item may have several labels: the items with at least one of the query's.

        With `share` in [0, 1], only those of whose labels and the query's, taken together, so large a share is common
        (Jaccard). `gallery_sets` and `query_rows` as for `from_labels`. An item without labels is relevant to nobody.
        Raises InputError for what does not fit.

        >>> sets = [{"red", "round"}, {"red"}, {"blue"}, ["round", "blue"]]
        >>> Positives.from_label_sets(sets).counts, Positives.from_label_sets(sets, share=0.5).counts
        (tensor([2, 1, 1, 2]), tensor([1, 1, 1, 1]))

        """
        lists = lists_of_sets(query_sets, query_sets if gallery_sets is None else gallery_sets, share)
        if gallery_sets is None:
            no_rows(query_rows)
            return cls._from_lists(lists, len(query_sets), range(len(query_sets)))
        return cls._from_lists(lists, len(gallery_sets), query_rows)

    @classmethod
    def from_hierarchy(
        cls,
        query_labels: ArrayLike,
        gallery_labels: ArrayLike | None = None,
        query_rows: ArrayLike | None = None,
        *,
        level: int,
    ) -> Positives:
        """Find the positives at a level of a hierarchy: the items whose labels are the query's down to there.

        The labels are `(Q, L)` and `(G, L)` integers, the widest group first; `level` is in 0 .. L-1. A loss over
        several levels is a sum of losses, one of each level's positives. The rest is as for `from_labels`.

        >>> labels = [[0, 0], [0, 1], [0, 0], [1, 0]]  # the last column's groups are within those of the first
        >>> Positives.from_hierarchy(labels, level=0).counts, Positives.from_hierarchy(labels, level=1).counts
        (tensor([2, 2, 2, 0]), tensor([1, 0, 1, 0]))

        """
        queries = levels(query_labels, "labels", level)
        if gallery_labels is None:
            return cls.from_labels(torch.unique(queries, dim=0, return_inverse=True)[1], None, query_rows)
        items = levels(gallery_labels, "gallery_labels", level).to(queries.device)
        groups = torch.unique(torch.cat([queries, items]), dim=0, return_inverse=True)[1]
        return cls.from_labels(groups[: len(queries)], groups[len(queries) :], query_rows)

    @classmethod
    def from_qrels(
        cls,
        qrels: Mapping[str, Mapping[str, float]],
        queries: Sequence[str],
        documents: Sequence[str],
        *,
        least_grade: float = 1,
        ignored: Mapping[str, Collection[str]] | None = None,
    ) -> Positives:
        """Find the positives from judged pairs: by query and document the grade, as BEIR and TREC have them.

        `queries (Q,)` and `documents (G,)` are the ids in the order of the embeddings; what the judgements say of
        others is passed over. Documents of `least_grade` and above are relevant, and all grades above 0 are kept for
        metrics that weigh them; documents `ignored` by query are neither relevant nor ranked. Where a query's id is
        that of a document, it is that document, and not its own positive.
        Raises InputError for an id that is there twice, and for a grade that is no number.

        >>> Positives.from_qrels({"q1": {"a": 2, "b": 0}, "q2": {"b": 1}}, ["q1", "q2"], ["a", "b", "c"]).counts
        tensor([1, 1])

        """
        judged = lists_of_qrels(qrels, queries, documents, least_grade, ignored or {})
        made = cls._from_lists(judged.relevant, len(documents), judged.rows, judged.ignored)
        runs = judged.graded.tensors(len(documents))
        graded = RowLists.from_runs(*runs, made.query_rows, len(documents), judged.grades)
        return replace(made, graded=graded)

    @classmethod
    def from_lists(
        cls,
        relevant: Sequence[Collection[int]],
        gallery_size: int | None = None,
        query_rows: ArrayLike | None = None,
        *,
        ignored: Sequence[Collection[int]] | None = None,
    ) -> Positives:
        """Take the positives as they are listed: for each query rows of the gallery, in any order.

        Without a `gallery_size` the queries are the gallery; else `query_rows (Q,)` may say where they stand in it.
        What is `ignored` for a query is not its positive. Raises InputError for rows that are not there.

        >>> Positives.from_lists([[1, 2], [2], []], ignored=[[2], [], []]).counts
        tensor([1, 1, 0])

        """
        lists = Lists.of(relevant)
        without = None if ignored is None else Lists.of(ignored)
        if gallery_size is None:
            no_rows(query_rows)
            return cls._from_lists(lists, len(relevant), range(len(relevant)), without)
        return cls._from_lists(lists, gallery_size, query_rows, without)

    @classmethod
    def _from_lists(
        cls, relevant: Lists, gallery_size: int, query_rows: ArrayLike | range | None, ignored: Lists | None = None
    ) -> Positives:
        rows = rows_of(query_rows, len(relevant.runs), gallery_size)
        if ignored is not None:
            relevant = relevant.without(ignored)
        made = [
            None if lists is None else RowLists.from_runs(*lists.tensors(gallery_size), rows, gallery_size)
            for lists in (relevant, ignored)
        ]
        assert made[0] is not None
        return cls(made[0], made[1] if made[1] is not None and bool((made[1].counts > 0).any()) else None)

    @property
    def counts(self) -> Tensor:
        """How many positives each query has, `(Q,)` int64."""
        return self.relevant.counts

    @property
    def query_rows(self) -> Tensor:
        """The query's own row in the gallery, `(Q,)` int64; -1 where it is not there."""
        return self.relevant.own_rows

    @property
    def starts(self) -> Tensor:
        """Numbers `(Q,)` that tell which queries share their positives, but for themselves: those with the same."""
        return self.relevant.starts

    @property
    def gallery_size(self) -> int:
        """The number of items in the gallery."""
        return self.relevant.gallery_size

    @property
    def are_classes(self) -> bool:
        """Whether an item is relevant to another exactly where both are of one class, and none is ignored."""
        return self.relevant.of_classes and self.ignored is None

    def nth(self, queries: Tensor, numbers: Tensor) -> Tensor:
        """Return the queries' positives number 0, 1, ... as rows of the gallery, in the shape that both broadcast to.

        Any row where a query has not so many.

        >>> positives = Positives.from_labels([3, 5, 3, 3])
        >>> positives.nth(torch.tensor([0, 2]), torch.tensor([1, 0]))
        tensor([3, 0])

        """
        return self.relevant.nth(queries, numbers)

    def numbered(self, queries: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the positives number first to last - 1 of the queries `(T,)`: rows of the gallery `(T, last - first)`.

        The second tensor says which of them exist: queries with fewer positives are filled up with any row.

        >>> items, exist = Positives.from_labels([3, 5, 3, 3]).numbered(torch.tensor([2]), 0, 3)
        >>> items[exist]
        tensor([0, 3])

        """
        return self.relevant.numbered(queries, first, last)

    def are_relevant(self, queries: Tensor, items: Tensor) -> Tensor:
        """Say which of the items, rows of the gallery `(T, P)`, are positives of the queries `(T,)`.

        Items `(P,)` are asked about for each query.

        >>> positives = Positives.from_labels([3, 5], gallery_labels=[5, 3, 3])
        >>> positives.are_relevant(torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
        tensor([[False,  True,  True],
                [ True, False, False]])

        """
        return self.relevant.contain(queries, items)

    def are_ignored(self, queries: Tensor, items: Tensor) -> Tensor:
        """Say which of the items are ignored for the queries, in the shapes of `are_relevant`."""
        if self.ignored is None:
            return torch.zeros(len(queries), items.shape[-1], dtype=torch.bool, device=items.device)
        return self.ignored.contain(queries, items)

    def grades(self, queries: Tensor, items: Tensor) -> Tensor:
        """Return the items' grades for the queries, float64, in the shapes of `are_relevant`; 0 where there is none.

        >>> positives = Positives.from_qrels({"q1": {"a": 2, "b": 1}}, ["q1"], ["a", "b", "c"])
        >>> positives.grades(torch.tensor([0]), torch.tensor([0, 1, 2]))
        tensor([[2., 1., 0.]], dtype=torch.float64)

        """
        relevant = self.are_relevant(queries, items).double()
        return relevant if self.graded is None else self.graded.values_at(queries, items)

    def best_grades(self, queries: Tensor, depth: int) -> Tensor:
        """Return the largest grades of each query's items, falling, `(T, depth)` float64; 0 beyond the last."""
        if self.graded is None:
            return (torch.arange(depth, device=queries.device) < self.counts[queries, None]).double()
        return self.graded.largest(queries, depth)

    def check(self, queries: int, gallery_size: int | None) -> None:
        """Raise InputError where they are of other numbers of queries and items (None: the queries are the gallery)."""
        said = len(self.counts), self.gallery_size
        if said != (queries, queries if gallery_size is None else gallery_size):
            there = f"{queries} embeddings and a gallery of {queries if gallery_size is None else gallery_size}"
            raise InputError(f"positives are of {said[0]} queries in a gallery of {said[1]}, there are {there}")
        if gallery_size is None and not bool((self.query_rows == torch.arange(queries).to(self.query_rows)).all()):
            raise InputError("positives are of queries in a gallery apart: give the gallery")

    def to(self, device: torch.device) -> Positives:
        """Return the same on a device."""
        moved = [None if lists is None else lists.to(device) for lists in (self.relevant, self.ignored, self.graded)]
        assert moved[0] is not None
        return Positives(moved[0], *moved[1:])
