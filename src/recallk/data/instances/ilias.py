"""ILIAS: things of all kinds, each on a clean background as a query, and in the wild to be found."""

from collections import defaultdict
from pathlib import Path

from recallk.data.benchmarks.annotations import Place, Reading, find_home, names_in
from recallk.data.findings import Findings
from recallk.data.instances.instance import InstanceBenchmark, InstanceSet, Relevant
from recallk.data.instances.paths import Paths, report_these_missing

K = 1_000

_CORE = "ilias_core"
_LISTS = {"query": "image_ids/image_query_ids.txt", "pos": "image_ids/positive_ids.txt"}


def read(root: Path, findings: Findings) -> InstanceSet | None:
    """Read the images of `ilias_core`: those of `THING/query` are queries, those of `THING/pos` their answers.

    Where the lists are there that come with it (`image_ids/image_query_ids.txt` and `positive_ids.txt`, an image a line
    as `THING/pos/P000_01.jpg,scale,clutter`), they say which images count; without them, all do. A query is its whole
    image, as in the published results, though a box around the thing lies beside it. The distractors, `yfcc100m/*.tar`,
    are given apart.

    Source: https://github.com/ilias-vrg/ilias (download/README.md, evaluation/src/dataset.py).
    """
    if root.name == _CORE:
        root = root.parent
    unpacked = f"the folder that holds {_CORE}/ and image_ids/"
    home = find_home(root, ("ilias", "download/ilias"), (_CORE, *_LISTS.values()), unpacked, findings)
    if home is None:
        return None
    queries, positives = (_names(home, part, findings) for part in _LISTS)
    numbers = defaultdict[str, list[int]](list)
    for number, name in enumerate(positives):
        numbers[_thing(name)].append(number)
    answers = [numbers.get(_thing(name), []) for name in queries]
    core = home / _CORE
    for name, answer in zip(queries, answers, strict=True):
        if not answer:
            told = f"none of the images that are searched shows {_thing(name)}: left out of the mean"
            findings.add("query without answer", core / name, told)
    return InstanceSet(Paths(core, queries), Paths(core, positives), Relevant(answers, K))


def _names(home: Path, part: str, findings: Findings) -> list[str]:
    """Return the images of a part, sorted: those of its list, or, without one, those that are there."""
    core, path = home / _CORE, home / _LISTS[part]
    images = _images(core, part)
    if not path.exists():
        if not images:
            findings.add("missing image", core, f"no image as THING/{part}/NAME.jpg in it; unpack {_CORE}.tar again")
        return images
    reading, places = Reading(findings), dict[str, Place]()
    for place, line in reading.lines(path):
        name = line.partition(",")[0]
        thing, *rest = name.split("/")
        if thing in ("", ".", "..") or len(rest) != 2 or rest[0] != part or not name.endswith(".jpg"):
            reading.truncated(place, line, f"no image as THING/{part}/NAME.jpg")
        elif name in places:
            reading.report("duplicate path", place, f"{name} is listed already ({places[name]}); remove one of the two")
        else:
            places[name] = place
    there = {listed: name for name in images for listed in (_as_listed(name), name)}
    names = sorted(places)
    missing = [number for number, name in enumerate(names) if name not in there]
    report_these_missing(findings, Paths(core, names), missing, lambda number: places[names[number]])
    return [there.get(name, name) for name in names]


def _images(core: Path, part: str) -> list[str]:
    """Return the images of a part that are there, sorted, as names below the folder."""
    return sorted(
        f"{folder.parent.name}/{part}/{file}"
        for folder in core.glob(f"*/{part}")
        for file in names_in(str(folder))
        if file.endswith(".jpg")
    )


def _as_listed(name: str) -> str:
    r"""Return a name as the lists have it: letters beyond ASCII are written out.

    >>> _as_listed("café_001/pos/P001_00.jpg")
    'caf#U00e9_001/pos/P001_00.jpg'
    """
    return "".join(c if c.isascii() else f"#U{ord(c):04x}" for c in name)


def _thing(name: str) -> str:
    return name.partition("/")[0]


ILIAS = InstanceBenchmark(
    name="ilias",
    title="ILIAS",
    what="1,232 photographs of 1,000 things, searched among 4,715 that show them in the wild; mAP@1000",
    size="see home page; 6.3 TB with all distractors",
    home="https://github.com/ilias-vrg/ilias, https://vrg.fel.cvut.cz/ilias/",
    terms="CC BY 4.0 for most, else the photographs' own; see home page",
    queries=1_232,
    gallery=4_715,
    read=read,
)
