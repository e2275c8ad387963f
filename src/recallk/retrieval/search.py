"""The items of a gallery that are most like some others, by a trained model."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recallk.core import processes
from recallk.core.arrays import ArrayLike
from recallk.core.cores import own_cores
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.progress import Advance, counting, silent
from recallk.data.findings import Finding
from recallk.data.kind import kind_of
from recallk.data.opening import check_files
from recallk.data.source import read_gallery
from recallk.data.texts import Text
from recallk.data.vectors import Vector
from recallk.models.embedder import Embedder
from recallk.models.made_by import notes_of_others
from recallk.models.saved import load
from recallk.models.scales import ONE_SCALE, checked_scales
from recallk.models.together import embed_together
from recallk.models.vector_embedder import ROWS, VectorEmbedder
from recallk.retrieval.exact import Neighbours, nearest
from recallk.retrieval.searched import Searched
from recallk.retrieval.texts import searched_texts
from recallk.retrieval.vectors import searched_vectors


@dataclass(frozen=True)
class Results:
    """What was found for each query, best first.

    `items` are those of the gallery, a list for each query: files, vectors as rows of a table, or texts.
    `similarities (Q, k)` float32 are cosines. `gallery` is the folder, or the file of vectors or texts. `notes` say
    what is worth knowing of it, such as what was passed over.
    """

    items: Sequence[Sequence[Path | Vector | Text]]
    similarities: Tensor
    queries: Sequence[Path | Vector | Text]
    gallery: Path
    notes: Sequence[Finding] = ()

    @property
    def ids(self) -> list[list[Any]]:
        """What was found by name: of images their files, of vectors their ids, or their rows, counted from 0; texts."""
        return [[item.id if isinstance(item, Vector) else item for item in row] for row in self.items]


def search(
    model: Embedder | str | os.PathLike[str],
    queries: Sequence[str | os.PathLike[str]] | ArrayLike,
    gallery: str | os.PathLike[str] | ArrayLike,
    k: int = 8,
    *,
    scales: Sequence[float] = ONE_SCALE,
    workers: int | None = None,
    advance: Advance = silent,
) -> Results:
    """Find the `k` items of the gallery that are most like each of the queries.

    `model` is an embedder, or the folder of a run. Of images, `queries` are files, and `gallery` is a folder, with all
    below it. Of vectors, `gallery` is a file of them, or an array `(N, D)`; `queries` are an array `(Q, D)`, or a list
    of files of vectors, each row a query, and of ids in the gallery (row numbers, counted from 1, where it has none).
    Of texts, `queries` are texts, and tables of them, each row a query; `gallery` is a table, or a list.

    A query that is in the gallery itself is not its own result. Of images that is told by their paths. Of vectors it
    holds for ids and row numbers, for the gallery's own file, and where `queries` is the same array object as
    `gallery`; rows of another array, a slice too, find themselves in the gallery.

    Where the gallery has fewer than `k` for one of the queries, each gets as many as that one. Images are embedded at
    each of the `scales`, as `Embedder.embed` does. `workers` processes read the gallery (0: this one), by default one
    per core. In processes that torchrun or srun has started, each embeds a share of the items, the first one searches,
    and all return the same. Raises InputError, one line, for whatever cannot be read, and where the run has no model.

    >>> found = search("runs/letters", ["query.png"], "catalogue", k=2)
    >>> [file.name for file in found.ids[0]]
    ['b.png', 'a.png']
    >>> found.similarities.shape
    torch.Size([1, 2])

    """
    at_scales = checked_scales(scales)
    device = next(model.parameters()).device if isinstance(model, Embedder) else available_device()
    with joined(device.type):
        with processes.failing_together():
            embedder = model if isinstance(model, Embedder) else load(model).to(device)
            of_vectors = isinstance(embedder, VectorEmbedder)
            read = searched_vectors if of_vectors else searched_texts if embedder.noun == "texts" else _images
            asked = read(queries, gallery)
        told = counting(advance, "embedding the gallery", len(asked.items))
        readers = 0 if embedder.noun != "images" else own_cores() if workers is None else workers
        how: dict[str, Any] = {"scales": at_scales} | ({"chunk_size": ROWS} if of_vectors else {})
        embeddings = embed_together(embedder, asked.items, workers=readers, advance=told, **how)
        of_queries = embed_together(embedder, asked.queries, **how)

        def found() -> Neighbours:
            itself = torch.tensor(asked.rows)
            inside = bool((itself >= 0).any())  # else none of the gallery is left out
            return nearest(of_queries, embeddings, k, exclude=itself if inside else None)

        neighbours = processes.from_first(found)  # numbers alone are sent: an item may hold a whole table
    items = [[asked.items[i] for i in row] for row in neighbours.indexes.tolist()]
    notes = [*asked.notes, *notes_of_others(embedder, asked.items)]
    return Results(items, neighbours.similarities, asked.queries, asked.gallery, notes)


def _images(queries: Any, gallery: Any) -> Searched:
    """Return files to look for, and those of a folder. Raises InputError for anything else."""
    if isinstance(queries, str | os.PathLike) or not isinstance(queries, Iterable):
        raise InputError("queries: a list of files is needed; write [file] for a single one")
    asked = [user_path(query) for query in queries]
    if not asked:
        raise InputError("no query: give at least one file to look for")
    for path in (user_path(gallery), *asked):
        if (kind := kind_of(str(path))) != "images":
            raise InputError(f"{path}: {kind}, and the run is on images: give images")
    check_files(asked)
    items, notes = read_gallery(gallery)
    place = {path.resolve(): number for number, path in enumerate(items)}
    return Searched(asked, items, [place.get(query.resolve(), -1) for query in asked], user_path(gallery), notes)
