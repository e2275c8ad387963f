"""Is a benchmark on disk what its owners published? Its lists, its counts, and a sample of its images."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recallk.core.cores import available_cores
from recallk.core.errors import InputError
from recallk.core.progress import Advance, silent
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Finding, Findings
from recallk.data.images import check_image
from recallk.data.item import Files, Record

SAMPLE = 1_000
"""Images that are opened, unless all are asked for."""
_BLOCK = 256  # images between two reports of progress


@dataclass(frozen=True)
class SplitCount:
    """What was found of a split beside what is published."""

    split: str
    images: int
    classes: int
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


@dataclass(frozen=True)
class Check:
    """What a check found; `opened` of `files` images were opened."""

    findings: Findings
    counts: Sequence[SplitCount]
    files: int
    opened: int

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
            return f"{errors:,} {noun}: training does not start until mended; {opened}"
        if not self.right:
            return f"no errors, but the counts are not the published ones; {opened}"
        if not all(row.same for row in self.counts):
            return f"nothing is wrong, though unconfirmed figures differ; {opened}"
        return f"all is right; {opened}"


def check(
    benchmark: Benchmark,
    root: Path,
    sample: int | None = SAMPLE,
    advance: Advance = silent,
) -> Check:
    """Read the lists, hold the counts against the published ones, and open a seeded sample of images.

    `sample` None opens every image.
    """
    findings = Findings()
    records = benchmark.read(root, findings)
    counts = _counts(benchmark, records)
    if records or not findings.errors:  # otherwise what is wrong has been said
        for note in other_counts(benchmark, records):
            findings.add(note.kind, note.where, note.message)
    # an image of several test sets is one file
    files: Sequence[Path] = Files(list(dict.fromkeys(record.file for record in records if record.file is not None)))
    opened = files if sample is None or sample >= len(files) else random.Random(0).sample(files, sample)
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(opened), _BLOCK):
            block = opened[start : start + _BLOCK]
            for path, wrong in zip(block, pool.map(_what_is_wrong, block), strict=True):
                if wrong is not None:
                    findings.add("broken image", path, wrong)
            advance("opening images", start + len(block), len(opened))
    return Check(findings, counts, len(files), len(opened))


def _counts(benchmark: Benchmark, records: Sequence[Record]) -> list[SplitCount]:
    labels: dict[str | None, list[str]] = {split: [] for split in benchmark.counts}
    for record in records:
        labels[record.split or "train"].append(record.label)
    return [
        SplitCount(split, len(labels[split]), len(set(labels[split])), published)
        for split, published in benchmark.counts.items()
    ]


def other_counts(benchmark: Benchmark, records: Sequence[Record]) -> list[Finding]:
    """Return a note for each split whose counts are not the published ones."""
    counts = _counts(benchmark, records)
    return [Finding("other counts", benchmark.title, _difference(row)) for row in counts if not row.same]


def _difference(row: SplitCount) -> str:
    published = row.published
    return (
        f"{row.split} has {row.images:,} images of {row.classes:,} classes; "
        f"{'published' if published.confirmed else 'said, but unconfirmed,'} are {published.images:,} "
        f"of {published.classes:,}"
    )


def _what_is_wrong(path: Path) -> str | None:
    try:
        check_image(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return None
