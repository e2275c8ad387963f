"""Exact search for few queries among very many vectors: a first look at the stored numbers, then a second."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.precision import full_precision
from recallk.retrieval.codes import encoded
from recallk.retrieval.exact import Neighbours, blocks, check_k

_ROWS = 2**16  # that are looked at between two lists of the best
_FEW = 4  # queries: for more, numbers are converted once for all of them,
_CONVERTED = 2**11  # so many rows at a time, which stay in the cache
_AT_ONCE = 64  # queries whose candidates are held
_SECOND_ROWS = 2**13
_GROUPS, _MOST_OF_A_GROUP = 8, 64
"""The best scores are looked for among the best of each group of rows: so many groups for each that is wanted."""
_HALF, _SINGLE = 2.0**-11, 2.0**-24
"""What rounding to float16 and float32 moves a number by at most, relative to it."""
OVERSAMPLED = 16
"""With codes, so many times k are looked at again."""


@dataclass(frozen=True)
class StoredRows:
    """Vectors `(n, D)` float16 or float32, of unit length but for rounding; perhaps with `codes` and their `scales`.

    The arrays are such as PyTorch takes: a memory map of mode "c".
    """

    vectors: NDArray[Any]
    codes: NDArray[np.int8] | None = None
    scales: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@torch.no_grad()
def nearest_rows(
    queries: Tensor,
    parts: Sequence[StoredRows],
    k: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
    exclude: Sequence[int] | None = None,
) -> Neighbours:
    """Find each query's k rows of the largest inner product.

    Exactly, where the parts have no codes: the products in the numbers as they are stored are off by a bounded amount,
    and whatever could be among the first k is compared again in float64. With codes, `OVERSAMPLED` times k are compared
    again, the best by their codes; most queries then find what they find without. Equal similarities (float32) come in
    the order of their rows, numbered through the parts.

    Args:
        queries: `(Q, D)` float32 of unit length, on the CPU.
        parts: the rows, at least one.
        k: at least 1; clipped to the rows that are allowed for each query.
        allowed: `(N,)`, which rows may be found; by default all.
        exclude: for each query a row that is not found, or -1.

    Returns:
        The neighbours, `(Q, k)`.

    >>> rows = StoredRows(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=np.float16))
    >>> nearest_rows(torch.tensor([[0.0, 1.0]]), [rows], 2).indexes
    tensor([[2, 1]])

    """
    check_k(k)
    depth = min([k, *(_allowed(parts, allowed, row) for row in set(exclude or [-1]))])
    found = [
        neighbours
        for some in blocks(len(queries), _AT_ONCE)
        for neighbours in _nearest(queries[some], parts, depth, allowed, None if exclude is None else exclude[some])
    ]
    similarities = np.stack([each[0] for each in found]) if found else np.empty((0, depth), np.float32)
    indexes = np.stack([each[1] for each in found]) if found else np.empty((0, depth), np.int64)
    return Neighbours(torch.from_numpy(similarities), torch.from_numpy(indexes))


def _allowed(parts: Sequence[StoredRows], allowed: NDArray[np.bool_] | None, excluded: int) -> int:
    """Return how many rows may be found by a query."""
    if allowed is None:
        return sum(map(len, parts)) - (excluded >= 0)
    return int(allowed.sum()) - bool(excluded >= 0 and allowed[excluded])


def _nearest(
    queries: Tensor,
    parts: Sequence[StoredRows],
    depth: int,
    allowed: NDArray[np.bool_] | None,
    exclude: Sequence[int] | None,
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    if not depth:
        return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
    coded = all(part.codes is not None for part in parts)
    off = 0.0 if coded else max(map(_off, parts))
    candidates = _Candidates(len(queries), depth * OVERSAMPLED if coded else depth, off)
    first = 0
    for part in parts:
        look = _coded_scores(queries, part) if coded else _scores(queries, part)
        for rows in blocks(len(part), _ROWS):
            scores = look(rows)
            here = slice(first + rows.start, first + rows.stop)
            if allowed is not None:
                scores[~torch.from_numpy(allowed[here])] = -torch.inf
            for number, row in enumerate(exclude or []):
                if here.start <= row < here.stop:
                    scores[row - here.start, number] = -torch.inf
            candidates.add(scores, here.start)
        first += len(part)
    return [
        second_look(query, parts, rows, depth)
        for query, rows in zip(queries.double().numpy(), candidates.rows(), strict=True)
    ]


class _Candidates:
    """The rows that may be among the first of each query, by scores that are off by a bounded amount."""

    def __init__(self, queries: int, depth: int, off: float) -> None:
        self._queries, self._depth, self._off = queries, depth, off
        self._best = torch.full((depth, queries), -torch.inf)
        """Scores of so many rows, the best or nearly: the last is no more than that of the best so many."""
        self._found = list[tuple[Tensor, Tensor, Tensor]]()  # queries, rows, scores

    def add(self, scores: Tensor, first: int) -> None:
        """Take the scores `(n, Q)` of rows from `first` on; -inf is never found."""
        side = min(max(len(scores) // (_GROUPS * self._depth), 1), _MOST_OF_A_GROUP)
        groups = scores[: len(scores) // side * side].reshape(-1, side, self._queries).amax(1)
        self._best = torch.cat([self._best, groups]).topk(self._depth, 0, sorted=False).values
        rows, queries = (scores >= self._least(self._best.amin(0))).nonzero(as_tuple=True)
        self._found.append((queries, rows + first, scores[rows, queries]))

    def rows(self) -> list[NDArray[np.int64]]:
        """Return the rows of each query, rising."""
        queries, rows, scores = (torch.cat(each) for each in zip(*self._found, strict=True))
        order = queries.argsort(stable=True)
        counts = queries.bincount(minlength=self._queries).tolist()
        of_each = zip(torch.split(rows[order], counts), torch.split(scores[order], counts), strict=True)
        return [found[own >= self._least(_last(own, self._depth))].numpy() for found, own in of_each]

    def _least(self, last: Tensor) -> Tensor:
        # the last of the first k is off by as much as what may have to stand before it
        return (last - 2 * self._off).clamp(min=torch.finfo(torch.float32).min)


def _last(scores: Tensor, depth: int) -> Tensor:
    """Return the last of the best so many, or of all, where there are fewer."""
    return scores.topk(min(depth, len(scores))).values[-1]


def _off(part: StoredRows) -> float:
    """Return by how much a score is off at most: the query is rounded, the sum, and the score."""
    rounded = 2 * _HALF if part.vectors.dtype == np.float16 else 0.0
    return float(1.01 * (rounded + part.vectors.shape[1] * _SINGLE))


def _scores(queries: Tensor, part: StoredRows) -> Callable[[slice], Tensor]:
    """Return a function from rows to their scores `(n, Q)` float32."""
    vectors = torch.from_numpy(part.vectors)
    if vectors.dtype == torch.float32 or len(queries) > _FEW:

        def products(rows: slice) -> Tensor:
            with full_precision(queries.device):
                some = vectors[rows]
                return torch.cat([some[few].float() @ queries.T for few in blocks(len(some), _CONVERTED)])

        return products
    halves = queries.half()
    return lambda rows: torch.stack([vectors[rows].mv(half) for half in halves], 1).float()


def _coded_scores(queries: Tensor, part: StoredRows) -> Callable[[slice], Tensor]:
    """Return a function from rows to the scores of their codes, `(n, Q)`, each query's on a scale of its own."""
    assert part.codes is not None
    assert part.scales is not None
    codes, scales = torch.from_numpy(part.codes), torch.from_numpy(part.scales)
    asked = torch.from_numpy(encoded(queries.numpy())[0]).T
    # the rows stand first: as the second factor they would be copied into another order
    return lambda rows: torch._int_mm(codes[rows], asked).float().mul_(scales[rows, None])


def second_look(
    query: NDArray[np.float64], parts: Sequence[StoredRows], rows: NDArray[np.int64], depth: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the similarities, float32 of float64, of the best of some rising rows, and which these are."""
    ends = np.cumsum([len(part) for part in parts])
    of_part = np.searchsorted(rows, ends)
    found, start, first = [np.empty(0, np.float32)], 0, 0
    for part, stop, end in zip(parts, of_part.tolist(), ends.tolist(), strict=True):
        for some in blocks(stop - start, _SECOND_ROWS):
            numbers = rows[start:stop][some] - first
            found.append((part.vectors[numbers].astype(np.float64) @ query).astype(np.float32))
        start, first = stop, end
    similarities = np.concatenate(found)
    best = np.lexsort((rows, -similarities))[:depth]
    return similarities[best], rows[best]
