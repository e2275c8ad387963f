"""Icons of many sets, as npm's @iconify/json holds them: a class is a name, its images are what sets draw for it."""

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.files import read_file
from recallk.data.benchmarks.annotations import find_home
from recallk.data.benchmarks.benchmark import Benchmark, Count, Origin
from recallk.data.findings import Findings
from recallk.data.item import Drawing, Record

SIDE = 64
"""Pixels of a drawing, wide and high."""

SETS = 4
"""Sets that draw a name, at least, for it to be a class."""

_LIST = "collections.json"
_BOX = {"left": 0, "top": 0, "width": 16, "height": 16}
_AGAIN = "get it again: npm install @iconify/json"
_USUAL_STYLES = re.compile(
    r"(?:-(?:thin|light|regular|medium|bold|line|linear|outline|outlined|fill|filled|solid|round|rounded|sharp"
    r"|duo|duotone|twotone|two-tone|12|16|20|24|28|32|48|\d+px))+$"
)


@dataclass(frozen=True)
class _IconSet:
    """A set as the list of sets tells of it."""

    prefix: str
    title: str
    author: str
    licence: str
    hidden: bool


def read(root: Path, findings: Findings) -> list[Record]:
    """Read the sets twice: for the names that four of them draw, and for the drawings of these, one of each set.

    Styles, weights and sizes of a drawing in one set are one name (`_plain_names`). Sets of one author often draw a
    name alike, as photographs of one product look alike. Left out are sets and icons that are marked as hidden, aliases
    (each a drawing of another name), what moves, which begins unfinished, and what is empty.
    """
    require("icons", "the data set icons")
    home = _home(root, findings)
    if home is None:
        return []
    package = _Package(home, findings)
    plain = {each.prefix: _plain_names(package.icon_set(each.prefix)) for each in package.sets() if not each.hidden}
    drawn_by = Counter(name for names in plain.values() for name in names)
    wanted = {
        prefix: {icon: name for name, icon in names.items() if drawn_by[name] >= SETS}
        for prefix, names in plain.items()
    }
    records = [
        Record(drawing, name, _side(name))
        for prefix, names in wanted.items()
        if names
        for name, drawing in package.drawings(prefix, names)
    ]
    return sorted(records, key=lambda record: record.label)


def origins(root: Path, records: Sequence[Record]) -> list[Origin]:
    """Return author and licence of each set, and how many of the drawings `records` are from it; none without any."""
    home = _home(root, Findings())
    sets = [] if home is None else _Package(home, Findings()).sets()
    used = Counter(record.item.name.partition(":")[0] for record in records if isinstance(record.item, Drawing))
    return [Origin(each.title, each.author, each.licence, used[each.prefix]) for each in sets if used[each.prefix]]


def _side(name: str) -> str:
    """Return where a name is in the split in half: that hangs on the name alone."""
    return "train" if hashlib.sha256(name.encode()).digest()[0] < 128 else "test"


def _home(root: Path, findings: Findings) -> Path | None:
    unpacked = "the folder in which `npm install @iconify/json` ran"
    return find_home(root, ("node_modules/@iconify/json", "@iconify/json"), (_LIST,), unpacked, findings)


