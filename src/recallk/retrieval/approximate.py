"""Approximate search by FAISS: it names candidates, which are then compared exactly."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recallk.core.progress import Advance, counting
from recallk.retrieval.exact import Neighbours, blocks
from recallk.retrieval.scan import StoredRows, nearest_rows, second_look

Kind = Literal["hnsw", "ivf"]
"""A graph of neighbours, or lists of what is nearest to the same centre."""
TESTED = 200
"""Queries by which a width is chosen, and as many others by which it is measured."""
_WIDEST = 4096  # of a graph; of lists, all of them
_ROWS = 2**13  # that are added at a time
_OVERSAMPLED = 2  # times k candidates: they are compared again
_LINKS, _WHILE_BUILDING = 32, 100  # of each item of a graph, and how far is looked for them
_POINTS = 39  # of each list, at least: with fewer FAISS warns
_TIMED = 20


@dataclass(frozen=True)
class Measured:
    """What an approximate search finds and takes, on items that were held out.

    `recall` is the mean share of the `k` nearest, as exact search has them, that it finds, of `queries` that neither
    it was built with nor its width chosen by; `seconds` are medians for one query, as are `exact_seconds`.
    """

    kind: Kind
    width: int
    k: int
    recall: float
    queries: int
    seconds: float
    exact_seconds: float


def library() -> Any:
    """Return FAISS, whose annotations know less than it has."""
    import faiss  # not above: torch comes first (each brings its own OpenMP)

    return faiss


class Approximate:
    """An index of FAISS over rows, which it knows by their numbers, and how widely it is searched."""

    def __init__(self, index: Any, kind: Kind, width: int) -> None:
        self.index, self.kind, self.width = index, kind, width

    def candidates(
        self, queries: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[NDArray[np.int64]]:
        """Return for each query `(Q, D)` the rising numbers of up to `count` rows, of those that are allowed `(N,)`."""
        faiss = library()
        how: dict[str, Any] = {}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            how["sel"] = faiss.IDSelectorBitmap(bits)
        if self.kind == "hnsw":
            search = faiss.SearchParametersHNSW(efSearch=max(self.width, count), **how)
        else:
            search = faiss.SearchParametersIVF(nprobe=self.width, **how)
        # where a program has imported faiss.contrib.torch_utils, its own `search` takes no parameters
        call = getattr(self.index, "search_numpy", self.index.search)
        _, found = call(np.ascontiguousarray(queries), count, params=search)
        return [np.unique(row[row >= 0]) for row in found]

    def nearest(
        self,
        queries: torch.Tensor,
        parts: Sequence[StoredRows],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        exclude: Sequence[int] | None = None,
    ) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Find up to k rows for each query: those of `nearest_rows`, as far as they are among the candidates."""
        candidates = self.candidates(queries.numpy(), _OVERSAMPLED * k + (exclude is not None), allowed)
        found = []
        for number, (query, rows) in enumerate(zip(queries.double().numpy(), candidates, strict=True)):
            wanted = rows if exclude is None else rows[rows != exclude[number]]
            found.append(second_look(query, parts, wanted, k))
        return found


def fit(
    parts: Sequence[StoredRows],
    alive: NDArray[np.bool_],
    kind: Kind,
    *,
    least: float,
    k: int,
    seed: int = 0,
    advance: Advance,
) -> tuple[Approximate, Measured]:
    """Build an index over the rows that are alive `(N,)`, search it as widely as it takes, and measure it.

    Some rows are held out: built without them, it is searched for them, ever more widely, until the share of the `k`
    nearest that it finds is `least`; others tell what it is then. In the end they are put into it too.
    """
    rows = np.flatnonzero(alive)
    random = np.random.default_rng(seed)
    tested = min(TESTED, len(rows) // 10)
    held = np.sort(random.choice(rows, 2 * tested, replace=False))
    rest = alive.copy()
    rest[held] = False
    told = counting(advance, "building", len(rows))
    index = _empty(parts, np.flatnonzero(rest), kind, random)
    for numbers, vectors in _blocks(parts, np.flatnonzero(rest)):
        index.add_with_ids(vectors, numbers)
        told(len(numbers))
    queries = torch.from_numpy(np.concatenate([vectors for _, vectors in _blocks(parts, held)]))
    exact = nearest_rows(queries, parts, k, allowed=rest)
    order = random.permutation(len(held))
    chosen_by, measured_by = order[:tested], order[tested:]
    # a graph is followed as far as there are candidates, at least
    narrowest, widest = (_OVERSAMPLED * k, _WIDEST) if kind == "hnsw" else (1, int(_lists(index).nlist))
    found = Approximate(index, kind, narrowest)
    while _recall(found, parts, queries, exact, chosen_by, k) < least and found.width < widest:
        found.width = min(2 * found.width, widest)
    some = [queries[number : number + 1] for number in measured_by[:_TIMED].tolist()]
    measured = Measured(
        kind,
        found.width,
        k,
        _recall(found, parts, queries, exact, measured_by, k),
        tested,
        _seconds([lambda query=query: found.nearest(query, parts, k) for query in some]),
        _seconds([lambda query=query: nearest_rows(query, parts, k, allowed=rest) for query in some]),
    )
    for numbers, vectors in _blocks(parts, held):
        index.add_with_ids(vectors, numbers)
        told(len(numbers))
    return found, measured


def _empty(parts: Sequence[StoredRows], rows: NDArray[np.int64], kind: Kind, random: np.random.Generator) -> Any:
    """Return an index with no rows in it, of lists with centres that are fitted to some of the rows."""
    faiss = library()
    dimensions = parts[0].vectors.shape[1]
    if kind == "hnsw":
        graph = faiss.IndexHNSWSQ(dimensions, faiss.ScalarQuantizer.QT_fp16, _LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _WHILE_BUILDING
        graph.is_trained = True  # float16 has nothing to be fitted
        return faiss.IndexIDMap2(graph)
    lists = int(max(1, min(4 * np.sqrt(len(rows)), len(rows) // _POINTS)))
    index = faiss.index_factory(dimensions, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    sample = np.sort(random.choice(rows, min(len(rows), 256 * lists), replace=False))
    index.cp.seed = int(random.integers(2**31))
    index.train(np.concatenate([vectors for _, vectors in _blocks(parts, sample)]))
    return faiss.IndexIDMap2(index)


def _lists(index: Any) -> Any:
    return library().downcast_index(index.index)


def _blocks(
    parts: Sequence[StoredRows], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield rising rows, some at a time, with their vectors."""
    first = 0
    for part in parts:
        own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(part))]
        for some in blocks(len(own), _ROWS):
            yield own[some], part.vectors[own[some] - first].astype(np.float32)
        first += len(part)


def _recall(
    found: Approximate,
    parts: Sequence[StoredRows],
    queries: torch.Tensor,
    exact: Neighbours,
    numbers: NDArray[np.int64],
    k: int,
) -> float:
    chosen = torch.from_numpy(numbers)
    rows = [own for _, own in found.nearest(queries[chosen], parts, k)]
    shares = [
        len(np.intersect1d(own, right)) / len(right)
        for own, right in zip(rows, exact.indexes[chosen].numpy(), strict=True)
    ]
    return float(np.mean(shares))


def _seconds(calls: Sequence[Any]) -> float:
    taken = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
