"""What is searched for in a catalogue: ids, files and what is in memory become embeddings."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import shown
from recallk.data.kind import VECTOR_FILES
from recallk.data.opening import check_files
from recallk.data.texts import Text
from recallk.data.vector_files import read_any_vectors
from recallk.data.vectors import VectorRows
from recallk.models.embedder import Embedder
from recallk.models.vector_embedder import ROWS

Load = Callable[[], Embedder]
"""Gives the model, on its device: it is loaded where something has to be embedded."""


@dataclass(frozen=True)
class Asked:
    """Embeddings of queries, what they are called, their files, and in which rows they stand themselves (-1: none)."""

    embeddings: Tensor
    names: Sequence[str]
    images: Sequence[Path | bytes | None]
    rows: Sequence[int]


class Holder(Protocol):
    """Whatever holds items that may be queries themselves."""

    @property
    def place(self) -> str:
        """Where it is."""

    @property
    def noun(self) -> str:
        """What its items are."""

    def item(self, name: str) -> tuple[NDArray[Any], Path | bytes | None, int] | None:
        """Return of the item of an id its vector `(D,)`, its image, and its row; None where there is none."""

    def row_of_file(self, path: Path) -> int:
        """Return in which row an image file stands itself, or -1."""


def asked(holder: Holder, load: Load, queries: Any) -> Asked:
    """Return queries of whatever kind as embeddings. Raises InputError for none, and for one that is unknown."""
    if isinstance(queries, str | os.PathLike):
        raise InputError("queries: a list is needed; write [query] for a single one")
    found = _listed(holder, load, queries) if isinstance(queries, list | tuple) else _in_memory(load().embed(queries))
    if not len(found.embeddings):
        raise InputError("no query: give at least one")
    return found


def _in_memory(embeddings: Tensor) -> Asked:
    count = len(embeddings)
    return Asked(embeddings, [f"query {number + 1}" for number in range(count)], [None] * count, [-1] * count)


@dataclass
class _List:
    """Queries of a list, as they are looked at; what has to be embedded is so in one go, and None until then."""

    embeddings: list[Tensor | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    images: list[Path | bytes | None] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    embedded: list[Any] = field(default_factory=list)

    def add(self, embedding: Tensor | None, name: str, image: Path | bytes | None = None, row: int = -1) -> None:
        self.embeddings.append(embedding)
        self.names.append(name)
        self.images.append(image)
        self.rows.append(row)

    def add_to_embed(self, item: Any, name: str, image: Path | None = None, row: int = -1) -> None:
        self.embedded.append(item)
        self.add(None, name, image, row)


def mean_of(embeddings: Tensor) -> Tensor:
    """Return the mean of queries `(Q, D)`, of unit length, `(1, D)`. Raises InputError where it has no direction."""
    mean = embeddings.double().mean(0, keepdim=True)
    if not bool(mean.norm() > 0):
        raise InputError("together: the queries are opposites, whose mean has no direction; search for each")
    return torch.nn.functional.normalize(mean).float()


def _listed(holder: Holder, load: Load, queries: Sequence[Any]) -> Asked:
    found = _List()
    for number, given in enumerate(queries, 1):
        if isinstance(given, Text) or not isinstance(given, str | os.PathLike):
            found.add_to_embed(given, str(given) if isinstance(given, Text) else f"query {number}")
        elif (item := holder.item(query := os.fspath(given))) is not None:
            vector, image, row = item
            stored = torch.from_numpy(vector.astype(np.float32))[None]
            found.add(torch.nn.functional.normalize(stored), query, image, row)
        elif holder.noun == "images":
            path = user_path(query)
            if not path.exists():
                raise InputError(f"{shown(query)}: neither an id in {holder.place} nor a file")
            found.add_to_embed(path, path.name, path, holder.row_of_file(path))
        elif holder.noun == "texts":
            found.add_to_embed(query, query)
        else:
            path = user_path(query)
            if path.suffix.lower() not in VECTOR_FILES:
                kinds = "a .parquet, .npy or .safetensors file"
                raise InputError(f"{shown(query)}: neither an id in {holder.place} nor {kinds}")
            table, _ = read_any_vectors(path)
            of_file = load().embed(VectorRows(table, np.arange(len(table.array))), chunk_size=ROWS)
            for number, embedding in enumerate(of_file):
                found.add(embedding[None], table.name(number))
    if found.embedded:
        check_files([each for each in found.embedded if isinstance(each, Path)])
        made = iter(load().embed(found.embedded))
        found.embeddings = [next(made)[None] if each is None else each for each in found.embeddings]
    parts = [each for each in found.embeddings if each is not None] or [torch.empty(0)]
    return Asked(torch.cat(parts), found.names, found.images, found.rows)
