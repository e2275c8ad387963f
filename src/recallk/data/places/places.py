"""The places data set: landmarks to train on, and others to test on; nothing to download.

- A class is a place: a rectangle of a photograph that ships inside scikit-image, scikit-learn or matplotlib. No two
  overlap.
- Its images are views of it, 96 pixels long in five shapes: from other sides and distances, in other light, partly
  hidden, with parts of photographs around it that have no places. A view is easy, hard or junk, by what it was drawn
  with.
- By its name a place is trained on (half of them, and mirrored as classes of their own), tested on (four in ten), or a
  distractor, as are the places of two further photographs: no class, and in the gallery of the benchmark alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recallk.data.item import Record, Region
from recallk.data.places.photographs import OTHERS, SCENES, Place, places_of
from recallk.data.places.views import Grade, Size, View, draw_views

_TRAIN_VIEWS: Mapping[Grade, int] = {"easy": 4, "hard": 4}
_TEST_VIEWS: Mapping[Grade, int] = {"easy": 3, "hard": 4, "junk": 2}
_DISTRACTOR_VIEWS: Mapping[Grade, int] = {"easy": 1, "hard": 3}
_TRAINED, _TESTED = 0.5, 0.9
"""Places below the first number are trained on, those from the second on are distractors."""
_QUERY_SIZE: Size = (128, 96)
_QUERY_VISIBLE = 0.9


@dataclass(frozen=True)
class Landmark:
    """A place of the test side: an uncropped query, and the views that answer it."""

    name: str
    query: Region
    views: Sequence[View]

    @property
    def cropped(self) -> NDArray[np.uint8]:
        """What of the query is in its box: `(H, W, 3)`."""
        assert isinstance(self.query.image, np.ndarray)
        left, top, right, bottom = self.query.box
        return self.query.image[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)]


def places(seed: int = 0) -> list[Record]:
    """Draw the data set, in seconds and the same for the same seed.

    Args:
        seed: of the views. The places, and which are for testing, are always the same.

    Returns:
        Records of training and of test classes: images `(H, W, 3)` uint8 of five shapes; labels such as
        "china 0,72", a photograph and where in it the place is; 8 images of each training class, and 8 of
        each test class, one of them the landmark of the benchmark's query alone.

    Raises:
        InputError: a package came without its photographs.

    """
    return list(_drawn(seed))


@lru_cache(maxsize=1)  # a run reads its data twice: to train, and for its report
def _drawn(seed: int) -> Sequence[Record]:
    train = [
        Record(view.pixels, place.name, "train")
        for place in _train_places()
        for view in _views(place, _TRAIN_VIEWS, seed)
    ]
    test = [
        Record(pixels, landmark.name, "test")
        for landmark in landmarks(seed)
        for pixels in (landmark.cropped, *(view.pixels for view in landmark.views if view.grade != "junk"))
    ]
    return train + test


@lru_cache(maxsize=1)  # training and test in one process draw once
def landmarks(seed: int = 0) -> Sequence[Landmark]:
    """Draw the landmarks of the test side, in seconds. Raises InputError as `places` does."""
    drawn = []
    for place in _test_places()[0]:
        generator = _generator(place, seed, "query")
        (query,) = draw_views(place, {"easy": 1}, generator, [_QUERY_SIZE], _QUERY_VISIBLE)
        drawn.append(Landmark(place.name, Region(query.pixels, query.box), _views(place, _TEST_VIEWS, seed)))
    return drawn


@lru_cache(maxsize=1)  # of each evaluation in a process
def distractors(seed: int = 0) -> Sequence[NDArray[np.uint8]]:
    """Draw views `(H, W, 3)` of places of the test side that are no landmarks. Raises InputError as `places` does."""
    return [view.pixels for place in _test_places()[1] for view in _views(place, _DISTRACTOR_VIEWS, seed)]


def _train_places() -> list[Place]:
    """Return the places to train on, and their mirror images: nobody sees a place from behind."""
    found = [place for file in SCENES for place in places_of(file) if _side(place) < _TRAINED]
    return found + [replace(place, name=f"{place.name} mirrored", mirrored=True) for place in found]


def _side(place: Place) -> float:
    """Return a number from 0 to below 1 that is the place's own, whatever else is found."""
    return crc32(place.name.encode()) / 2**32


def _test_places() -> tuple[list[Place], list[Place]]:
    """Return the landmarks to test on, and the places that are none."""
    found = [place for file in SCENES for place in places_of(file) if _side(place) >= _TRAINED]
    left_out = {place for place in found if _side(place) >= _TESTED}
    others = [place for file in OTHERS for place in places_of(file)]
    return [place for place in found if place not in left_out], [place for place in found if place in left_out] + others


def _views(place: Place, counts: Mapping[Grade, int], seed: int) -> list[View]:
    return list(draw_views(place, counts, _generator(place, seed, "views")))


def _generator(place: Place, seed: int, what: str) -> np.random.Generator:
    """Return random numbers of this place alone: others that come or go change none of its views."""
    return np.random.default_rng([seed, *f"{what} of {place.name}".encode()])
