"""What every benchmark of the field says of itself, and what its reader reports while it reads."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from recallk.core.text import shown
from recallk.data.item import Record

Kind = Literal[
    "wrong root folder",
    "missing file",
    "truncated line",
    "label is no number",
    "duplicate path",
    "image in two splits",
    "class in two splits",
    "missing image",
    "broken image",
    "class with one image",
    "Windows line ends",
    "other counts",
    "skipped files",
]
NOTES: frozenset[Kind] = frozenset({"class with one image", "Windows line ends", "other counts", "skipped files"})
"""Kinds that are worth knowing, and no reason not to train."""

KEPT = 20
"""Problems of one kind that are kept one by one; one after them says how many more there were."""


@dataclass(frozen=True)
class Problem:
    """Something about the data that a person should know; `where` is the file, with its line where there is one."""

    kind: Kind
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Findings:
    """The problems of one reading, in the order in which they were met; `met` counts them all, by kind."""

    problems: list[Problem] = field(default_factory=list)
    met: Counter[Kind] = field(default_factory=Counter)
    _rest: dict[Kind, int] = field(default_factory=dict)  # where the problem that stands for the others is

    def add(self, kind: Kind, where: Path | str, message: str) -> None:
        """Note a problem of a file, or of a place in one; both may be in the words of those who wrote the data."""
        self.met[kind] += 1
        more = self.met[kind] - KEPT
        if more <= 1:  # one more takes no more room than a line that says so
            self._rest[kind] = len(self.problems)
            self.problems.append(Problem(kind, shown(where), shown(message)))
        else:
            rest = self.problems[self._rest[kind]]
            self.problems[self._rest[kind]] = Problem(kind, rest.where, f"from here on {more:,} more of this kind")

    @property
    def errors(self) -> list[Problem]:
        """The problems that keep a training from starting."""
        return [problem for problem in self.problems if problem.kind not in NOTES]

    @property
    def error_count(self) -> int:
        """How many errors there are, those that were not kept among them."""
        return sum(count for kind, count in self.met.items() if kind not in NOTES)

    @property
    def notes(self) -> list[Problem]:
        """The others."""
        return [problem for problem in self.problems if problem.kind in NOTES]


@dataclass(frozen=True)
class Count:
    """Images and classes of a split as published; `confirmed` where the data set's own documentation says so."""

    images: int
    classes: int
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
class Benchmark:
    """One data set of the field.

    `read(root, findings)` returns the records of the official archives below `root`, as they unpack; an image that is
    in several splits (VehicleID's test sets) has a record for each. It never raises for what is wrong with the data:
    it reports that, and returns what could be read.
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
