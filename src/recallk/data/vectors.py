"""Vectors that another model has made: all of them in one array, each item a row of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class VectorTable:
    """Vectors `(N, D)` float16 or float32, in memory or mapped from a file, and what is known of each.

    `ids`, `labels`, `images` (paths) and `texts` have a value for each row, or are None. `gallery` are the rows that
    are searched, where the table says which: all, if None. `made_by` is what their file
    says of the embedder that made them, where `recallk embed` has written it (`models.made_by`).
    """

    path: Path
    array: NDArray[Any] = field(repr=False)
    ids: Sequence[str] | None = None
    labels: Sequence[str | None] | None = None
    images: Sequence[str | None] | None = None
    texts: Sequence[str | None] | None = None
    gallery: NDArray[np.int64] | None = None
    made_by: Mapping[str, Any] | None = None

    def name(self, row: int) -> str:
        """Return what a row is called: its id, or its number, counted from 1."""
        return f"row {row + 1}" if self.ids is None else self.ids[row]


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """One row of a table, as an item."""

    table: VectorTable
    row: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self.table is other.table and self.row == other.row

    def __hash__(self) -> int:
        return hash((id(self.table), self.row))

    def __str__(self) -> str:
        return f"{self.table.path}, {self.table.name(self.row)}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.table.array[self.row], dtype=dtype)

    @property
    def id(self) -> str | int:
        """Its id; where the table has none, its row, counted from 0."""
        return self.row if self.table.ids is None else self.table.ids[self.row]

    @property
    def name(self) -> str:
        """What a person calls it: its id, or its row, counted from 1."""
        return self.table.name(self.row)

    @property
    def label(self) -> str:
        """Its class; nothing where the table does not say."""
        return (self.table.labels[self.row] or "") if self.table.labels is not None else ""

    @property
    def shown(self) -> Path | str | None:
        """What a person sees of it: the image or the text that it is of, where the table says that."""
        images, texts = self.table.images, self.table.texts
        if images is not None and (image := images[self.row]):
            return Path(image)
        return None if texts is None else texts[self.row]


class VectorRows(Sequence[Vector]):
    """Some rows of a table; each `Vector` is made when asked for."""

    def __init__(self, table: VectorTable, rows: NDArray[np.int64]) -> None:
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Vector]:
        return (Vector(self.table, row) for row in self.rows.tolist())

    @overload
    def __getitem__(self, place: int) -> Vector: ...
    @overload
    def __getitem__(self, place: slice) -> "VectorRows": ...
    def __getitem__(self, place: int | slice) -> "Vector | VectorRows":
        if isinstance(place, slice):
            return VectorRows(self.table, self.rows[place])
        return Vector(self.table, int(self.rows[place]))


def rows_of_one_table(items: Iterable[Any]) -> VectorRows | None:
    """Return items that are all rows of one table as `VectorRows`; None where they are not."""
    listed = items if isinstance(items, Sequence) else list(items)
    if isinstance(listed, VectorRows):
        return listed
    if not listed or not isinstance(listed[0], Vector):
        return None
    table = listed[0].table
    if any(not isinstance(item, Vector) or item.table is not table for item in listed):
        return None
    return VectorRows(table, np.fromiter((item.row for item in listed), np.int64, len(listed)))
