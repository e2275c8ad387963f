"""Any image file, and pixels in memory, become 8-bit RGB."""

from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recallk.core.errors import InputError
from recallk.core.text import shown
from recallk.data.colour import HALVED_FROM, rgb
from recallk.data.drawing import drawn
from recallk.data.formats import MOST_PIXELS, open_file, open_image
from recallk.data.headers import box_of, check_pixels, orientation
from recallk.data.item import Depicted, Drawing, File, Region

_TRAILERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
_TRAILER_SPAN = 4096  # cameras and editors append to the end of a file
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIDEWAYS = (5, 6, 7, 8)


def read_image(source: Depicted) -> Image.Image:
    """Return the RGB image of a file, of uint8 pixels `(H, W)` grey or `(H, W, 3)`, of a part of either, or a drawing.

    Files are turned upright and laid on white; `colour.rgb` says what becomes of other kinds of pixels, and that more
    than 50 megapixels are read at half the width and height. Raises InputError, with the path, where the file is
    missing, truncated, no image or too large (`formats.MOST_PIXELS`), for pixels of another type or shape, and for a
    part that lies outside of its image, and what `drawing.drawn` raises.
    """
    if isinstance(source, Region):
        whole = read_image(source.image)
        return whole.crop(box_of(source))
    if isinstance(source, Drawing):
        return drawn(source)
    if not isinstance(source, File):
        return _of_pixels(source)
    with open_image(source) as image:
        if image.width * image.height > HALVED_FROM:
            image.draft(None, (image.width // 2, image.height // 2))  # a JPEG file comes out at half its size already
        return as_rgb(image)


def read_bytes(content: bytes, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """Return the RGB image of a file's bytes, as `read_image`, which raises InputError without a path here."""
    with NamedTemporaryFile(suffix=".image") as file:
        file.write(content)
        file.flush()
        try:
            with open_image(Path(file.name)) as image:
                if image.width * image.height > most_pixels:
                    raise InputError(f"{image.width:,} x {image.height:,} pixels; scale it down")
            return read_image(Path(file.name))
        except InputError as error:
            raise InputError(str(error).removeprefix(f"{file.name}: ")) from None


def png_of(item: Depicted) -> bytes:
    """Return an image that is no file, such as pixels or a drawing, as one."""
    held = BytesIO()
    read_image(item).save(held, format="PNG")
    return held.getvalue()


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of PIL, opened or made, in any mode: upright, and 8-bit RGB as `colour.rgb` has it."""
    image.load()
    turn = _TURNS.get(orientation(image))
    upright = rgb(image)
    return upright if turn is None else upright.transpose(turn)


def _of_pixels(pixels: NDArray[np.uint8]) -> Image.Image:
    check_pixels(pixels)
    return Image.fromarray(pixels).convert("RGB")


def check_image(source: File | Drawing) -> None:
    """Raise InputError where a file cannot be an image, by its header and its end, or a drawing cannot be drawn."""
    if isinstance(source, Drawing):
        drawn(source)
        return
    with open_image(source) as image:
        trailer = _TRAILERS.get(image.format or "")
        if trailer is not None:
            with open_file(source) as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TRAILER_SPAN))
                if trailer not in file.read():
                    raise OSError("the end is missing")


def fault_of(source: File | Drawing, *, decoded: bool = False) -> str | None:
    """Return why a file cannot be an image, or a drawing not be drawn, as `check_image` says; None where it can.

    Where it is to be `decoded`, as `read_image` says, too.
    """
    try:
        check_image(source)
        if decoded:
            read_image(source)
    except InputError as error:
        return str(error).removeprefix(f"{shown(source)}: ")
    return None
