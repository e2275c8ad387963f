"""What a search in a catalogue gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import compute
from torch import Tensor

from recallk.catalogue.source import ID
from recallk.catalogue.state import State


@dataclass(frozen=True)
class Hit:
    """An item that was found: its id, how similar it is (a cosine), what is known of it, and its image, if it has one.

    `known` has the columns that say something of it, `id` and `image` (as it is written) among them. The image is a
    file, or, of a drawing, a PNG.
    """

    id: str
    similarity: float
    known: Mapping[str, Any]
    image: Path | bytes | None


@dataclass(frozen=True)
class Found:
    """What was found for each query, best first; `similarities (Q, k)` float32.

    `queries` are what the queries are called, and `images` their files, where there are any.
    """

    hits: Sequence[Sequence[Hit]]
    similarities: Tensor
    queries: Sequence[str]
    images: Sequence[Path | bytes | None]

    @property
    def ids(self) -> list[list[str]]:
        """The ids alone."""
        return [[hit.id for hit in row] for row in self.hits]


def hit_of(state: State, row: int, similarity: float = 1.0) -> Hit:
    """Return the item of a row."""
    part, number = state.place(row)
    cells = part.items.slice(number, 1).to_pylist()[0]
    known = {name: value for name, value in cells.items() if value is not None}
    image = part.picture(number) if "image" not in known else state.folder / known["image"]
    return Hit(known[ID], similarity, known, image)


def row_of_file(state: State, path: Path) -> int:
    """Return in which row an image file stands itself, or -1."""
    if "image" not in state.items.column_names:
        return -1
    images = state.items["image"]
    names = {path.name, path.resolve().name}  # of a link, its own and the file's
    alike = [compute.ends_with(images, name).fill_null(False).to_numpy(zero_copy_only=False) for name in names]
    for row in np.flatnonzero(state.alive & np.logical_or.reduce(alike)).tolist():
        image = hit_of(state, row).image
        if isinstance(image, Path) and image.resolve() == path.resolve():
            return int(row)
    return -1


def plain(cell: Any) -> str | int | float | bool | None:
    """Return a cell as JSON has it."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)
