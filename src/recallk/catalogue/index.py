"""`recallk.Index`: a catalogue that is opened, searched and changed."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.catalogue import changes
from recallk.catalogue.approximate import OpenApproximate, build_approximate
from recallk.catalogue.changes import Changed, put_source
from recallk.catalogue.found import Found, Hit, hit_of, row_of_file
from recallk.catalogue.manifest import VectorDtype, read_manifest
from recallk.catalogue.push import Pushed, push
from recallk.catalogue.queries import asked, mean_of
from recallk.catalogue.source import Given
from recallk.catalogue.state import State, changing, creating, open_model, open_state
from recallk.catalogue.where import where as meeting
from recallk.core.arrays import ArrayLike
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import by_first
from recallk.core.progress import Advance, silent
from recallk.core.text import brief
from recallk.data.findings import Finding
from recallk.data.layout import USUAL, Layout
from recallk.models.embedder import Embedder
from recallk.models.saved import load
from recallk.retrieval.approximate import Kind, Measured
from recallk.retrieval.exact import check_k
from recallk.retrieval.scan import nearest_rows


class Index:
    """A catalogue, as it was when it was opened, or changed here; `refresh` shows what others have changed.

    >>> index = Index.build("runs/letters", "catalogue", folder="letters.index")
    >>> len(index), index.columns
    (2, ('id', 'image'))
    >>> found = index.search(["query.png"], k=1)
    >>> found.ids, found.similarities.shape
    ([['b.png']], torch.Size([1, 1]))

    """

    def __init__(self, state: State, embedder: Embedder | None = None, notes: Sequence[Finding] = ()) -> None:
        self._state, self._embedder = state, embedder
        self._approximate = None if state.manifest.approximate is None else OpenApproximate(state)
        self.notes = notes
        """What is worth knowing of the source that it was built from, just now."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Index":
        """Open a catalogue. Raises InputError, one line, where there is none, or a damaged one."""
        return cls(open_state(user_path(folder)))

    @classmethod
    def build(
        cls,
        model: Embedder | str | os.PathLike[str],
        source: Given,
        folder: str | os.PathLike[str],
        *,
        dtype: VectorDtype = "float16",
        layout: Layout = USUAL,
        workers: int | None = None,
        advance: Advance = silent,
    ) -> "Index":
        """Make a catalogue in a new `folder` from all items of a source, and open it.

        `model` is an embedder, or the folder of a run, which goes into the catalogue. `source` is a folder of images
        (with classes or without), a table of them, whose further columns are kept, a list of files, or a file of
        vectors, where the model is a head on such; a `layout` says what a table's columns are called. Where the source
        says which items are queries and which the gallery, the gallery is taken alone. `dtype` is what vectors are
        stored as; with "int8" they are searched in a quarter of the bytes, and the best compared again in float16.
        `workers` processes read images, by default one per core.

        Interrupted, and asked for again, it goes on from what it had embedded. Raises InputError, one line, for
        whatever cannot be read, and where the folder is there already.
        """
        place = user_path(folder)
        embedder = model if isinstance(model, Embedder) else load(model)
        changed = put_source(creating(place, embedder, dtype), embedder, source, place, layout, workers, advance)
        return cls(open_state(place), embedder, changed.notes)

    def add(
        self, source: Given, *, layout: Layout = USUAL, workers: int | None = None, advance: Advance = silent
    ) -> Changed:
        """Add all items of a source, as `build` takes it, to the catalogue; return what was done.

        Raises InputError as `build`, and where an id is there already; then nothing is added.
        """
        self.refresh()
        changed = put_source(changing(self.folder), self.embedder, source, self.folder, layout, workers, advance)
        self.refresh()
        return changed

    def update(
        self,
        source: Given,
        *,
        remove_missing: bool = False,
        layout: Layout = USUAL,
        workers: int | None = None,
        advance: Advance = silent,
    ) -> Changed:
        """Bring the catalogue to what a source says: new items are added, what has changed under its id is replaced.

        Items whose content is the same (by SHA-256) are not embedded again; where their columns are others, these are
        taken. With `remove_missing` what the source does not have is removed. Raises InputError as `build`.
        """
        self.refresh()
        into, how = changing(self.folder), {"replace": True, "remove_missing": remove_missing}
        changed = put_source(into, self.embedder, source, self.folder, layout, workers, advance, **how)
        self.refresh()
        return changed

    def remove(self, ids: Iterable[str]) -> Changed:
        """Remove items from the catalogue. Raises InputError for an id that is not there; then none is removed."""
        wanted = list(ids)
        changed = by_first(lambda: changes.remove(self.folder, wanted))
        self.refresh()
        return changed

    def approximate(
        self, kind: Kind = "hnsw", *, recall: float = 0.95, k: int = 10, advance: Advance = silent
    ) -> Measured:
        """Build an index of FAISS for approximate search, a graph ("hnsw") or lists ("ivf"), and measure it.

        It is searched as widely as it takes to find a share `recall` of the `k` nearest, by items that are held out
        while it is built; what it then finds is measured on others. It is kept in the catalogue until a change writes
        the rows that it knows anew. Raises InputError as `add`, and where there are fewer than 100 items.
        """
        measured = by_first(lambda: build_approximate(self.folder, kind, recall, k, advance))
        self.refresh()
        return measured

    def push(self, to: str, *, advance: Advance = silent) -> Pushed:
        """Send the items to `qdrant://HOST[:PORT]/COLLECTION`, or into `parquet:FILE` or `lance:FOLDER`.

        What a collection has already is not sent again, and searches there are compared with exact search here
        (`catalogue.push`). Raises InputError, one line.
        """
        return by_first(lambda: push(self.folder, to, advance))

    def refresh(self) -> None:
        """See what others have changed in the folder since it was opened."""
        now = self.refreshed()
        if now is not self:
            self._state, self._embedder, self._approximate = now._state, now._embedder, now._approximate

    def refreshed(self) -> "Index":
        """Return the catalogue as it is by now, and leave this one as it is; itself, where nothing has changed."""
        if read_manifest(self.folder) == self._state.manifest:
            return self
        state = open_state(self.folder)
        same = state.manifest.embedder == self._state.manifest.embedder  # else it was made anew, by another model
        return Index(state, self._embedder if same else None)

    @property
    def folder(self) -> Path:
        """Where the catalogue is."""
        return self._state.folder

    @property
    def place(self) -> str:
        """Where it is, as a text."""
        return str(self.folder)

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.resolve().name

    @property
    def embedder(self) -> Embedder:
        """The model that embeds, with its preprocessing."""
        if self._embedder is None:
            self._embedder = open_model(self._state)
        return self._embedder

    @property
    def noun(self) -> str:
        """What its items are: "images", "vectors" or "texts"."""
        return self._state.manifest.items

    @property
    def columns(self) -> tuple[str, ...]:
        """What is known of the items, by name."""
        return tuple(self._state.items.column_names)

    @property
    def has_approximate(self) -> bool:
        """Whether there is an index for approximate search of what it holds."""
        return self._state.manifest.approximate is not None

    def __len__(self) -> int:
        return len(self._state)

    def __contains__(self, name: object) -> bool:
        return name in self._state.row_of

    def item(self, name: str) -> tuple[NDArray[Any], Path | bytes | None, int] | None:
        """Return of an item by its id the vector `(D,)` as it is stored, image, and row; None where there is none."""
        if (row := self._state.row_of.get(name)) is None:
            return None
        return self._state.vector(row), self.hit_of_row(row).image, row

    def row_of_file(self, path: Path) -> int:
        """Return in which row an image file stands itself, or -1."""
        return row_of_file(self._state, path)

    def hit(self, name: str, similarity: float = 1.0) -> Hit:
        """Return an item by its id. Raises InputError where there is none."""
        if (row := self._state.row_of.get(name)) is None:
            raise InputError(f"{self.folder}: no item {brief(name)} in it")
        return self.hit_of_row(row, similarity)

    def search(
        self,
        queries: Sequence[Any] | ArrayLike,
        k: int = 8,
        *,
        where: str | None = None,
        together: bool = False,
        approximate: bool = False,
    ) -> Found:
        """Find the `k` items that are most like each of the queries.

        A query is an id in the catalogue, or what the model embeds: an image's file, or its pixels; of vectors, a file
        of them, each row a query, or an array `(Q, D)`. `together` makes one query of all: their mean. An item is not
        its own result, neither by its id nor by its file.

        `where` is a condition on the columns (`catalogue.where`), such as "colour = 'red' and price < 20". Where fewer
        than `k` items meet it, each query gets as many as there are.

        The search is exact, in float64 of the numbers as they are stored; in a catalogue of int8 almost
        (`retrieval.scan`). With `approximate` it is by the index that `Index.approximate` has built; what has been
        added since is searched exactly, and so is everything where there is a condition.

        Raises InputError, one line, for queries and conditions that make no sense.
        """
        check_k(k)
        if not len(self):
            raise InputError(f"{self.folder}: the catalogue is empty: add something to it")
        given = asked(self, lambda: self.embedder.to(available_device()), queries)
        embeddings, names, images = given.embeddings, given.names, given.images
        alive = self._state.alive
        allowed = alive if where is None else alive & meeting(self._state.items, where)
        exclude: Sequence[int] | None = given.rows
        if together:
            embeddings = mean_of(embeddings)
            names, images = [" + ".join(names)], [images[0]]
            allowed = allowed.copy()
            allowed[[row for row in given.rows if row >= 0]] = False
            exclude = None
        if approximate and (by := self._approximate or OpenApproximate(self._state)) and where is None and not together:
            found = by.nearest(self._state, embeddings, k, exclude)
        else:
            usual = None if allowed.all() else allowed
            found = nearest_rows(embeddings, self._state.searched(), k, allowed=usual, exclude=exclude)
        pairs = zip(found.indexes.tolist(), found.similarities.tolist(), strict=True)
        hits = [[self.hit_of_row(row, s) for row, s in zip(*pair, strict=True)] for pair in pairs]
        return Found(hits, found.similarities, names, images)

    def vectors(self) -> tuple[NDArray[np.int64], Tensor]:
        """Return the rows that are there, and their vectors `(N, D)` float32, in memory."""
        rows = np.flatnonzero(self._state.alive)
        return rows, torch.from_numpy(self._state.vectors().astype(np.float32))

    def hit_of_row(self, row: int, similarity: float = 1.0) -> Hit:
        """Return the item of a row."""
        return hit_of(self._state, row, similarity)
