"""Views of a place: from some side and distance, in some light, partly hidden, with other things around it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from recallk.data.places.camera import Camera, area
from recallk.data.places.photographs import CLUTTER, Place, photograph

Grade = Literal["easy", "hard", "junk"]
Size = tuple[int, int]
Box = tuple[float, float, float, float]

SIZES: tuple[Size, ...] = ((96, 96), (96, 72), (72, 96), (96, 64), (64, 96))
"""Widths and heights of views, in pixels."""

# a view is junk where less of the place is visible, or it is smaller
JUNK_VISIBLE = 0.4  # share of its area
JUNK_SIDE = 16.0  # pixels, the root of the visible area
# and easy where all of this holds; hard is what lies between
EASY_VISIBLE = 0.8
EASY_LENGTH = 48.0  # pixels
EASY_TILT = 20.0  # degrees
EASY_ROLL = 10.0
EASY_LIGHT = 0.3

_SEVERITIES: Mapping[Grade, tuple[float, float]] = {"easy": (0.0, 0.5), "hard": (0.3, 1.0), "junk": (0.8, 1.0)}
"""Where views of a grade are looked for."""
_SQUARENESS = 6  # of a place's outline: 2 would be an ellipse
_SOFTNESS = 0.4
_OUTLINE = 64  # pixels a side
_LARGE_THINGS = 0.5  # share of the views in which a large thing stands before the place


@dataclass(frozen=True)
class View:
    """A picture `(H, W, 3)` uint8 of a place, the box around the place in it, and how hard it is to recognise."""

    pixels: NDArray[np.uint8]
    box: Box
    grade: Grade
    visible: float  # share of the place


@dataclass(frozen=True)
class _Light:
    """How brightness, from 0 to 1, changes: gain * brightness ** gamma for each colour, and haze laid upon it."""

    gains: NDArray[np.float64]
    gamma: float
    haze: float

    @property
    def strength(self) -> float:
        return max(float(np.abs(np.log(self.gains)).max()), abs(math.log(self.gamma)), 2 * self.haze)

    def on(self, picture: Image.Image) -> Image.Image:
        levels = np.arange(256) / 255
        lit = self.haze + (1 - self.haze) * self.gains[:, None] * levels**self.gamma
        return picture.point((255 * lit.clip(0, 1)).round().astype(int).ravel().tolist())


def draw_views(
    place: Place,
    counts: Mapping[Grade, int],
    generator: np.random.Generator,
    sizes: Sequence[Size] = SIZES,
    least_visible: float = 0.0,
) -> Iterator[View]:
    """Yield so many views of each grade, as they come, each of one of these sizes."""
    left = dict(counts)
    while any(left.values()):
        view = _draw(place, left, generator, sizes[int(generator.integers(len(sizes)))], least_visible)
        if view is not None:
            left[view.grade] -= 1
            yield view


def _draw(
    place: Place, left: Mapping[Grade, int], generator: np.random.Generator, size: Size, least_visible: float
) -> View | None:
    """Draw one view, or None where it is none that is wanted."""
    wanted = [grade for grade in left if left[grade]]
    least, most = _SEVERITIES[wanted[int(generator.integers(len(wanted)))]]
    severity = generator.uniform(least, most)
    camera, light = _camera(place, severity, generator, size), _light(severity, generator)
    mild = (
        camera.length >= EASY_LENGTH
        and camera.tilt <= EASY_TILT
        and abs(camera.roll) <= EASY_ROLL
        and light.strength <= EASY_LIGHT
    )
    if not (mild or left.get("hard") or left.get("junk")):
        return None
    hidden = _things_before(camera, severity, generator, size)
    outline = camera.warped(_outline(), *place.sides, size)
    seen = float((np.asarray(outline, np.int64) * (255 - np.asarray(hidden, np.int64))).sum()) / 255**2
    corners = camera.corners(*place.sides)
    visible = seen / (area(corners) * _outlined())
    if visible < JUNK_VISIBLE or seen < JUNK_SIDE**2:
        grade: Grade = "junk"
    else:
        grade = "easy" if mild and visible >= EASY_VISIBLE else "hard"
    if not left.get(grade) or visible < least_visible:
        return None
    picture = _clutter(generator, size)
    picture.paste(camera.warped(_seen_from_afar(place, camera.length), *place.sides, size), mask=outline)
    if hidden.getbbox() is not None:
        picture.paste(_clutter(generator, size), mask=hidden)
    if generator.random() < 1 / 3:
        picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.0)))
    return View(np.asarray(light.on(picture)), _box_around(corners, size), grade, visible)


def _box_around(corners: list[tuple[float, float]], size: Size) -> Box:
    """Return the part of a picture that holds these corners; what is outside of the picture is left out."""
    across, down = ([min(max(corner[side], 0.0), float(size[side])) for corner in corners] for side in range(2))
    return min(across), min(down), max(across), max(down)


def _camera(place: Place, severity: float, generator: np.random.Generator, size: Size) -> Camera:
    whole = min(side / of_place for side, of_place in zip(size, place.sides, strict=True))  # the length that just fits
    off, nearer, roll, tilt = generator.uniform(-1, 1, 2), *generator.uniform(-1, 1, 2), generator.random()
    centre = (0.5 + severity * 0.12 * off) * size
    length = whole * math.exp((0.05 + 0.45 * severity) * nearer)
    axis = 360 * generator.random()
    return Camera((float(centre[0]), float(centre[1])), length, 20 * severity * roll, 50 * severity * tilt, axis)


def _light(severity: float, generator: np.random.Generator) -> _Light:
    gain, gamma, *cast = generator.uniform(-1, 1, 5)
    gains = np.exp(severity * (0.5 * gain + 0.12 * np.array(cast)))
    return _Light(gains, math.exp(severity * 0.3 * gamma), 0.2 * severity * generator.random())


def _things_before(camera: Camera, severity: float, generator: np.random.Generator, size: Size) -> Image.Image:
    """Draw what hides parts of the picture: 255 where it does."""
    hidden = Image.new("L", size)
    draw = ImageDraw.Draw(hidden)
    for _ in range(int(3 * severity * generator.random())):
        draw.polygon(_polygon(generator.random(2) * size, max(size) * generator.uniform(0.1, 0.3), generator), fill=255)
    if generator.random() < _LARGE_THINGS * severity:
        beside = camera.centre + generator.uniform(-0.4, 0.4, 2) * camera.length
        draw.polygon(_polygon(beside, camera.length * generator.uniform(0.3, 0.8), generator), fill=255)
    return hidden.filter(ImageFilter.BoxBlur(1)) if hidden.getbbox() is not None else hidden


def _polygon(centre: NDArray[np.float64], radius: float, generator: np.random.Generator) -> list[tuple[float, float]]:
    corners = int(generator.integers(4, 10))
    angles = 2 * math.pi * (np.arange(corners) + generator.random(corners)) / corners
    radii = radius * generator.uniform(0.7, 1.0, corners)
    return [
        (float(centre[0] + r * math.cos(a)), float(centre[1] + r * math.sin(a)))
        for r, a in zip(radii, angles, strict=True)
    ]


def _seen_from_afar(place: Place, length: float) -> Image.Image:
    """Return the place's pixels, fewer where the picture shows it small: what is warped is not averaged."""
    scale = min(1.0, length / max(place.pixels))
    width, height = (max(1, round(scale * side)) for side in place.pixels)
    seen = photograph(place.file).resize((width, height), Image.Resampling.BILINEAR, box=place.box)
    return seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if place.mirrored else seen


def _clutter(generator: np.random.Generator, size: Size) -> Image.Image:
    """Return a part of some photograph, mostly out of focus."""
    image = _halved(CLUTTER[int(generator.integers(len(CLUTTER)))])
    zoom = min(generator.uniform(0.4, 1.5), image.width / size[0], image.height / size[1])
    width, height = zoom * size[0], zoom * size[1]
    left, top = generator.random() * (image.width - width), generator.random() * (image.height - height)
    part = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    return part.filter(ImageFilter.GaussianBlur(generator.uniform(0.0, 2.0)))


@cache
def _halved(file: str) -> Image.Image:
    return photograph(file).reduce(2)


@cache
def _outline() -> Image.Image:
    """Return the outline of every place: 255 inside, with round corners and a soft edge."""
    powers = np.abs((np.arange(_OUTLINE) + 0.5) / _OUTLINE * 2 - 1) ** _SQUARENESS
    inside = (1 - powers[:, None] - powers) / _SOFTNESS
    return Image.fromarray((255 * inside.clip(0, 1)).round().astype(np.uint8))


@cache
def _outlined() -> float:
    """Return the share of a place's rectangle that is inside its outline."""
    return float(np.asarray(_outline(), np.float64).mean()) / 255
