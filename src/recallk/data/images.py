"""Any image file becomes 8-bit RGB, and every view of it is a function of the seed, the epoch and the item."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

from recallk.core.errors import InputError
from recallk.data.colour import HALVED_FROM, rgb
from recallk.data.formats import opened
from recallk.data.record import Interpolation

_TRAILERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
_TRAILER_SPAN = 4096  # cameras and editors append to the end of a file
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LONG = 32  # times as long as wide: resized as a whole, 1 x 60,000 pixels would take gigabytes


def read_image(source: Path | NDArray[np.uint8]) -> Image.Image:
    """Return the RGB image of a file, or of uint8 pixels `(H, W)` grey or `(H, W, 3)`.

    Files are turned upright and laid on white; `colour.rgb` says what becomes of other kinds of pixels, and that more
    than 50 megapixels are read at half the width and height. Raises InputError, with the path, where the file is
    missing, truncated, no image or too large (`formats.MOST_PIXELS`), and for pixels of another type or shape.
    """
    if not isinstance(source, Path):
        return _of_pixels(source)
    with opened(source) as image:
        if image.width * image.height > HALVED_FROM:
            image.draft(None, (image.width // 2, image.height // 2))  # a JPEG file comes out at half its size already
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of PIL, opened or made, in any mode: upright, and 8-bit RGB as `colour.rgb` has it."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    upright = rgb(image)
    return upright if turn is None else upright.transpose(turn)


def _of_pixels(pixels: NDArray[np.uint8]) -> Image.Image:
    if not isinstance(pixels, np.ndarray):
        raise InputError(f"an image is a {type(pixels).__name__}; give a path, or pixels as a uint8 array")
    grey, colour = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (grey or colour) or pixels.size == 0:
        raise InputError(f"pixels are {pixels.dtype} of shape {pixels.shape}; give uint8 of shape (H, W) or (H, W, 3)")
    return Image.fromarray(pixels).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return how the camera was held; 1, upright, where the EXIF data is corrupt: the pixels may be whole."""
    try:
        orientation: int = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # struct.error, SyntaxError and others
        return 1
    return orientation if isinstance(orientation, int) else 1


def check_image(path: Path) -> None:
    """Raise InputError where the file cannot be an image: by its header and its end, without decoding it."""
    with opened(path) as image:
        trailer = _TRAILERS.get(image.format or "")
        if trailer is not None:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TRAILER_SPAN))
                if trailer not in file.read():
                    raise OSError("the end is missing")


def test_view(image: Image.Image, resize: int, size: int, interpolation: Interpolation) -> Tensor:
    """Return `(3, size, size)` uint8: the shorter side resized to `resize`, the centre cropped."""
    if max(image.size) > _LONG * min(image.size):
        resized = _middle(image, resize, size, interpolation)
    else:
        resized = functional.resize(image, [resize], InterpolationMode(interpolation))
    return _pixels(functional.center_crop(resized, [size, size]))


def _middle(image: Image.Image, resize: int, size: int, interpolation: Interpolation) -> Image.Image:
    """Return the shorter side resized to `resize`, and of the longer one no more than the middle `size` pixels.

    What cropping the resized whole gives, whose longer side may be millions of pixels: to within a grey level, except
    where bicubic values overshoot the range, as the two directions may then be scaled in the other order.
    """
    short, long = min(image.size), max(image.size)
    resized = int(resize * long / short)
    first = round((resized - size) / 2)
    start, end = (place * long / resized for place in (first, first + size))
    wide = image.width > image.height
    box = (start, 0, end, short) if wide else (0, start, short, end)
    shape = (size, resize) if wide else (resize, size)
    return image.resize(shape, Image.Resampling[interpolation.upper()], box=box)


test_view.__test__ = False  # type: ignore[attr-defined]


def train_view(
    image: Image.Image,
    size: int,
    crop_scale: tuple[float, float],
    horizontal_flip: bool,
    interpolation: Interpolation,
    *,
    seed: int,
    epoch: int,
    item: int,
) -> Tensor:
    """Return `(3, size, size)` uint8: a random crop, perhaps mirrored, the same for the same (seed, epoch, item)."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(mixed_seed(seed, epoch, item))
    # torchvision's choice of the crop; Pillow cuts and scales in one step
    top, left, height, width = RandomResizedCrop.get_params(image, list(crop_scale), [3 / 4, 4 / 3])
    mirrored = horizontal_flip and bool(torch.rand(()) < 0.5)
    torch.set_rng_state(state)
    box = (left, top, left + width, top + height)
    view = image.resize((size, size), Image.Resampling[interpolation.upper()], box=box)
    return _pixels(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def mixed_seed(*numbers: int) -> int:
    """Return a seed below 2**63 that depends on all the numbers and their order."""
    return int(np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
