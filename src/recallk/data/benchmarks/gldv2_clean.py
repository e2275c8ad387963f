"""Google Landmarks v2, clean: photographs of landmarks, to train on: it has no test classes of its own."""

from pathlib import Path

from recallk.data.benchmarks.annotations import Reading, find_home, first_folder
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Findings
from recallk.data.item import Record

_LIST = "train_clean.csv"
_LISTS = (_LIST, f"train/{_LIST}", f"metadata/{_LIST}")
_FIELDS = ("landmark_id", "images")
_ID = 16
"""Characters of an image's ID; the first three are the names of its folders."""


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the list: a header, then `landmark_id,ID ID ...`; an image is `train/a/b/c/ID.jpg`, or without `train/`."""
    reading = Reading(findings, tests=())
    unpacked = f"the folder that holds {_LIST} and train/"
    home = find_home(root, ("gldv2", "google-landmark"), _LISTS, unpacked, findings)
    if home is None:
        return []
    images = str(first_folder(home / "train", home))
    path = next(home / name for name in _LISTS if (home / name).exists())
    folders: dict[str, str] = {}
    for place, line in reading.lines(path):
        landmark, _, listed = line.partition(",")
        if place.number == 1 and landmark == _FIELDS[0]:
            continue
        names = listed.split()
        if not names:
            reading.truncated(place, line, f"1 of 2 fields ({', '.join(_FIELDS)})")
            continue
        number = reading.number(place, _FIELDS[0], landmark)
        if number is None:
            continue
        label = str(number)
        for name in names:
            if len(name) != _ID or not name.isalnum():
                reading.truncated(place, name, f"no ID of {_ID} letters and digits")
                continue
            first = name[:3]
            if first not in folders:
                folders[first] = "/".join((images, *first))
            reading.image(place, folders[first], f"{name}.jpg", label, None)
    return reading.records()


BENCHMARK = Benchmark(
    name="gldv2-clean",
    title="Google Landmarks v2, clean",
    what="1,580,470 photographs of 81,313 landmarks, for training alone: --test-fraction of the classes are held back",
    size="500 GB as the whole training set",
    home="https://github.com/cvdfoundation/google-landmark",
    terms="photographs under their owners' Creative Commons licences; see home page",
    counts={"train": Count(1_580_470, 81_313)},
    read=read,
    tests=(),
)
