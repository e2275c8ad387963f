"""The camera that sees a place: a plane rectangle under perspective."""

import math
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

_DISTANCE = 2.0  # of the camera, in lengths of the place; a nearer one would see more perspective

Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]
"""A homography. In plain numbers: the last digits of BLAS and of solvers differ from machine to machine."""


@dataclass(frozen=True)
class Camera:
    """Where a place is in the picture: its centre and its length (the longer side) in pixels; angles in degrees.

    The place is turned by `roll` in its plane, and then leans back by `tilt` about an axis of that plane, at `axis`.
    """

    centre: tuple[float, float]
    length: float
    roll: float
    tilt: float
    axis: float

    @cached_property
    def matrix(self) -> Matrix:
        """From the plane of the place, where its length is 1, to pixels."""
        tilt, axis = math.radians(self.tilt), math.radians(self.axis)
        cos, sin, back, depth = math.cos(axis), math.sin(axis), 1 - math.cos(tilt), math.sin(tilt) / _DISTANCE
        nearer = self._rolled(-sin * depth, cos * depth)
        rows = (
            self._rolled(self.length * (1 - sin * sin * back), self.length * cos * sin * back),
            self._rolled(self.length * cos * sin * back, self.length * (1 - cos * cos * back)),
        )
        across, down = (
            (row[0] + place * nearer[0], row[1] + place * nearer[1], place)
            for row, place in zip(rows, self.centre, strict=True)
        )
        return across, down, (*nearer, 1.0)

    def corners(self, width: float, height: float) -> list[tuple[float, float]]:
        """Return where the four corners of a place are in the picture; the longer of its sides is 1."""
        found = []
        for x, y in ((-width, -height), (width, -height), (width, height), (-width, height)):
            across, down, depth = (row[0] * x / 2 + row[1] * y / 2 + row[2] for row in self.matrix)
            found.append((across / depth, down / depth))
        return found

    def warped(self, image: Image.Image, width: float, height: float, size: tuple[int, int]) -> Image.Image:
        """Return the picture of a place of these sides that looks like `image`; 0 beside it."""
        across, down, depth = _inverse(self.matrix)
        u, v = image.width / width, image.height / height
        across_image, down_image = (
            [scale * value + half * d for value, d in zip(row, depth, strict=True)]
            for row, scale, half in ((across, u, image.width / 2), (down, v, image.height / 2))
        )
        coefficients = [value / depth[2] for value in (*across_image, *down_image, *depth[:2])]
        return image.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)

    def _rolled(self, x: float, y: float) -> tuple[float, float]:
        cos, sin = math.cos(math.radians(self.roll)), math.sin(math.radians(self.roll))
        return cos * x + sin * y, cos * y - sin * x


def area(corners: list[tuple[float, float]]) -> float:
    """Return the area of a polygon."""
    turned = [*corners[1:], corners[0]]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, turned, strict=True))) / 2


def _inverse(matrix: Matrix) -> Matrix:
    """Return the inverse, up to a factor: a homography has none of its own."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
