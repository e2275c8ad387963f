"""Photographs that packages of recallk[train] ship, and the rectangles that they are cut into, the places."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from recallk.core.errors import InputError
from recallk.data.colour import rgb

_MATPLOTLIB = "matplotlib/mpl-data/sample_data"
_SKIMAGE = "skimage/data"
_SKLEARN = "sklearn/datasets/images"

SCENES = (
    f"{_SKIMAGE}/astronaut.png",
    f"{_SKIMAGE}/camera.png",
    f"{_SKIMAGE}/chelsea.png",
    f"{_SKIMAGE}/coffee.png",
    f"{_SKIMAGE}/coins.png",
    f"{_SKIMAGE}/motorcycle_left.png",
    f"{_SKIMAGE}/rocket.jpg",
    f"{_SKLEARN}/china.jpg",
    f"{_SKLEARN}/flower.jpg",
    f"{_MATPLOTLIB}/grace_hopper.jpg",
)
"""Photographs whose places are trained or tested on."""
OTHERS = (f"{_SKIMAGE}/brick.png", f"{_SKIMAGE}/grass.png")
"""Photographs that have only distractors."""
CLUTTER = (
    f"{_SKIMAGE}/gravel.png",
    f"{_SKIMAGE}/hubble_deep_field.jpg",
    f"{_SKIMAGE}/ihc.png",
    f"{_SKIMAGE}/moon.png",
    f"{_SKIMAGE}/retina.jpg",
)
"""Photographs that surround and hide places, and have none themselves."""

_TWICE = {"camera 136,456", "coffee 0,72", "coins 200,0", "rocket 272,320"}
"""Places that look like another of the same photograph."""
_LONGEST = 768  # pixels of a photograph: a place of a larger one would show too little of it

# in turn, so that the places of a photograph differ in shape
_HEIGHTS = (72, 56, 64)
_WIDTHS = (64, 80, 56, 72)

# in grey levels; below them are sky, walls and what is out of focus
_LEAST_CONTRAST = 18.0
_LEAST_DETAIL = 5.0


@dataclass(frozen=True)
class Place:
    """A rectangle of a photograph: left, top, right, bottom. `name` is such as "china 0,72"."""

    name: str
    file: str
    box: tuple[int, int, int, int]
    mirrored: bool = False

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height in the photograph."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height where the longer of the two is 1."""
        width, height = self.pixels
        return width / max(self.pixels), height / max(self.pixels)


@cache
def photograph(file: str) -> Image.Image:
    """Return a photograph in RGB. Raises InputError where its package does not have it."""
    package, _, below = file.partition("/")
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, below)
        if path.is_file():
            with Image.open(path) as image:
                whole = rgb(image).copy()
            whole.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
            return whole
    raise InputError(f"places: {package} comes without {below} here: install it anew with pip")


def places_of(file: str) -> list[Place]:
    """Return the places of a photograph that can be told from others; none overlaps another."""
    image, name = photograph(file), Path(file).stem
    found = [Place(f"{name} {box[0]},{box[1]}", file, box) for box in _boxes(*image.size) if _is_detailed(image, box)]
    return [place for place in found if place.name not in _TWICE]


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    top = 0
    for row, high in enumerate(itertools.cycle(_HEIGHTS)):
        if top + high > height:
            return
        left = 0
        for column in itertools.count(row):
            wide = _WIDTHS[column % len(_WIDTHS)]
            if left + wide > width:
                break
            yield left, top, left + wide, top + high
            left += wide
        top += high


def _is_detailed(image: Image.Image, box: tuple[int, int, int, int]) -> bool:
    grey = np.asarray(image.crop(box).convert("L"), dtype=np.float64)
    detail = (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2
    return bool(grey.std() >= _LEAST_CONTRAST and detail >= _LEAST_DETAIL)
