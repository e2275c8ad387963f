"""PKU VehicleID: cars before the cameras of a town; three test sets, each within the next."""

from pathlib import Path

from recallk.data.benchmarks.annotations import Reading, find_home
from recallk.data.benchmarks.benchmark import Benchmark, Count, TestSet
from recallk.data.findings import Findings
from recallk.data.item import Record

_FOLDER = "train_test_split"
_LISTS = {
    "train": "train_list.txt",
    "test-800": "test_list_800.txt",
    "test-1600": "test_list_1600.txt",
    "test-2400": "test_list_2400.txt",
}
_TESTS = (TestSet("small", "test-800"), TestSet("medium", "test-1600"), TestSet("large", "test-2400"))


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the four lists (`image id`); an image that is in several test sets has a record for each."""
    reading = Reading(findings, _TESTS)
    lists = tuple(f"{_FOLDER}/{name}" for name in _LISTS.values())
    top = "VehicleID_V1.0"
    home = find_home(root, (top,), lists, f"the folder {top} that holds {_FOLDER}/ and image/", findings)
    if home is None:
        return []
    for split, name in _LISTS.items():
        for place, line in reading.lines(home / _FOLDER / name):
            fields = reading.fields(place, line, ("image", "id"))
            if fields is None:
                continue
            image, vehicle = (reading.number(place, *pair) for pair in zip(("image", "id"), fields, strict=True))
            if image is not None and vehicle is not None:
                reading.image(place, str(home / "image"), f"{image:07}.jpg", str(vehicle), split)
    return reading.records()


BENCHMARK = Benchmark(
    name="vehicleid",
    title="PKU VehicleID",
    what="221,763 photographs of 26,267 vehicles",
    size="see home page",
    home="https://www.pkuml.org/resources/pku-vehicleid.html",
    terms="on request; see home page",
    counts={
        "train": Count(110_178, 13_134, confirmed=False),
        # identities are the data set's; images are counted in the lists by others
        "test-800": Count(6_493, 800, confirmed=False),
        "test-1600": Count(13_377, 1_600, confirmed=False),
        "test-2400": Count(19_777, 2_400, confirmed=False),
    },
    read=read,
    tests=_TESTS,
)
