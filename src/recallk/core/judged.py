"""Lists of rows from what people say of relevance: several labels an item, judged pairs, lists."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.text import brief


@dataclass(frozen=True)
class Lists:
    """Lists of rows, each rising and each row once, and for each query which of them is its own."""

    lists: Sequence[NDArray[np.int64]]
    runs: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Collection[int]]) -> Lists:
        """Take a list for each query. Raises InputError for what is no whole number."""
        lists = [_whole(each, number) for number, each in enumerate(rows)]
        return cls(lists, np.arange(len(lists)))

    def without(self, others: Lists) -> Lists:
        """Return for each query its rows without those that others list for it. Raises InputError for other queries."""
        if len(others.runs) != len(self.runs):
            raise InputError(f"ignored says something of {len(others.runs)} queries, there are {len(self.runs)}")
        pairs, runs = np.unique(np.stack([self.runs, others.runs]), axis=1, return_inverse=True)
        lists = [np.setdiff1d(self.lists[one], others.lists[other]) for one, other in pairs.T.tolist()]
        return Lists(lists, runs.reshape(-1))

    def tensors(self, gallery_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return offsets `(R + 1,)`, rows, and runs `(Q,)`. Raises InputError for rows outside the gallery."""
        rows = np.concatenate([*self.lists, np.empty(0, np.int64)])
        outside = rows[(rows < 0) | (rows >= gallery_size)]
        if len(outside):
            raise InputError(f"row {outside[0]} of the gallery, which has {gallery_size}: rows are 0 .. size - 1")
        offsets = np.cumsum([0, *map(len, self.lists)], dtype=np.int64)
        return torch.from_numpy(offsets), torch.from_numpy(rows), torch.from_numpy(self.runs)


def lists_of_sets(
    queries: Sequence[Collection[Hashable]], items: Sequence[Collection[Hashable]], share: float
) -> Lists:
    """Return for each query the items with a label in common, and with so large a share of all labels of both."""
    if not (isinstance(share, int | float) and 0 <= share <= 1):
        raise InputError(f"share={brief(share)}: a number from 0 to 1 is needed")
    sets, number_of = list[frozenset[Hashable]](), dict[frozenset[Hashable], int]()
    runs = np.empty(len(queries), np.int64)
    for number, labels in enumerate(queries):
        own = _labels(labels, number)
        runs[number] = number_of.setdefault(own, len(sets))
        if len(number_of) > len(sets):
            sets.append(own)
    sizes, having = np.empty(len(items), np.int64), dict[Hashable, list[int]]()
    for number, labels in enumerate(items):
        own = _labels(labels, number)
        sizes[number] = len(own)
        for label in own:
            having.setdefault(label, []).append(number)
    by_label = {label: np.array(rows, np.int64) for label, rows in having.items()}
    lists = []
    for own in sets:
        there = [by_label[label] for label in own if label in by_label]
        rows, common = np.unique(np.concatenate([*there, np.empty(0, np.int64)]), return_counts=True)
        lists.append(rows[common >= share * (sizes[rows] + len(own) - common)])
    return Lists(lists, runs)


@dataclass(frozen=True)
class Judged:
    """The rows of documents that are relevant, ignored and graded, and where queries `(Q,)` are documents themselves.

    The grades are above 0, one for each row that is listed as graded.
    """

    relevant: Lists
    ignored: Lists | None
    graded: Lists
    grades: Tensor
    rows: NDArray[np.int64]


def lists_of_qrels(
    qrels: Mapping[str, Mapping[str, float]],
    queries: Sequence[str],
    documents: Sequence[str],
    least_grade: float,
    ignored: Mapping[str, Collection[str]],
) -> Judged:
    """Return what judged pairs say. Raises InputError for ids that are there twice, and grades that are no numbers."""
    row_of = {name: row for row, name in enumerate(documents)}
    if len(row_of) < len(documents) or len(set(queries)) < len(queries):
        raise InputError("an id is there twice among the queries, or among the documents: ids are to differ")
    relevant, left_out, graded, grades = list[list[int]](), list[list[int]](), list[list[int]](), list[float]()
    for query in queries:
        without = {row_of[name] for name in ignored.get(query, ()) if name in row_of}
        judged = sorted(
            (row_of[name], _grade(grade, query, name)) for name, grade in qrels.get(query, {}).items() if name in row_of
        )
        judged = [(row, grade) for row, grade in judged if row not in without]
        left_out.append(sorted(without))
        relevant.append([row for row, grade in judged if grade >= least_grade])
        graded.append([row for row, grade in judged if grade > 0])
        grades += [grade for _, grade in judged if grade > 0]
    rows = np.array([row_of.get(query, -1) for query in queries], np.int64)
    ignored_lists = Lists.of(left_out) if any(left_out) else None
    return Judged(Lists.of(relevant), ignored_lists, Lists.of(graded), torch.tensor(grades, dtype=torch.float64), rows)


def _grade(grade: Any, query: str, document: str) -> float:
    if isinstance(grade, bool) or not isinstance(grade, int | float | np.number) or not math.isfinite(grade):
        raise InputError(f"the grade of {brief(document)} for {brief(query)} is {brief(grade)}: a number is needed")
    return float(grade)


def _labels(labels: Any, number: int) -> frozenset[Hashable]:
    if isinstance(labels, str) or not isinstance(labels, Collection):
        raise InputError(f"item {number} has {brief(labels)} for labels: a list or set of them is needed")
    return frozenset(labels)


def _whole(rows: Collection[int], number: int) -> NDArray[np.int64]:
    found = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise InputError(f"query {number}: a list of whole numbers, rows of the gallery, is needed")
    return np.unique(found.astype(np.int64))
