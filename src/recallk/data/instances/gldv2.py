"""Google Landmarks v2: photographs that people took of landmarks; retrieval, and recognition by the nearest image."""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recallk.data.benchmarks.annotations import Place, Reading, find_home
from recallk.data.findings import Findings
from recallk.data.instances.instance import InstanceBenchmark, InstanceSet, Landmarks, Relevant
from recallk.data.instances.paths import Paths, report_missing

RETRIEVAL, RECOGNITION = "retrieval_solution_v2.1.csv", "recognition_solution_v2.1.csv"
INDEX, CLEAN, TRAIN = "index.csv", "train_clean.csv", "train.csv"
K = 100

_FOLDERS = ("", "metadata", "ground_truth", "index", "test", "train")  # where people keep the lists
_USAGES = {"Public": "public", "Private": "private", "Ignored": None}
_ID = 16  # characters of an image's


def read_retrieval(root: Path, findings: Findings) -> InstanceSet | None:
    """Read the retrieval task: test images search the index images.

    `index.csv` lists the index images (`id`); without it, they are those in the folder `index`, by name. The solution
    lists the test images (`id,images,Usage`): their answers' IDs, and whether they are of the public or the private
    part. Those that are ignored, and those without answers (`None`), are no queries. An image is `index/a/b/c/ID.jpg`
    or `test/a/b/c/ID.jpg`, by the first characters of its ID.

    Source: https://github.com/cvdfoundation/google-landmark.
    """
    home = _find_home(root, RETRIEVAL, findings)
    if home is None:
        return None
    reading = Reading(findings)
    index = _index(reading, home)
    queries = _Images(reading, home / "test")
    answers, subsets = list[list[int]](), list[str]()
    for place, test_image, listed, usage in _solution(reading, _list(home, RETRIEVAL)):
        names = listed.split()
        if usage is None or names in ([], ["None"]) or not queries.add(place, test_image):
            continue
        subsets.append(usage)
        answers.append([])
        for name in dict.fromkeys(names):
            if (number := index.numbers.get(name)) is None:
                reading.report("unknown image", place, f"the answer {name[:_ID]!r} is not among the index images")
            else:
                answers[-1].append(number)
        if len(set(names)) < len(names):
            reading.report("answer listed twice", place, "an answer stands there twice; it counts once")
    return InstanceSet(queries.paths(findings), index.paths(findings), Relevant(answers, K, subsets))


def read_recognition(root: Path, findings: Findings) -> InstanceSet | None:
    """Read the recognition task: test images search the training images, whose landmarks are known.

    These are the ones of `train_clean.csv` (`landmark_id,images`), or, without it, of `train.csv`
    (`id,url,landmark_id`). The solution lists the test images (`id,landmarks,Usage`); most show no landmark at all, and
    count as wrong if they are near to one. Those that are ignored are no queries.

    Source: https://github.com/cvdfoundation/google-landmark.
    """
    home = _find_home(root, RECOGNITION, findings)
    if home is None:
        return None
    reading = Reading(findings)
    gallery, shown = _training_images(reading, home)
    queries, truth = _Images(reading, home / "test"), list[tuple[int, ...]]()
    for place, test_image, listed, usage in _solution(reading, _list(home, RECOGNITION)):
        landmarks = [reading.number(place, "landmark", text) for text in listed.split()]
        if usage is not None and None not in landmarks and queries.add(place, test_image):
            truth.append(tuple(landmark for landmark in landmarks if landmark is not None))
    return InstanceSet(queries.paths(findings), gallery.paths(findings), Landmarks(shown, truth))


class _Images:
    """Images by their IDs, numbered as they are added, each with the line that lists it."""

    def __init__(self, reading: Reading, folder: Path) -> None:
        self.numbers: dict[str, int] = {}
        self._reading, self._folder = reading, folder
        self._file, self._lines = folder, array("Q")

    def add(self, place: Place, name: str) -> bool:
        """Take an image, or report why not; return whether it was taken. All must be of one list."""
        if len(name) != _ID or not (name.isascii() and name.isalnum()):
            self._reading.truncated(place, name, f"no ID of {_ID} letters and digits")
        elif name in self.numbers:
            first = Place(self._file, self._lines[self.numbers[name]])
            self._reading.report("duplicate path", place, f"{name} is listed already ({first}); remove one of the two")
        else:
            self.numbers[name] = len(self.numbers)
            self._file = place.file
            self._lines.append(place.number)
            return True
        return False

    def paths(self, findings: Findings) -> Paths:
        """Return the images' files, and report the missing ones."""
        paths = Paths(self._folder, (f"{name[0]}/{name[1]}/{name[2]}/{name}.jpg" for name in self.numbers))
        report_missing(findings, paths, lambda number: Place(self._file, self._lines[number]))
        return paths


