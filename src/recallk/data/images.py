"""Any image file becomes 8-bit RGB, and every view of it is a function of the seed, the epoch and the item."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

from recallk.core.errors import InputError
from recallk.data.record import Interpolation

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
_TRAILERS = {"JPEG": (b"\xff\xd9",), "PNG": (b"IEND\xaeB`\x82",), "GIF": (b";",)}
_TRAILER_SPAN = 4096  # cameras and editors append to the end of a file


def read_image(source: Path | NDArray[np.uint8]) -> Image.Image:
    """Return the RGB image of a file, or of pixels `(H, W)` grey or `(H, W, 3)`; turned upright, alpha on white.

    Raises InputError, with the path, where the file is missing, truncated, or no image.
    """
    if not isinstance(source, Path):
        return Image.fromarray(source).convert("RGB")
    try:
        with Image.open(source) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(source, error) from None


def check_image(path: Path) -> None:
    """Raise InputError where the file cannot be an image: by its header and its end, without decoding it."""
    try:
        with Image.open(path) as image:
            trailers = _TRAILERS.get(image.format or "")
        if trailers is not None:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TRAILER_SPAN))
                end = file.read()
            if not any(trailer in end for trailer in trailers):
                raise OSError("the end is missing")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def test_view(image: Image.Image, resize: int, size: int, interpolation: Interpolation) -> Tensor:
    """Return `(3, size, size)` uint8: the shorter side resized to `resize`, the centre cropped."""
    resized = functional.resize(image, [resize], InterpolationMode(interpolation))
    return _pixels(functional.center_crop(resized, [size, size]))


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


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more a channel: to the range of 8
        pixels = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(pixels.max()))
        return Image.fromarray((pixels / top * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such image")
    if isinstance(error, UnidentifiedImageError):
        return InputError(f"{path}: not an image, or of a format that cannot be read; remove or replace it")
    return InputError(f"{path}: truncated or broken image ({error}); remove or replace it")
