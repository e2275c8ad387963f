"""The retrieval split of iNaturalist 2018: species of all kinds, by the lists of the Smooth-AP paper."""

from pathlib import Path

from recallk.data.benchmarks.annotations import Reading, find_home, first_folder
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Findings
from recallk.data.item import Record

_LISTS = {"train": "Inaturalist_train_set1.txt", "test": "Inaturalist_test_set1.txt"}
_FOLDER = "Inat_dataset_splits"
_IMAGES = "train_val2018"


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the two lists, a path a line; the class is the last two folders, as "Plantae/7477"."""
    reading = Reading(findings)
    lists = tuple(f"{_FOLDER}/{name}" for name in _LISTS.values()) + tuple(_LISTS.values())
    unpacked = f"the folder that holds {_FOLDER}/ and {_IMAGES}/"
    home = find_home(root, ("inaturalist",), lists, unpacked, findings)
    if home is None:
        return []
    base = first_folder(*(place / _IMAGES for place in (home, home / "inaturalist", root))).parent
    for split, name in _LISTS.items():
        inside = home / _FOLDER / name
        for place, line in reading.lines(inside if inside.exists() or not (home / name).exists() else home / name):
            fields = reading.fields(place, line, ("path",))
            if fields is None:
                continue
            folders = line.split("/")[:-1]
            if len(folders) < 2:
                reading.truncated(place, line, "fewer than two folders")
            elif reading.number(place, "class", folders[-1]) is not None:
                reading.image(place, str(base), line, "/".join(folders[-2:]), split)
    return reading.records()


BENCHMARK = Benchmark(
    name="inaturalist",
    title="iNaturalist 2018, retrieval split",
    what="461,939 photographs of 8,142 species",
    size="120 GB",
    home="https://github.com/visipedia/inat_comp/tree/master/2018, lists: https://github.com/Andrew-Brown1/Smooth_AP",
    terms="non-commercial research and education; see home page",
    counts={"train": Count(325_846, 5_690, confirmed=False), "test": Count(136_093, 2_452, confirmed=False)},
    read=read,
)
