"""The items of a folder that are most like some others, by a trained model."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recallk.core import processes
from recallk.core.cores import own_cores
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.progress import Advance, counting, silent
from recallk.data.findings import Finding
from recallk.data.source import check_files, read_gallery
from recallk.models.embedder import Embedder
from recallk.models.saved import load
from recallk.models.scales import ONE_SCALE, checked_scales
from recallk.models.together import embed_together
from recallk.retrieval.exact import nearest


@dataclass(frozen=True)
class Results:
    """What was found for each query, best first.

    For the files `queries`, below the folder `gallery`: `ids` are files of the gallery, a list for each query;
    `similarities (Q, k)` float32 are cosines. `notes` say what was passed over in the gallery.
    """

    ids: list[list[Path]]
    similarities: Tensor
    queries: Sequence[Path]
    gallery: Path
    notes: Sequence[Finding] = ()


def search(
    model: Embedder | str | os.PathLike[str],
    queries: Sequence[str | os.PathLike[str]],
    gallery: str | os.PathLike[str],
    k: int = 8,
    *,
    scales: Sequence[float] = ONE_SCALE,
    workers: int | None = None,
    advance: Advance = silent,
) -> Results:
    """Find the `k` items below the folder `gallery` that are most like each of the files `queries`.

    `model` is an embedder, or the folder of a run. A query that is in the gallery itself is not its own result.
    Where the gallery has fewer than `k` for one of the queries, each gets as many as that one. Images are
    embedded at each of the `scales`, as `Embedder.embed` does. `workers` processes read the gallery (0: this one), by
    default one per core. In processes that torchrun or srun has started, each embeds a share of the images, the first
    one searches, and all return the same. Raises InputError, one line, for whatever cannot be read, and where the run
    has no model.

    >>> found = search("runs/letters", ["query.png"], "catalogue", k=2)
    >>> [file.name for file in found.ids[0]]
    ['b.png', 'a.png']
    >>> found.similarities.shape
    torch.Size([1, 2])

    """
    at_scales = checked_scales(scales)
    if isinstance(queries, str | os.PathLike) or not isinstance(queries, Iterable):
        raise InputError("queries: a list of files is needed; write [file] for a single one")
    asked = [user_path(query) for query in queries]
    if not asked:
        raise InputError("no query: give at least one file to look for")
    device = next(model.parameters()).device if isinstance(model, Embedder) else available_device()
    with joined(device.type):
        with processes.failing_together():
            embedder = model if isinstance(model, Embedder) else load(model).to(device)
            check_files(asked)
            items, notes = read_gallery(gallery)
        told = counting(advance, "embedding the gallery", len(items))
        readers = own_cores() if workers is None else workers
        embeddings = embed_together(embedder, items, scales=at_scales, workers=readers, advance=told)
        of_queries = embed_together(embedder, asked, scales=at_scales)

        def found() -> Results:
            place = {path.resolve(): number for number, path in enumerate(items)}
            itself = torch.tensor([place.get(query.resolve(), -1) for query in asked])
            inside = bool((itself >= 0).any())  # else none of the gallery is left out
            neighbours = nearest(of_queries, embeddings, k, exclude=itself if inside else None)
            ids = [[items[i] for i in row] for row in neighbours.indexes.tolist()]
            return Results(ids, neighbours.similarities, asked, user_path(gallery), notes)

        return processes.from_first(found)
