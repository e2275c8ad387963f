"""Is a benchmark on disk what its owners published? Its lists, its counts, and a sample of its images."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from recallk.core.progress import Advance, silent
from recallk.data.benchmarks.benchmark import Benchmark, Origin
from recallk.data.check import SAMPLE, Check, LicenceCount, SplitCount, open_sample, other_counts_in
from recallk.data.findings import Finding, Findings
from recallk.data.item import Drawing, File, Files, Record


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
    files = Files(list(dict.fromkeys(record.file for record in records if record.file is not None)))
    drawings = [record.item for record in records if isinstance(record.item, Drawing)]
    images: Sequence[File | Drawing] = drawings or files
    opened = open_sample(len(images), images.__getitem__, sample, findings, advance)
    origins = benchmark.origins(root, records) if benchmark.origins is not None else []
    return Check(benchmark.title, findings, counts, len(images), opened, "training", by_licence(origins))


def by_licence(origins: Iterable[Origin]) -> list[LicenceCount]:
    """Return for each licence how many sets of images have it, and how many images, the most images first."""
    counts: dict[str, tuple[int, int]] = {}
    for origin in origins:
        sets, images = counts.get(origin.licence, (0, 0))
        counts[origin.licence] = sets + 1, images + origin.images
    return sorted((LicenceCount(name, *count) for name, count in counts.items()), key=lambda row: -row.images)


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
    return other_counts_in(benchmark.title, _counts(benchmark, records))
