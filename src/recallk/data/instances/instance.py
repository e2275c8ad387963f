"""What every instance-level test set says of itself, and what it holds: here the truth is given for each query."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recallk.data.findings import Findings
from recallk.data.item import Item


@dataclass(frozen=True)
class Revisited:
    """Revisited Oxford and Paris: a table for each query, of the gallery numbers that are "easy", "hard" and "junk"."""

    answers: Sequence[Mapping[str, Sequence[int]]]


@dataclass(frozen=True)
class Relevant:
    """Gallery numbers that answer each query, measured by mAP@k; `subsets` name the part that each query is in."""

    items: Sequence[Sequence[int]]
    k: int
    subsets: Sequence[str] = ()


@dataclass(frozen=True)
class Landmarks:
    """The landmark of each gallery item, `(G,)`, and those that each query shows (none: it has no answer); GAP."""

    gallery: NDArray[np.int64]
    queries: Sequence[Collection[int]]


@dataclass(frozen=True)
class Classes:
    """The class of each item, `(N,)`: every item asks for the others of its class; queries and gallery are the same."""

    labels: NDArray[np.int64]


Truth = Revisited | Relevant | Landmarks | Classes


@dataclass(frozen=True)
class InstanceSet:
    """Queries (a `Region` where the test set gives a box), what they search, and the truth."""

    queries: Sequence[Item]
    gallery: Sequence[Item]
    truth: Truth

    @property
    def counted(self) -> str:
        """Say in words how many there are, such as "70 queries, 4,993 images"."""
        return f"{len(self.queries):,} queries, {len(self.gallery):,} images"


@dataclass(frozen=True)
class InstanceBenchmark:
    """A test set of the field.

    `read(root, findings)` returns what lies below `root`, as the official archives unpack. It never raises for what is
    wrong with the data: it reports that, and returns what could be read, None where nothing could be. Beside errors,
    that is good for counting and for opening the images, and not for measuring.

    Without `needs_data` the test set is made here, and the root is of no account.
    """

    name: str
    title: str
    what: str
    size: str
    home: str
    terms: str
    queries: int  # as published
    gallery: int
    read: Callable[[Path, Findings], InstanceSet | None]
    needs_data: bool = True