def _find_home(root: Path, solution: str, findings: Findings) -> Path | None:
    lists = [f"{folder}/{solution}".removeprefix("/") for folder in _FOLDERS]
    unpacked = f"the folder that holds {solution}, index/ and test/"
    return find_home(root, ("gldv2", "google-landmark"), lists, unpacked, findings)


def _list(home: Path, name: str) -> Path:
    """Return a list's file, or where it should be."""
    return next((path for folder in _FOLDERS if (path := home / folder / name).exists()), home / name)


def _solution(reading: Reading, path: Path) -> Iterator[tuple[Place, str, str, str | None]]:
    """Yield for each test image its place, its ID, its truth, and its part; None where it is ignored."""
    for place, line in reading.lines(path):
        fields = line.split(",")
        if place.number == 1 and fields[0] == "id":
            continue
        if len(fields) != 3:
            reading.truncated(place, line, f"{len(fields)} of 3 fields (id, truth, Usage)")
        elif fields[2] not in _USAGES:
            reading.truncated(place, line, f"neither of {', '.join(_USAGES)} at the end")
        else:
            yield place, fields[0], fields[1], _USAGES[fields[2]]


def _index(reading: Reading, home: Path) -> _Images:
    images, path = _Images(reading, home / "index"), _list(home, INDEX)
    if path.exists():
        for place, line in reading.lines(path):
            if place.number > 1 or line != "id":
                images.add(place, line)
        return images
    names = (Path(name) for _, _, files in os.walk(home / "index") for name in files)
    for number, name in enumerate(sorted(name.stem for name in names if name.suffix == ".jpg"), 1):
        images.add(Place(home / "index", number, "file"), name)
    if not images.numbers:
        reading.report("missing file", path, f"no such file, nor any image in {home / 'index'}; get the index again")
    return images


def _training_images(reading: Reading, home: Path) -> tuple[_Images, NDArray[np.int64]]:
    """Return the training images, and the landmark of each."""
    images, landmarks = _Images(reading, home / "train"), array("q")
    clean = _list(home, CLEAN)
    path = clean if clean.exists() else _list(home, TRAIN)
    for place, line in reading.lines(path):
        if path == clean:
            landmark, _, listed = line.partition(",")
            names = listed.split()
        else:
            name, _, rest = line.partition(",")
            names, landmark = [name], rest.rpartition(",")[2]
        if place.number == 1 and "landmark_id" in line:
            continue
        number = reading.number(place, "landmark", landmark)
        if not names:
            reading.truncated(place, line, "a landmark without images")
        elif number is not None:
            for name in names:
                if images.add(place, name):
                    landmarks.append(number)
    return images, np.array(landmarks, dtype=np.int64)


_HOME = "https://github.com/cvdfoundation/google-landmark"
_TERMS = "photographs under their owners' licences; see home page"
GLDV2 = InstanceBenchmark(
    name="gldv2",
    title="Google Landmarks v2, retrieval",
    what="1,129 photographs of landmarks, searched among 761,757; mAP@100 of the public and the private part",
    size="100 GB: index and test images",
    home=_HOME,
    terms=_TERMS,
    queries=1_129,
    gallery=761_757,
    read=read_retrieval,
)
GLDV2_RECOGNITION = InstanceBenchmark(
    name="gldv2-recognition",
    title="Google Landmarks v2, recognition",
    what="117,577 photographs, few of them of landmarks, searched among 1,580,470 whose landmarks are known; GAP",
    size="510 GB: training and test images",
    home=_HOME,
    terms=_TERMS,
    queries=117_577,
    gallery=1_580_470,
    read=read_recognition,
)
