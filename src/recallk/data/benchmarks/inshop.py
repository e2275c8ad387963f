"""In-Shop Clothes (DeepFashion): a shop's photographs of garments; queries search a gallery of their own."""

from collections.abc import Iterator
from pathlib import Path

from recallk.data.benchmarks.annotations import Place, Reading, find_home, first_folder
from recallk.data.benchmarks.benchmark import Benchmark, Count, TestSet
from recallk.data.findings import Findings
from recallk.data.item import Record

_LIST = "list_eval_partition.txt"
_SPLITS = ("train", "query", "gallery")
_FIELDS = ("path", "item_id", "evaluation_status")
_TESTS = (TestSet("", "query", "gallery"),)


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the list: a count, a header, then `path item_id split`; the class is the item, as "id_00000002"."""
    reading = Reading(findings, _TESTS)
    tops = ("In-shop Clothes Retrieval Benchmark", "In-shop_Clothes_Retrieval_Benchmark", "In-shop")
    unpacked = "the folder that holds Eval/ and Img/ (or img/)"
    home = find_home(root, tops, (f"Eval/{_LIST}", _LIST), unpacked, findings)
    if home is None:
        return []
    # the archive's paths begin with img/, and the folder that it unpacks to differs
    images = first_folder(home / "Img/img", home / "img/img", home / "img", home / "Img")
    path = next(path for path in (home / "Eval" / _LIST, home / _LIST) if path.exists())
    for place, line in _after_the_head(reading, path):
        fields = reading.fields(place, line, _FIELDS)
        if fields is None:
            continue
        if fields[2] not in _SPLITS:
            reading.truncated(place, line, f"neither of {', '.join(_SPLITS)} at the end")
            continue
        item = reading.number(place, "item", fields[1].removeprefix("id_"))
        if item is not None:
            reading.image(place, str(images), fields[0].removeprefix("img/"), f"id_{item:08}", fields[2])
    return reading.records()


def _after_the_head(reading: Reading, path: Path) -> Iterator[tuple[Place, str]]:
    """Yield the lines after the count and the header, and hold the count against them."""
    declared, count = None, 0
    for place, line in reading.lines(path):
        if place.number == 1 and len(line.split()) == 1:
            declared = reading.number(place, "the count of images", line)
        elif place.number > 2 or not line.startswith("image_name"):
            count += 1
            yield place, line
    if declared is not None and declared != count:
        message = f"says that {declared:,} images follow, but {count:,} do; get {path.name} again"
        reading.report("truncated line", Place(path, 1), message)


BENCHMARK = Benchmark(
    name="inshop",
    title="In-Shop Clothes",
    what="52,712 photographs of 7,982 garments",
    size="see home page",
    home="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    terms="non-commercial research, on request; see home page",
    counts={"train": Count(25_882, 3_997), "query": Count(14_218, 3_985), "gallery": Count(12_612, 3_985)},
    read=read,
    tests=_TESTS,
)
