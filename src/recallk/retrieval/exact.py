"""Exact nearest neighbours by inner product, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral

import torch

# torch comes first: each brings its own OpenMP, and this is the order that is tested
import faiss  # isort: skip
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.precision import full_precision
from recallk.core.text import brief

SCORES_AT_ONCE = 2**26
"""Similarities held at one time when a whole gallery is scored: 256 MB of float32."""

_NEIGHBOURS_AT_ONCE = 2**22


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

    On the CPU FAISS searches (the computation of its IndexFlatIP, without the copy of the gallery that an index
    makes); on any other device, blocks of matrix products and `topk`. Beside the result, memory is bounded
    whatever `Q` is.

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

    """
    _check(queries, gallery, k, exclude)
    depth = min(k if exclude is None else k + 1, len(gallery))
    kept = depth if exclude is None else depth - 1
    gallery = gallery.detach().to(queries.device)
    similarities = torch.empty(len(queries), kept)
    indexes = torch.empty(len(queries), kept, dtype=torch.int64)
    for rows in blocks(len(queries), max(1, _NEIGHBOURS_AT_ONCE // depth)):
        found = _search(queries[rows].detach(), gallery, depth)
        if exclude is not None:
            found = _without(found, exclude[rows].cpu())
        similarities[rows], indexes[rows] = found.similarities, found.indexes
    return Neighbours(similarities, indexes)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Cut the rows 0 .. total-1 into consecutive slices of at most `size` rows."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def inner_products(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return the `(Q, G)` inner products of `(Q, D)` and `(G, D)` float32 rows, in full float32 on every device.

    The caller keeps `Q * G` within `SCORES_AT_ONCE`.
    """
    with full_precision(queries.device):  # else close neighbours change places
        return queries @ gallery.T


def _search(queries: Tensor, gallery: Tensor, depth: int) -> Neighbours:
    """Return the first `depth` of each query, equal similarities by index, for a `depth` that the gallery has."""
    search = _search_by_faiss if queries.device.type == "cpu" else _search_by_products
    # one place further shows whether the last one falls between equal similarities
    found = search(queries, gallery, min(depth + 1, len(gallery)))
    # FAISS answers NaN with the index -1, topk with NaN
    if (found.indexes < 0).any() or found.similarities.isnan().any():
        raise InputError("queries or gallery hold NaN or infinite values: search needs finite embeddings")
    found = _in_order(found)
    similarities, indexes = found.similarities[:, :depth], found.indexes[:, :depth]
    if depth < len(gallery):
        cut = found.similarities[:, depth - 1] == found.similarities[:, depth]
        if cut.any():
            again = _search_by_index(queries[cut.to(queries.device)], gallery, depth)
            similarities[cut], indexes[cut] = again.similarities, again.indexes
    return Neighbours(similarities, indexes)


def _search_by_faiss(queries: Tensor, gallery: Tensor, depth: int) -> Neighbours:
    found = faiss.knn(queries.numpy(), gallery.numpy(), depth, metric=faiss.METRIC_INNER_PRODUCT)
    return Neighbours(torch.from_numpy(found[0]), torch.from_numpy(found[1]))


def _search_by_products(queries: Tensor, gallery: Tensor, depth: int) -> Neighbours:
    similarities, indexes = [], []
    for rows in blocks(len(queries), max(1, SCORES_AT_ONCE // len(gallery))):
        best = inner_products(queries[rows], gallery).topk(depth, dim=1)
        similarities.append(best.values.cpu())
        indexes.append(best.indices.cpu())
    return Neighbours(torch.cat(similarities), torch.cat(indexes))


def _search_by_index(queries: Tensor, gallery: Tensor, depth: int) -> Neighbours:
    """Search where the last place falls between equal similarities: those of the lowest indexes are taken."""
    similarities, indexes = [], []
    for rows in blocks(len(queries), max(1, SCORES_AT_ONCE // (4 * len(gallery)))):
        scores = inner_products(queries[rows], gallery)
        last = scores.topk(depth, dim=1).values[:, -1:]
        above, equal = scores > last, scores == last
        room = depth - above.sum(dim=1, keepdim=True)
        taken = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))
        by_index = taken.nonzero()[:, 1].view(len(scores), depth)
        best, order = scores.gather(1, by_index).sort(dim=1, descending=True, stable=True)
        similarities.append(best.cpu())
        indexes.append(by_index.gather(1, order).cpu())
    return Neighbours(torch.cat(similarities), torch.cat(indexes))


def _in_order(found: Neighbours) -> Neighbours:
    """Put equal similarities in the order of their indexes; FAISS and `topk` leave them in any."""
    similarities, indexes = found.similarities, found.indexes
    tied = (similarities[:, 1:] == similarities[:, :-1]).any(dim=1)
    if not tied.any():
        return found
    by_index, order = indexes[tied].sort(dim=1)
    best, order = similarities[tied].gather(1, order).sort(dim=1, descending=True, stable=True)
    similarities[tied] = best
    indexes[tied] = by_index.gather(1, order)
    return found


def _without(found: Neighbours, exclude: Tensor) -> Neighbours:
    """Drop the excluded index from each row, or the last neighbour of a row that lacks it."""
    dropped = found.indexes == exclude[:, None]
    dropped[:, -1] |= ~dropped.any(dim=1)
    shape = (len(exclude), found.indexes.shape[1] - 1)
    return Neighbours(found.similarities[~dropped].view(shape), found.indexes[~dropped].view(shape))


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
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise InputError(f"k must be a whole number, got {brief(k)}")
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    if exclude is None:
        return
    if exclude.shape != queries.shape[:1] or exclude.dtype != torch.int64:
        raise InputError(
            f"exclude must hold one int64 for each of the {len(queries)} queries, "
            f"got {exclude.dtype} of shape {tuple(exclude.shape)}"
        )
    if len(exclude) and not -1 <= int(exclude.min()) <= int(exclude.max()) < len(gallery):
        raise InputError(f"exclude must lie in -1 .. {len(gallery) - 1}, the gallery's indexes (-1 for none)")