@dataclass(frozen=True)
class _Package:
    """The files below `home`: what is wrong with them is reported, and reading goes on."""

    home: Path
    findings: Findings

    def sets(self) -> list[_IconSet]:
        """Return the sets that the list names, in its order."""
        sets = list[_IconSet]()
        for prefix, told in self._table(self.home / _LIST).items():
            try:
                title, author, licence = told["name"], told["author"]["name"], told["license"]
                terms = licence.get("spdx") or licence["title"]
                if not all(isinstance(text, str) for text in (title, author, terms)):
                    raise TypeError
            except (AttributeError, KeyError, TypeError):
                what = f"no name, author or licence of the set {prefix}; {_AGAIN}"
                self.findings.add("missing file", self.home / _LIST, what)
                continue
            sets.append(_IconSet(prefix, title, author, terms, bool(told.get("hidden"))))
        return sets

    def icon_set(self, prefix: str) -> dict[str, Any]:
        """Return what the file of a set holds; its "icons" are a table of tables, without any where there is none."""
        path = self._path(prefix)
        held = self._table(path)
        icons = held.get("icons", {} if not held else None)
        if not isinstance(icons, dict) or not all(isinstance(icon, dict) for icon in icons.values()):
            self.findings.add("missing file", path, f"has no table of icons; {_AGAIN}")
            icons = {}
        return held | {"icons": icons}

    def drawings(self, prefix: str, names: Mapping[str, str]) -> list[tuple[str, Drawing]]:
        """Return the drawings of some icons of a set, each with its class; `names` are the classes by icon."""
        held = self.icon_set(prefix)
        found = list[tuple[str, Drawing]]()
        for icon, name in names.items():
            told = _BOX | held | held["icons"].get(icon, {})
            body, box = told.get("body"), tuple(told[place] for place in _BOX)
            wrong = None
            if not isinstance(body, str) or not body:
                wrong = "has no body"
            elif not all(isinstance(place, int | float) and math.isfinite(place) for place in box) or min(box[2:]) <= 0:
                wrong = "has no width or height above zero"
            if wrong is not None:
                self.findings.add("broken image", self._path(prefix), f"the icon {icon} {wrong}; {_AGAIN}")
                continue
            left, top, width, height = box
            found.append((name, Drawing(f"{prefix}:{icon}", str(body), (left, top, width, height), SIDE)))
        return found

    def _path(self, prefix: str) -> Path:
        return self.home / "json" / f"{prefix}.json"

    def _table(self, path: Path) -> dict[str, Any]:
        """Return what a JSON file holds by name; nothing, reported, where that cannot be."""
        try:
            return read_file(path, _parse, "a whole JSON file of @iconify/json", _AGAIN)
        except InputError as error:
            told = str(error).removeprefix(f"{path}: ")
            self.findings.add("missing file", path, told if _AGAIN in told else f"{told}; {_AGAIN}")
            return {}


def _parse(path: Path) -> dict[str, Any]:
    held = json.loads(path.read_bytes())
    if not isinstance(held, dict) or not held:
        raise ValueError("no table")
    return held


def _plain_names(held: Mapping[str, Any]) -> dict[str, str]:
    """Return the icon that stands for each name in a set: of its styles one in a single tone, with the shortest name.

    Where a set has icons without a style, an ending such as "-line" is taken for one only if another icon has the same
    name without it: the set that has "align-line", and neither "align" nor "align-bold", has a name of two words.
    """
    styles, plain = _styles(held)
    by_name: dict[str, list[str]] = defaultdict(list)
    for icon, told in held["icons"].items():
        body = told.get("body")
        if not told.get("hidden") and body != "" and "<animate" not in str(body):
            by_name[styles.sub("", icon)].append(icon)
    return {
        icons[0] if plain and len(icons) == 1 else name: min(icons, key=_plainness) for name, icons in by_name.items()
    }


def _plainness(icon: str) -> tuple[bool, int, str]:
    return "duo" in icon or "two" in icon, len(icon), icon


def _styles(held: Mapping[str, Any]) -> tuple[re.Pattern[str], bool]:
    """Return how styles stand in the names of a set, and whether there are names without; most sets tell it."""
    for key, place in (("suffixes", "-(?:{})$"), ("prefixes", "^(?:{})-")):
        told = held.get(key)
        if isinstance(told, dict) and any(told):
            styles = sorted(map(re.escape, filter(None, told)), key=len, reverse=True)
            return re.compile(place.format("|".join(styles))), "" in told
    return _USUAL_STYLES, True


BENCHMARK = Benchmark(
    name="icons",
    title="Icons",
    what="100,383 drawings of 11,814 names, from 216 sets",
    size="465 MB",
    home="npm install @iconify/json, https://www.npmjs.com/package/@iconify/json",
    terms="those of each set: `recallk data check icons` lists them",
    # as counted in version 2.2.535; the package grows every week
    counts={"train": Count(50_025, 5_881, confirmed=False), "test": Count(50_358, 5_933, confirmed=False)},
    read=read,
    origins=origins,
)
