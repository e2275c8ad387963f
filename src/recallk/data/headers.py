"""How large an image is once it is read, told by its header: no pixels are decoded."""

import math
import struct
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recallk.core.errors import InputError
from recallk.core.text import brief
from recallk.data import colour
from recallk.data.formats import open_file, open_image
from recallk.data.item import Depicted, Drawing, File, Region

Size = tuple[int, int]
"""Width and height."""

_ORIENTATION = 0x0112
_SIDEWAYS = 5  # from this value on, width and height change places
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_PNG_SIGNATURE = 8
_PNG_TEXTS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})


def upright_size(source: Depicted) -> Size:
    """Return the width and height of what `images.read_image` returns.

    Raises InputError as that does, but for what only decoding shows.
    """
    if isinstance(source, Region):
        left, top, right, bottom = box_of(source)
        return right - left, bottom - top
    if isinstance(source, Drawing):
        return source.side, source.side
    return _as_read(_as_stored(source), source)


def box_of(region: Region) -> tuple[int, int, int, int]:
    """Return the pixels of a region, left, top, right, bottom, in its image as it is read, upright.

    Rounded as Pillow does, and cut off at the edges of the image; where that is read at half its size, so is the box.
    Raises InputError where nothing is left of it.
    """
    stored = _as_stored(region.image)
    width, height = _as_read(stored, region.image)
    given: Any = region.box  # by a Python program, which may have given anything
    box = list(given) if isinstance(given, Iterable) else []
    if len(box) != 4 or not all(isinstance(place, Real) and math.isfinite(place) for place in box):
        raise InputError(f"{_name(region)}: the box {brief(region.box)}: give four numbers, left, top, right, bottom")
    across, down = width / stored[0], height / stored[1]
    left, top, right, bottom = (
        round(place * scale) for place, scale in zip(box, (across, down, across, down), strict=True)
    )
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        raise InputError(
            f"{_name(region)}: the box {region.box} holds no pixel of the image, which has {stored[0]} x {stored[1]}; "
            f"give left, top, right, bottom in pixels of the upright image"
        )
    return left, top, right, bottom


def check_pixels(pixels: object) -> None:
    """Raise InputError for what is no uint8 array `(H, W)` or `(H, W, 3)` with a pixel in it."""
    if not isinstance(pixels, np.ndarray):
        raise InputError(f"an image is a {type(pixels).__name__}; give a path, or pixels as a uint8 array")
    grey, colour = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (grey or colour) or pixels.size == 0:
        raise InputError(f"pixels are {pixels.dtype} of shape {pixels.shape}; give uint8 of shape (H, W) or (H, W, 3)")


def orientation(image: Image.Image) -> int:
    """Return how the camera was held; 1, upright, where the EXIF data is corrupt: the pixels may be whole."""
    try:
        return _turned(image.getexif())
    except Exception:  # struct.error, SyntaxError and others
        return 1


def _turned(exif: Image.Exif) -> int:
    found = exif.get(_ORIENTATION, 1)
    return found if isinstance(found, int) else 1


def _as_stored(source: File | NDArray[np.uint8]) -> Size:
    """Return the size of a whole image, turned upright."""
    if not isinstance(source, File):
        check_pixels(source)
        return source.shape[1], source.shape[0]
    with open_image(source) as image:
        width, height = image.size
        if image.format == "TIFF":  # of which Pillow may have turned the size already
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT])
        sideways = _orientation_in_header(image, source) >= _SIDEWAYS
    return (height, width) if sideways else (width, height)


def _as_read(stored: Size, source: File | NDArray[np.uint8]) -> Size:
    width, height = stored
    if not isinstance(source, File) or width * height <= colour.HALVED_FROM:
        return width, height
    return -(-width // 2), -(-height // 2)


def _orientation_in_header(image: Image.Image, source: File) -> int:
    """Return the orientation, without the pixels that Pillow would decode to learn what a PNG file says after them."""
    if image.format != "PNG" or _png_goes_on(source):
        return orientation(image)
    try:
        return _turned(Image.Image.getexif(image))
    except Exception:
        return 1


def _png_goes_on(source: File) -> bool:
    """Whether a PNG file has texts, EXIF data among them, after its pixels."""
    pixels = False
    with open_file(source) as file:
        file.seek(_PNG_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if pixels and kind in _PNG_TEXTS:
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(length + 4, 1)
    return False


def _name(region: Region) -> str:
    return str(region.image) if isinstance(region.image, File) else "a part of pixels"
