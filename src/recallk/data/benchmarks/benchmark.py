"""What every benchmark of the field says of itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recallk.data.findings import Findings
from recallk.data.item import Record


@dataclass(frozen=True)
class Count:
    """Images and classes of a split as published; `confirmed` where the data set's own documentation says so.

    Queries and galleries whose truth is given for each query have no classes.
    """

    images: int
    classes: int | None
    confirmed: bool = True


@dataclass(frozen=True)
class TestSet:
    """Who searches what: every image of the split `queries` searches `gallery`, or, without one, all the others.

    `name` tells the test sets of one benchmark apart; "" where there is only one.
    """

    __test__ = False

    name: str
    queries: str
    gallery: str | None = None


ALL_AGAINST_ALL = (TestSet("", "test"),)


@dataclass(frozen=True)
class Origin:
    """Whose some of the images are, under which licence, and how many of them."""

    title: str
    author: str
    licence: str
    images: int


@dataclass(frozen=True)
class Benchmark:
    """One data set of the field.

    `read(root, findings)` returns the records of the official archives below `root`, as they unpack; an image that is
    in several splits (VehicleID's test sets) has a record for each. It never raises for what is wrong with the data:
    it reports that, and returns what could be read. Where there are no `tests`, the data set is for training alone: its
    records have no split, and a run splits them by their classes' names. Of images by many authors, `origins(root,
    records)` tells whose the records' are.
    """

    name: str
    title: str
    what: str
    size: str
    home: str
    terms: str
    counts: dict[str, Count]
    read: Callable[[Path, Findings], list[Record]]
    tests: Sequence[TestSet] = ALL_AGAINST_ALL
    origins: Callable[[Path, Sequence[Record]], list[Origin]] | None = None
