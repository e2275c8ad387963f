"""The item: what is embedded and searched. Every data set hands its items over in the same shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image, such as the box that a benchmark draws around what a query asks for.

    `box` is left, top, right, bottom, in pixels of the upright image.
    """

    image: Path | NDArray[np.uint8]
    box: tuple[float, float, float, float]


Item = Path | NDArray[Any] | Region | str
"""A file; pixels `(H, W)` grey or `(H, W, 3)` RGB, uint8; a part of either; a vector `(D,)`; or a text.

The embedder takes images, vectors or texts: one of the three."""


@dataclass(frozen=True, slots=True)
class Record:
    """One item of a data set, with its label.

    `split` is "train", "test" or what a benchmark calls its test sets, and None where nothing is split yet.
    """

    item: Item
    label: str
    split: str | None = None


@dataclass(frozen=True)
class LabelledItems:
    """Items with their classes as numbers: `labels (N,)` int64, into `classes`."""

    records: Sequence[Record]
    classes: Sequence[str]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    @property
    def items(self) -> list[Item]:
        """The items alone."""
        return [record.item for record in self.records]

    @property
    def noun(self) -> str:
        """What the items are called: "images", "vectors" or "texts"; "items" where there are none."""
        if not self.records:
            return "items"
        first = self.records[0].item
        if isinstance(first, str):
            return "texts"
        return "vectors" if isinstance(first, np.ndarray) and first.ndim == 1 else "images"

    @property
    def counted(self) -> str:
        """Say in words how many there are, such as "1,200 images of 300 classes"."""
        return f"{len(self):,} {self.noun} of {len(self.classes):,} classes"


def labelled(records: Sequence[Record]) -> LabelledItems:
    """Return the records' items, with class numbers in the order of the class names.

    >>> labelled([Record("a cat", "cat"), Record("a dog", "dog"), Record("a black cat", "cat")]).labels
    array([0, 1, 0])

    """
    classes = sorted({record.label for record in records})
    number = {name: i for i, name in enumerate(classes)}
    return LabelledItems(records, classes, np.array([number[record.label] for record in records], dtype=np.int64))
