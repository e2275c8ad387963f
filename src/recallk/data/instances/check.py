"""Is a test set on disk what its owners published? Its truth, its counts, and a sample of its images."""

from pathlib import Path

from recallk.core.progress import Advance, silent
from recallk.data.benchmarks.benchmark import Count
from recallk.data.check import SAMPLE, Check, SplitCount, open_sample, other_counts_in
from recallk.data.findings import Finding, Findings
from recallk.data.instances.instance import InstanceBenchmark, InstanceSet
from recallk.data.item import File, file_of


def check_instances(
    benchmark: InstanceBenchmark,
    root: Path,
    sample: int | None = SAMPLE,
    advance: Advance = silent,
) -> Check:
    """Read the truth, hold the counts against the published ones, and open a seeded sample of images.

    `sample` None opens every image.
    """
    findings = Findings()
    instances = benchmark.read(root, findings)
    if instances is None:
        opened, images = 0, 0
    else:
        for note in other_counts(benchmark, instances):
            findings.add(note.kind, note.where, note.message)
        queries, gallery = instances.queries, instances.gallery
        images = len(queries) + len(gallery)

        def file(number: int) -> File | None:
            return file_of(queries[number] if number < len(queries) else gallery[number - len(queries)])

        opened = open_sample(images, file, sample, findings, advance)
    return Check(benchmark.title, findings, _counts(benchmark, instances), images, opened, "evaluation")


def other_counts(benchmark: InstanceBenchmark, instances: InstanceSet) -> list[Finding]:
    """Return a note where there are not as many queries, or not as large a gallery, as published."""
    return other_counts_in(benchmark.title, _counts(benchmark, instances))


def _counts(benchmark: InstanceBenchmark, instances: InstanceSet | None) -> list[SplitCount]:
    queries, gallery = (len(instances.queries), len(instances.gallery)) if instances is not None else (0, 0)
    return [
        SplitCount("queries", queries, None, Count(benchmark.queries, None)),
        SplitCount("gallery", gallery, None, Count(benchmark.gallery, None)),
    ]
