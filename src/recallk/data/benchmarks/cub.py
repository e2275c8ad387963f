"""CUB-200-2011: birds; the first hundred species are for training."""

from pathlib import Path

from recallk.data.benchmarks.annotations import Reading, find_home
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Findings
from recallk.data.item import Record

_TRAIN_CLASSES, _CLASSES = 100, 200


def read(root: Path, findings: Findings) -> list[Record]:
    """Read `images.txt` (`number path`); the class is the number before the folder's name, as "007"."""
    reading = Reading(findings)
    unpacked = "the folder that CUB_200_2011.tgz unpacks to"
    home = find_home(root, ("CUB_200_2011",), ("images.txt",), unpacked, findings)
    if home is None:
        return []
    images = str(home / "images")
    for place, line in reading.lines(home / "images.txt"):
        fields = reading.fields(place, line, ("image number", "path"))
        if fields is None or reading.number(place, "image number", fields[0]) is None:
            continue
        path = fields[1]
        label = reading.number(place, "class", path.partition(".")[0], 1, _CLASSES)
        if label is not None:
            split = "train" if label <= _TRAIN_CLASSES else "test"
            reading.image(place, images, path, f"{label:03}", split)
    return reading.records()


BENCHMARK = Benchmark(
    name="cub",
    title="CUB-200-2011",
    what="11,788 photographs of 200 species of birds",
    size="1.1 GB",
    home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    terms="non-commercial research and education",
    counts={"train": Count(5_864, 100), "test": Count(5_924, 100)},
    read=read,
)
