"""What is met while data is read, and a person should know."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from recallk.core.text import shown

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
    "broken name",
    "broken ground truth",
    "number out of range",
    "number in two lists",
    "broken box",
    "name of another folder",
    "unknown image",
    "class with one image",
    "Windows line ends",
    "other counts",
    "skipped files",
    "clipped box",
    "answer listed twice",
    "query without answer",
    "sampled vectors",
    "other vectors",
    "embedded before",
]
NOTES: frozenset[Kind] = frozenset(
    {
        "class with one image",
        "Windows line ends",
        "other counts",
        "skipped files",
        "clipped box",
        "answer listed twice",
        "query without answer",
        "sampled vectors",
        "other vectors",
        "embedded before",
    }
)
"""Kinds that are worth knowing, and no reason not to train."""

MOST_LISTED = 20
"""Findings of one kind that are listed one by one; one after them says how many more there were."""


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should know; `where` is the file, with its line where there is one."""

    kind: Kind
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Findings:
    """What one reading met, `listed` in that order; `met` counts all of it, by kind."""

    listed: list[Finding] = field(default_factory=list)
    met: Counter[Kind] = field(default_factory=Counter)
    _rest: dict[Kind, int] = field(default_factory=dict)  # where the finding that stands for the others is

    def add(self, kind: Kind, where: Path | str, message: str) -> None:
        """Note something of a file, or of a place in one; both may be in the words of those who wrote the data."""
        self.met[kind] += 1
        more = self.met[kind] - MOST_LISTED
        if more <= 1:  # one more takes no more room than a line that says so
            self._rest[kind] = len(self.listed)
            self.listed.append(Finding(kind, shown(where), shown(message)))
        else:
            rest = self.listed[self._rest[kind]]
            self.listed[self._rest[kind]] = Finding(kind, rest.where, f"from here on {more:,} more of this kind")

    @property
    def errors(self) -> list[Finding]:
        """What keeps a training from starting."""
        return [finding for finding in self.listed if finding.kind not in NOTES]

    @property
    def error_count(self) -> int:
        """How many errors there are, those that are not listed among them."""
        return sum(count for kind, count in self.met.items() if kind not in NOTES)

    @property
    def notes(self) -> list[Finding]:
        """The others."""
        return [finding for finding in self.listed if finding.kind in NOTES]
