"""Cars196: car models; the first 98 are for training, whatever the devkit's own split says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recallk.data.benchmarks.annotations import Place, Reading, find_home
from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.findings import Findings
from recallk.data.item import Record

_TRAIN_CLASSES, _CLASSES = 98, 196
_WHOLE = "cars_annos.mat"
_PARTS = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
_DEVKITS = ("", "devkit", "car_devkit/devkit", "car_devkit")


def read(root: Path, findings: Findings) -> list[Record]:
    """Read `cars_annos.mat` beside `car_ims/`, or the devkit's two files beside `cars_train/` and `cars_test/`."""
    reading = Reading(findings)
    parts = tuple(str(Path(devkit, name)) for devkit in _DEVKITS for name in _PARTS.values())
    tops = ("stanford_cars", "cars196", "Cars196", "cars")
    home = find_home(
        root,
        tops,
        (_WHOLE, *parts),
        "the folder that holds cars_annos.mat and car_ims/, or devkit/, cars_train/ and cars_test/",
        findings,
    )
    if home is None:
        return []
    if (home / _WHOLE).is_file() and (
        (home / "car_ims").is_dir() or not any((home / part).is_file() for part in parts)
    ):
        _read_file(reading, home / _WHOLE, "relative_im_path", home)
        return reading.records()
    for folder, name in _PARTS.items():
        places = [home / devkit / name for devkit in _DEVKITS]
        path = next((path for path in places if path.is_file()), places[1])
        nested = home / folder / folder  # as some copies unpack
        _read_file(reading, path, "fname", nested if nested.is_dir() else home / folder)
    return reading.records()


def _read_file(reading: Reading, path: Path, field: str, folder: Path) -> None:
    for number, (image, label) in enumerate(_annotations(reading, path, field), 1):
        place = Place(path, number, "annotation")
        if not isinstance(image, str) or np.size(label) != 1:
            reading.truncated(place, f"{field} {image}, class {label}", "no file name or no class")
            continue
        if reading.fields(place, image, ("path",)) is None:
            continue
        value = reading.number(place, "class", str(label).removesuffix(".0"), 1, _CLASSES)  # MATLAB's are doubles
        if value is not None:
            split = "train" if value <= _TRAIN_CLASSES else "test"
            reading.image(place, str(folder), image, f"{value:03}", split)


def _annotations(reading: Reading, path: Path, field: str) -> Iterator[tuple[Any, Any]]:
    """Yield the file's name and the class of each annotation."""
    from scipy.io import loadmat  # slow to import, and `data list` has no need of it

    if not path.is_file():
        reading.report("missing file", path, "no such file; the devkit's files with classes for both parts are needed")
        return
    try:
        annotations = np.atleast_1d(loadmat(path, squeeze_me=True)["annotations"])
        images, labels = annotations[field], annotations["class"]
    except KeyError as error:
        reading.report("missing file", path, f"has no {error}; get the file again")
    except Exception as error:  # scipy raises whatever its parts raise
        why = " ".join(str(error).split())
        reading.report("missing file", path, f"is no .mat file with {field} and class ({why}); get it again")
    else:
        yield from zip(images, labels, strict=True)


BENCHMARK = Benchmark(
    name="cars",
    title="Cars196",
    what="16,185 photographs of 196 models of cars",
    size="1.9 GB",
    home="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    terms="see home page",
    counts={"train": Count(8_054, 98), "test": Count(8_131, 98)},
    read=read,
)
