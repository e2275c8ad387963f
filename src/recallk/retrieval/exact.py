"""Exact nearest neighbours by inner product, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.precision import full_precision
from recallk.core.text import brief

SCORES_AT_ONCE = 2**24
"""Similarities held at one time when a whole gallery is scored: 64 MB of float32."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest gallery items of each query, best first, on the CPU.

    Attributes:
        similarities: `(Q, k)` float32, falling along each row.
        indexes: `(Q, k)` int64, rows of the gallery, no row twice for one query.

    """

    similarities: Tensor
    indexes: Tensor


@torch.no_grad()
def nearest(queries: Tensor, gallery: Tensor, k: int, *, exclude: Tensor | None = None) -> Neighbours:
    """Find each query's k gallery items of the largest inner product, exactly.

    A block of queries is multiplied with the whole gallery, and `topk` takes the best, on any device; beside the
    result, memory is bounded whatever `Q` is. (On two cores of a CPU this takes about the time of FAISS's flat index:
    `benchmarks/NOTES.md`.)

    Items of exactly equal (float32) similarity come in the order of their indexes, also where the k-th place falls
    between them; so a smaller k gives the first columns of a larger one.

    Args:
        queries: `(Q, D)` float32, L2-normalised if the similarity is to be the cosine; finite.
        gallery: `(G, D)` float32, likewise; `G` at least 1. It is moved to the queries' device.
        k: at least 1; clipped to `G`, and to `G - 1` if `exclude` is given.
        exclude: `(Q,)` int64 in -1 .. G-1: the gallery index left out of each query's neighbours, usually its own;
            -1 for none.

    Returns:
        The neighbours, `(Q, min(k, G))`, or `(Q, min(k, G - 1))` with `exclude`.

    Raises:
        InputError: for shapes, types or values that do not fit.

    >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> found = nearest(gallery[:1], gallery, k=2)
    >>> found.indexes, found.similarities
    (tensor([[0, 1]]), tensor([[1.0000, 0.6000]]))
    >>> nearest(gallery, gallery, k=1, exclude=torch.arange(3)).indexes  # each one's nearest other item
    tensor([[1],
            [2],
            [1]])

    """
    _check(queries, gallery, k, exclude)
    queries, gallery = queries.detach(), gallery.detach().to(queries.device)
    depth = min(k, len(gallery) if exclude is None else len(gallery) - 1)
    similarities = torch.empty(len(queries), depth)
    indexes = torch.empty(len(queries), depth, dtype=torch.int64)
    height = max(1, SCORES_AT_ONCE // len(gallery))
    held = queries.new_empty(min(height, len(queries)), len(gallery))  # fresh memory each time costs a third more
    for rows in blocks(len(queries), height):
        scores = inner_products(queries[rows], gallery, held)
        if exclude is not None:
            excluded = exclude[rows].to(scores.device)
            row = (excluded >= 0).nonzero()[:, 0]
            scores[row, excluded[row]] = -torch.inf
        best = best_scores(scores, depth)
        similarities[rows], indexes[rows] = best.similarities.cpu(), best.indexes.cpu()
    return Neighbours(similarities, indexes)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Cut the rows 0 .. total-1 into consecutive slices of at most `size` rows.

    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]

    """
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def inner_products(queries: Tensor, gallery: Tensor, held: Tensor | None = None) -> Tensor:
    """Return the `(Q, G)` inner products of `(Q, D)` and `(G, D)` float32 rows, in full float32 on every device.

    The caller sees to it that `Q * G` is within `SCORES_AT_ONCE`. They are written into the first rows of `held`, at
    least `(Q, G)`, where it is given.

    >>> inner_products(torch.eye(2), torch.tensor([[3.0, 4.0]]))
    tensor([[3.],
            [4.]])

    """
    with full_precision(queries.device):  # else close neighbours change places
        return torch.mm(queries, gallery.T, out=None if held is None else held[: len(queries)])


def best_scores(scores: Tensor, depth: int) -> Neighbours:
    """Return the `depth` largest scores `(B, G)` of each row, equal ones by index, on the scores' device."""
    # one place further shows whether the last one falls between equal scores
    similarities, indexes = scores.topk(min(depth + 1, scores.shape[1]), dim=1)
    if similarities.isnan().any():  # topk takes NaN for the largest
        raise InputError("queries or gallery hold NaN or infinite values: search needs finite embeddings")
    _order_equal_ones(similarities, indexes)
    if 0 < depth < scores.shape[1]:
        cut = similarities[:, depth - 1] == similarities[:, depth]
        if cut.any():
            indexes[cut, :depth] = _first_by_index(scores[cut], similarities[cut, :depth])
    return Neighbours(similarities[:, :depth], indexes[:, :depth])


def _order_equal_ones(similarities: Tensor, indexes: Tensor) -> None:
    """Put equal similarities `(B, K)`, falling along each row, in the order of their `indexes`; `topk` has any."""
    tied = (similarities[:, 1:] == similarities[:, :-1]).any(dim=1)
    if tied.any():
        by_index, order = indexes[tied].sort(dim=1)
        falling = similarities[tied].gather(1, order).argsort(dim=1, descending=True, stable=True)
        indexes[tied] = by_index.gather(1, falling)


def _first_by_index(scores: Tensor, best: Tensor) -> Tensor:
    """Return the indexes of the `best (B, K)` scores, where the last falls between equal ones: the first of those."""
    last = best[:, -1:]
    above, equal = scores > last, scores == last
    room = best.shape[1] - above.sum(dim=1, keepdim=True)
    taken = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))
    by_index = taken.nonzero()[:, 1].view(best.shape)
    return by_index.gather(1, scores.gather(1, by_index).argsort(dim=1, descending=True, stable=True))


def check_k(k: object) -> None:
    """Raise InputError where `k` is no whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise InputError(f"k must be a whole number, got {brief(k)}")
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")


def _check(queries: Tensor, gallery: Tensor, k: object, exclude: Tensor | None) -> None:
    for name, rows in (("queries", queries), ("gallery", gallery)):
        if rows.ndim != 2 or rows.dtype != torch.float32:
            raise InputError(f"{name} must be 2-D float32, got {rows.dtype} of shape {tuple(rows.shape)}")
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"queries have {queries.shape[1]} dimensions but the gallery has {gallery.shape[1]}: "
            "embed both with one model"
        )
    if len(gallery) == 0:
        raise InputError("the gallery is empty: give at least one item to search")
    check_k(k)
    if exclude is None:
        return
    if exclude.shape != queries.shape[:1] or exclude.dtype != torch.int64:
        raise InputError(
            f"exclude must hold one int64 for each of the {len(queries)} queries, "
            f"got {exclude.dtype} of shape {tuple(exclude.shape)}"
        )
    if len(exclude) and not -1 <= int(exclude.min()) <= int(exclude.max()) < len(gallery):
        raise InputError(f"exclude must lie in -1 .. {len(gallery) - 1}, the gallery's indexes (-1 for none)")
