"""Stanford Online Products: what people sold on a market place, a few photographs of each."""

from pathlib import Path

from recallk.data.benchmarks.annotations import Reading, find_home
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Findings
from recallk.data.item import Record

_LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_FIELDS = ("image_id", "class_id", "super_class_id", "path")


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the two lists: a header, then `image_id class_id super_class_id path`; the class is the class_id."""
    reading = Reading(findings)
    top = "Stanford_Online_Products"
    home = find_home(root, (top,), tuple(_LISTS.values()), f"the folder that {top}.zip unpacks to", findings)
    if home is None:
        return []
    for split, name in _LISTS.items():
        for place, line in reading.lines(home / name):
            if place.number == 1 and line.startswith(_FIELDS[0]):
                continue
            fields = reading.fields(place, line, _FIELDS)
            if fields is None:
                continue
            numbers = [reading.number(place, what, text) for what, text in zip(_FIELDS[:3], fields[:3], strict=True)]
            if None not in numbers:
                reading.image(place, str(home), fields[3], str(numbers[1]), split)
    return reading.records()


BENCHMARK = Benchmark(
    name="sop",
    title="Stanford Online Products",
    what="120,053 photographs of 22,634 products",
    size="2.9 GB",
    home="https://cvgl.stanford.edu/projects/lifted_struct/",
    terms="see home page",
    counts={"train": Count(59_551, 11_318), "test": Count(60_502, 11_316)},
    read=read,
)
