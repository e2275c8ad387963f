"""Is a data set on disk what its owners published? What a check found, and the sample of images that it opens."""

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recallk.core.cores import available_cores
from recallk.core.progress import Advance
from recallk.data.benchmarks.benchmark import Count
from recallk.data.findings import Finding, Findings
from recallk.data.images import fault_of
from recallk.data.item import Drawing, File

SAMPLE = 1_000
"""Images that are opened, unless all are asked for."""
_BLOCK = 256  # images between two reports of progress


@dataclass(frozen=True)
class SplitCount:
    """What was found of a split beside what is published; of queries and galleries, no classes."""

    split: str
    images: int
    classes: int | None
    published: Count

    @property
    def same(self) -> bool:
        """Both counts are as published."""
        return (self.images, self.classes) == (self.published.images, self.published.classes)

    @property
    def verdict(self) -> str:
        """In a word; where the figure is unconfirmed, that is said."""
        word = "ok" if self.same else "differs"
        return word if self.published.confirmed else f"{word}, unconfirmed figure"

    @property
    def difference(self) -> str:
        """What there is, and what is published, in a sentence."""
        said = "published" if self.published.confirmed else "said, but unconfirmed,"
        if self.classes is None:
            return f"{self.split}: {self.images:,} images; {said} are {self.published.images:,}"
        return (
            f"{self.split} has {self.images:,} images of {self.classes:,} classes; "
            f"{said} are {self.published.images:,} of {self.published.classes:,}"
        )


@dataclass(frozen=True)
class LicenceCount:
    """How many sets of images have a licence, and how many images are in them."""

    licence: str
    sets: int
    images: int


@dataclass(frozen=True)
class Check:
    """What a check found; `opened` of `files` images were opened, those that are drawn from SVG among them."""

    title: str  # of the data set
    findings: Findings
    counts: Sequence[SplitCount]
    files: int
    opened: int
    use: str  # what waits until errors are mended: "training" or "evaluation"
    licences: Sequence[LicenceCount] = ()  # where they differ within the data set

    @property
    def right(self) -> bool:
        """There is no error, and every confirmed count is as published."""
        return not self.findings.errors and all(row.same or not row.published.confirmed for row in self.counts)

    @property
    def verdict(self) -> str:
        """In a sentence; how many images were opened is part of it."""
        all_opened = self.opened == self.files
        opened = f"{self.opened:,} of {self.files:,} images opened" + ("" if all_opened else " (--all)")
        if errors := self.findings.error_count:
            noun = "error" if errors == 1 else "errors"
            return f"{errors:,} {noun}: {self.use} does not start until mended; {opened}"
        if not self.right:
            return f"no errors, but the counts are not the published ones; {opened}"
        if not all(row.same for row in self.counts):
            return f"nothing is wrong, though unconfirmed figures differ; {opened}"
        return f"all is right; {opened}"


def other_counts_in(title: str, counts: Iterable[SplitCount]) -> list[Finding]:
    """Return a note for each split whose counts are not the published ones."""
    return [Finding("other counts", title, row.difference) for row in counts if not row.same]


def open_sample(
    count: int, file: Callable[[int], File | Drawing | None], sample: int | None, findings: Findings, advance: Advance
) -> int:
    """Open a seeded sample of `count` images, or all (None), and report the broken ones; return how many it was.

    `file` tells the file of a number; None for pixels in memory.
    """
    everything = sample is None or sample >= count
    numbers = range(count) if everything else random.Random(0).sample(range(count), sample or 0)
    told = {finding.where for finding in findings.listed if finding.kind == "broken image"}
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(numbers), _BLOCK):
            block = [file(number) for number in numbers[start : start + _BLOCK]]
            for opened, wrong in zip(block, pool.map(_what_is_wrong, block), strict=True):
                if wrong is not None and str(opened) not in told:
                    told.add(str(opened))
                    findings.add("broken image", str(opened), wrong)
            advance("opening images", start + len(block), len(numbers))
    return len(numbers)


def _what_is_wrong(file: File | Drawing | None) -> str | None:
    if file is None or (isinstance(file, Path) and not file.exists()):
        return None  # that one is missing was told where it is listed
    return fault_of(file)
