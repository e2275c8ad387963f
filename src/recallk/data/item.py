"""The item: what is embedded and searched. Every data set hands its items over in the same shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from recallk.data.vectors import Vector


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file inside of an uncompressed `.tar` archive: `size` bytes from `offset` on, read without unpacking."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}, {self.name}"


File = Path | ArchiveMember


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image, such as the box that a benchmark draws around what a query asks for.

    `box` is left, top, right, bottom, in pixels of the upright image.
    """

    image: File | NDArray[np.uint8]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that is drawn when it is read, `side` pixels wide and high.

    `name` tells it from the others of its data set, as "mdi:home"; `body` is what an SVG document holds; `box`
    (left, top, width, height) is the part of its plane that lies in the middle of the picture, as large as fits in.
    """

    name: str
    body: str = field(repr=False)
    box: tuple[float, float, float, float]
    side: int

    def __str__(self) -> str:
        return self.name


Depicted = File | NDArray[np.uint8] | Region | Drawing
"""What is read as an image: a file, alone or in an archive; pixels `(H, W)` grey or `(H, W, 3)` RGB, uint8; a part of
either; or a drawing."""

Item = Depicted | NDArray[Any] | Vector | str
"""An image; a vector, alone `(D,)` or as a row of a table; or a text.

The embedder takes images, vectors or texts: one of the three."""


def file_of(item: Item) -> File | None:
    """Return the file that an item is read from; None where it is in memory."""
    source = item.image if isinstance(item, Region) else item
    return source if isinstance(source, File) else None


Role = Literal["query", "gallery"]
"""What an item does in a search where not all search each other: it searches, or is found."""


class Record:
    """One item of a data set, with its label.

    `split` is "train", "validation", "test" or what a benchmark calls its test sets, and None where nothing is split
    yet. `role` says what a person's own item does where it is measured; None where all search each other.

    Of a file, `file` is the path as text, and its `Path` is made when asked for: a million of them take half a gigabyte
    and five seconds. Of any other item, `file` is None.
    """

    __slots__ = ("_item", "file", "label", "role", "split")

    def __init__(self, item: Item, label: str, split: str | None = None, role: Role | None = None) -> None:
        self._item: Item | None = None if isinstance(item, Path) else item
        self.file: str | None = str(item) if isinstance(item, Path) else None
        self.label, self.split, self.role = label, split, role

    @classmethod
    def of_file(cls, file: str, label: str, split: str | None = None) -> "Record":
        """Return the record of a file, whose path is written as `Path` writes it."""
        record = cls.__new__(cls)
        record._item, record.file, record.label, record.split, record.role = None, file, label, split, None
        return record

    def in_split(self, split: str | None) -> "Record":
        """Return the same item in another split, or in none."""
        record = Record.__new__(Record)
        record._item, record.file, record.label, record.role = self._item, self.file, self.label, self.role
        record.split = split
        return record

    @property
    def item(self) -> Item:
        """The item itself."""
        return self._item if self.file is None else Path(self.file)  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (self.item, self.label, self.split, self.role) == (other.item, other.label, other.split, other.role)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        role = f", {self.role!r}" if self.role else ""
        return f"Record({self.item!r}, {self.label!r}, {self.split!r}{role})"


class Files(Sequence[Path]):
    """Files by their paths as text; each `Path` is made when asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> "Files": ...
    def __getitem__(self, place: int | slice) -> "Path | Files":
        chosen = self.names[place]
        return Path(chosen) if isinstance(chosen, str) else Files(chosen)
