"""Revisited Oxford and Paris: photographs of buildings; what a query asks for is inside of a box."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recallk.core.errors import InputError
from recallk.core.text import brief
from recallk.data.benchmarks.annotations import Place, find_home, first_folder
from recallk.data.findings import Findings, Kind
from recallk.data.headers import upright_size
from recallk.data.instances.instance import InstanceBenchmark, InstanceSet, Revisited
from recallk.data.instances.paths import Paths, report_missing
from recallk.data.item import Region
from recallk.data.plain_pickle import read_plain_pickle

Box = tuple[float, float, float, float]

_LISTS = ("imlist", "qimlist", "gnd")
_GRADES = ("easy", "hard", "junk")
_FARTHEST = 1e9  # of a side of a box: no image has as many pixels


def read(name: str, root: Path, findings: Findings) -> InstanceSet | None:
    """Read `gnd_NAME.pkl` and the images beside it.

    The file is a pickled table: `imlist` and `qimlist` are names of images without ".jpg", and `gnd` has for each query
    `bbx` (left, top, right, bottom), and the numbers in `imlist` that are `easy`, `hard` and `junk`.

    Source: https://github.com/filipradenovic/revisitop (dataset.py, example_process_images.py).
    """
    file = f"gnd_{name}.pkl"
    tops = (name, f"datasets/{name}", f"data/datasets/{name}")
    home = find_home(root, tops, (file,), f"the folder that holds {file}, or the one above", findings)
    if home is None:
        return None
    images = first_folder(home / "jpg", home / name / "jpg")
    try:
        table = read_plain_pickle(home / file, "a ground truth", "get it again from the benchmark's page")
    except InputError as error:
        findings.add("broken ground truth", home / file, str(error).removeprefix(f"{home / file}: "))
        return None
    return _Reading(home / file, images, findings).read(table)


class _Reading:
    """One reading of a ground truth: reports what is wrong, and goes on. Queries and images are counted from 1."""

    def __init__(self, file: Path, folder: Path, findings: Findings) -> None:
        self._file, self._folder, self._findings = file, folder, findings

    def read(self, table: Any) -> InstanceSet | None:
        lists = table if isinstance(table, Mapping) else {}
        if wrong := [key for key in _LISTS if not isinstance(lists.get(key), list | tuple)]:
            told = f"has no list {', '.join(wrong)}, but is {brief(table)}; get it again"
            self._findings.add("broken ground truth", self._file, told)
            return None
        gallery, names, entries = (lists[key] for key in _LISTS)
        queries = self._images("query", names)
        images = self._images("image", gallery)
        for name in queries.keys() & images.keys():
            told = f"{name} is in imlist too ({self._place('image', images[name])}), where it would find itself"
            self._report("image in two splits", "query", queries[name], told)
        if len(names) != len(entries):
            told = f"gnd has {len(entries):,} entries for {len(names):,} queries; get it again"
            self._findings.add("broken ground truth", self._file, told)
        self._paths("query", queries)
        gallery_paths = self._paths("image", images)
        regions, answers = list[Region](), list[dict[str, list[int]]]()
        for number, (name, entry) in enumerate(zip(names, entries, strict=False)):
            if not isinstance(entry, Mapping) or (missing := [key for key in ("bbx", *_GRADES) if key not in entry]):
                told = f"has no {', '.join(missing)}" if isinstance(entry, Mapping) else f"is {brief(entry)}, no table"
                self._report("broken ground truth", "query", number, told)
                continue
            answers.append(self._answers(number, entry, len(gallery)))
            box = self._box(number, entry["bbx"])
            if box is not None and name in queries:
                path = self._folder / f"{name}.jpg"
                regions.append(Region(path, self._clipped(number, path, box)))
        return InstanceSet(regions, gallery_paths, Revisited(answers))

    def _images(self, unit: str, listed: Sequence[object]) -> dict[str, int]:
        """Return the images' names, with their numbers."""
        numbers: dict[str, int] = {}
        for number, name in enumerate(listed):
            if not isinstance(name, str) or not _encodable(name):
                self._report("broken ground truth", unit, number, f"its name is {brief(name)}, that of no file")
            elif name in ("", ".", "..") or "/" in name or "\\" in name:
                told = f"its name, {brief(name)}, is not that of a file in {self._folder.name}/"
                self._report("name of another folder", unit, number, told)
            elif name in numbers:
                told = f"{name} is listed already ({self._place(unit, numbers[name])})"
                self._report("duplicate path", unit, number, told)
            else:
                numbers[name] = number
        return numbers

    def _paths(self, unit: str, numbers: Mapping[str, int]) -> Paths:
        """Return the images' files, and report the missing ones."""
        paths = Paths(self._folder, (f"{name}.jpg" for name in numbers))
        places = [self._place(unit, number) for number in numbers.values()]
        report_missing(self._findings, paths, places.__getitem__)
        return paths

    def _answers(self, number: int, entry: Mapping[Any, object], images: int) -> dict[str, list[int]]:
        answers = {grade: self._image_numbers(number, grade, entry[grade], images) for grade in _GRADES}
        grade_of: dict[int, str] = {}
        for grade, listed in answers.items():
            for image in listed:
                if (other := grade_of.setdefault(image, grade)) != grade:
                    self._report("number in two lists", "query", number, f"{image} is in {other} and in {grade}")
        if not answers["easy"] and not answers["hard"]:
            self._report("query without answer", "query", number, "neither easy nor hard images: left out of the means")
        return answers

    def _image_numbers(self, number: int, grade: str, given: object, images: int) -> list[int]:
        listed = given.tolist() if isinstance(given, np.ndarray) else given
        whole = isinstance(listed, list | tuple) and all(_is_whole(value) for value in listed)
        if not isinstance(listed, list | tuple) or not whole:
            self._report("broken ground truth", "query", number, f"{grade} is {brief(given)}, no list of whole numbers")
            return []
        once = list(dict.fromkeys(map(int, listed)))
        for image in once:
            if not 0 <= image < images:
                told = f"{grade} has {image}, but the images are numbered from 0 to {images - 1}"
                self._report("number out of range", "query", number, told)
        if len(once) < len(listed):
            self._report("answer listed twice", "query", number, f"{grade} has a number twice; it counts once")
        return once

    def _box(self, number: int, given: object) -> Box | None:
        values = given.tolist() if isinstance(given, np.ndarray) else given
        if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(_is_side, values)):
            self._report("broken box", "query", number, f"bbx is {brief(given)}, not left, top, right, bottom")
            return None
        left, top, right, bottom = map(float, values)
        return left, top, right, bottom

    def _clipped(self, number: int, path: Path, box: Box) -> Box:
        """Return the part of a box that is inside of the image; as it is where the image cannot be read."""
        try:
            width, height = upright_size(path)
        except InputError as error:
            if path.exists():  # otherwise that has been said
                self._findings.add("broken image", path, str(error).removeprefix(f"{path}: "))
            return box
        left, top, right, bottom = box
        inside = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
        told = f"bbx is {', '.join(f'{side:g}' for side in box)} in an image of {width} x {height} pixels"
        if round(inside[0]) >= round(inside[2]) or round(inside[1]) >= round(inside[3]):
            self._report("broken box", "query", number, f"{told}: it holds none of them")
            return box
        if inside != box:
            self._report("clipped box", "query", number, f"{told}; the part inside of it is taken")
        return inside

    def _place(self, unit: str, number: int) -> Place:
        return Place(self._file, number + 1, unit)

    def _report(self, kind: Kind, unit: str, number: int, message: str) -> None:
        self._findings.add(kind, str(self._place(unit, number)), message)


def _encodable(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_side(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and bool(abs(value) < _FARTHEST)  # which NaN is not


def _benchmark(name: str, title: str, photographs: str, size: str, page: str, gallery: int) -> InstanceBenchmark:
    return InstanceBenchmark(
        name=name,
        title=title,
        what=f"70 boxes around buildings, searched among {gallery:,} photographs of {photographs}; mAP and mP@k",
        size=size,
        home=f"https://github.com/filipradenovic/revisitop, {page}",
        terms="see home pages",
        queries=70,
        gallery=gallery,
        read=partial(read, name),
    )


OXFORD = _benchmark(
    "roxford5k",
    "Revisited Oxford",
    "Oxford",
    "2 GB",
    "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/",
    4_993,
)
PARIS = _benchmark(
    "rparis6k",
    "Revisited Paris",
    "Paris",
    "2.5 GB",
    "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/",
    6_322,
)
