"""A catalogue that was pushed into a collection of Qdrant, searched there: with its model here, as a catalogue is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recallk.catalogue.found import Found, Hit
from recallk.catalogue.manifest import MODEL, is_catalogue
from recallk.catalogue.qdrant import Collection
from recallk.catalogue.qdrant_filter import filter_of
from recallk.catalogue.queries import asked, mean_of
from recallk.core.arrays import ArrayLike
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import brief
from recallk.models.checksum import checksum
from recallk.models.embedder import Embedder
from recallk.models.saved import load
from recallk.retrieval.exact import check_k


class Remote:
    """A collection, as `recallk index push` has filled it; what is found comes from there, with its columns."""

    has_approximate = True

    def __init__(self, collection: Collection, model: Embedder | str | os.PathLike[str] | None) -> None:
        """Take an open collection, and its model: an embedder, a run, or a catalogue; without one queries are ids.

        Raises InputError where there is no such collection, and for another model than its vectors are of.
        """
        self._collection = collection
        if (meaning := collection.meaning()) is None:
            raise InputError(f"{collection.url}: no such collection; fill it: recallk index push CATALOGUE --to URL")
        self._meaning, self._embedder = meaning, None
        if model is not None:
            self._embedder = model if isinstance(model, Embedder) else load(_folder(user_path(model)))
            if checksum(self._embedder) != meaning.embedder:
                raise InputError(f"{collection.url}: its vectors are of another model than that of {model}")

    @property
    def place(self) -> str:
        """Where it is."""
        return self._collection.url

    @property
    def name(self) -> str:
        """The collection's."""
        return self._collection.name

    @property
    def noun(self) -> str:
        """What its items are: "images", "vectors" or "texts"."""
        return self._meaning.items

    @property
    def columns(self) -> tuple[str, ...]:
        """What is known of the items, by name."""
        return self._meaning.columns

    @property
    def embedder(self) -> Embedder:
        """The model that embeds. Raises InputError where none was given."""
        if self._embedder is None:
            raise InputError(f"{self.place}: its model is needed to embed a query; give it with --model RUN")
        return self._embedder.to(available_device())

    def __len__(self) -> int:
        return self._collection.count()

    def refreshed(self) -> "Remote":
        """Return the collection as it is by now. Raises InputError where it is of another model meanwhile, or gone."""
        return self if self._collection.meaning() == self._meaning else Remote(self._collection, self._embedder)

    def hit(self, name: str, similarity: float = 1.0) -> Hit:
        """Return an item by its id. Raises InputError where there is none."""
        if name not in (found := self._collection.items([name])):
            raise InputError(f"{self.place}: no item {brief(name)} in it")
        return _hit(name, found[name][1], similarity)

    def search(
        self,
        queries: Sequence[Any] | ArrayLike,
        k: int = 8,
        *,
        where: str | None = None,
        together: bool = False,
        approximate: bool = False,
    ) -> Found:
        """Find the `k` items that are most like each of the queries, as `Index.search` does.

        The server searches exactly, unless `approximate`: then as it does by itself. Conditions are those that Qdrant
        has (`catalogue.qdrant_filter`). Raises InputError, one line.
        """
        check_k(k)
        given = asked(self, lambda: self.embedder, queries)
        embeddings, names, images = given.embeddings, given.names, given.images
        exclude = [[name] if row >= 0 else [] for name, row in zip(names, given.rows, strict=True)]  # an id is its name
        if together:
            embeddings, exclude = mean_of(embeddings), [[name for each in exclude for name in each]]
            names, images = [" + ".join(names)], [images[0]]
        condition = None if where is None else filter_of(where, self.columns)
        files = [[Path(image).resolve()] if isinstance(image, Path) else [] for image in given.images]
        if together:
            files = [[file for each in files for file in each]]
        found = self._collection.nearest(
            embeddings.tolist(), k + max(map(len, files)), exact=not approximate, condition=condition, exclude=exclude
        )
        found = [  # nor by its file is an item its own result
            [each for each in row if not own or _image(each.known) not in own][:k]
            for row, own in zip(found, files, strict=True)
        ]
        depth = min(map(len, found))
        similarities = torch.tensor([[each.similarity for each in row[:depth]] for row in found])
        hits = [[_hit(each.id, each.known, each.similarity) for each in row[:depth]] for row in found]
        return Found(hits, similarities.reshape(len(found), depth), names, images)

    def item(self, name: str) -> tuple[NDArray[Any], Path | bytes | None, int] | None:
        """Return of an item by its id the vector `(D,)`, image, and a number from 0; None where there is none."""
        if name not in (found := self._collection.items([name])):
            return None
        vector, known = found[name]
        return np.array(vector, np.float32), _hit(name, known, 1.0).image, 0

    def row_of_file(self, path: Path) -> int:  # noqa: ARG002
        """Return -1: of what it holds the files are elsewhere."""
        return -1


def _folder(path: Path) -> Path:
    return path / MODEL if is_catalogue(path) else path


def _image(known: Any) -> Path | None:
    """Return the file of an item's image, where it is here."""
    try:
        path = Path(known["image"]).resolve()
        return path if path.is_file() else None
    except (KeyError, OSError, ValueError):
        return None


def _hit(name: str, known: Any, similarity: float) -> Hit:
    return Hit(name, similarity, known, _image(known))
