"""How an image is cut and scaled: at test its centre, in training a random crop; what the reading processes call."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recallk.core.seeds import mixed_seed
from recallk.data.headers import Size
from recallk.data.images import read_image
from recallk.data.item import Depicted
from recallk.models.augment import vary
from recallk.models.chunks import Preparation
from recallk.models.preprocessing import Interpolation
from recallk.models.settings import Augmentation

_LONG = 32  # times as long as wide: resized as a whole, 1 x 60,000 pixels would take gigabytes


class Views(Preparation):
    """Pictures as a network of squares sees them, put together to chunks `(n, 3, S, S)` uint8."""

    def collate(self, prepared: list[Tensor]) -> Tensor:
        """Return the chunk of some views."""
        return torch.stack(prepared)


@dataclass(frozen=True)
class TestViews(Views):
    """The one view of each test image."""

    __test__ = False

    images: Sequence[Depicted]
    resize: int
    size: int
    interpolation: Interpolation

    def prepare(self, number: int) -> Tensor:
        """Return the view of an image, `(3, size, size)` uint8."""
        return test_view(read_image(self.images[number]), self.resize, self.size, self.interpolation)


@dataclass(frozen=True)
class TrainViews(Views):
    """The view of each training image in one epoch."""

    images: Sequence[Depicted]
    size: int
    interpolation: Interpolation
    augmentation: Augmentation
    seed: int
    epoch: int

    def prepare(self, number: int) -> Tensor:
        """Return the view of an image, `(3, size, size)` uint8."""
        return train_view(
            read_image(self.images[number]),
            self.size,
            self.augmentation,
            self.interpolation,
            seed=self.seed,
            epoch=self.epoch,
            item=number,
        )


def test_view(image: Image.Image, resize: int, size: int, interpolation: Interpolation) -> Tensor:
    """Return `(3, size, size)` uint8: the shorter side resized to `resize`, the centre cropped."""
    from torchvision.transforms import InterpolationMode, functional  # takes seconds, and vectors have no need of it

    if max(image.size) > _LONG * min(image.size):
        resized = _middle(image, resize, size, interpolation)
    else:
        resized = functional.resize(image, [resize], InterpolationMode(interpolation))
    return pixels_of(functional.center_crop(resized, [size, size]))


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
    return image.resize(shape, resampling(interpolation), box=box)


test_view.__test__ = False  # type: ignore[attr-defined]


def train_view(
    image: Image.Image,
    size: int,
    augmentation: Augmentation,
    interpolation: Interpolation,
    *,
    seed: int,
    epoch: int,
    item: int,
) -> Tensor:
    """Return `(3, size, size)` uint8: a random crop, varied, the same for the same (seed, epoch, item)."""
    ratios = 3 / 4, 4 / 3
    return random_view(image, (size, size), ratios, augmentation, interpolation, seed=seed, epoch=epoch, item=item)


def random_view(
    image: Image.Image,
    size: Size,
    ratios: tuple[float, float],
    augmentation: Augmentation,
    interpolation: Interpolation,
    *,
    seed: int,
    epoch: int,
    item: int,
) -> Tensor:
    """Return `(3, H, W)` uint8 of a width and height: a random crop, its width for its height between two `ratios`.

    Perhaps mirrored, and then as `augment` says; the same for the same (seed, epoch, item).
    """
    from torchvision.transforms import RandomResizedCrop  # as in `test_view`

    state = torch.get_rng_state()
    torch.default_generator.manual_seed(mixed_seed(seed, epoch, item))
    try:
        # torchvision's choice of the crop; Pillow cuts and scales in one step
        top, left, height, width = RandomResizedCrop.get_params(image, list(augmentation.crop_scale), list(ratios))
        mirrored = augmentation.horizontal_flip and bool(torch.rand(()) < 0.5)
        box = (left, top, left + width, top + height)
        view = image.resize(size, resampling(interpolation), box=box)
        pixels = pixels_of(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)
        return vary(pixels, augmentation.transforms)
    finally:
        torch.set_rng_state(state)


def resampling(interpolation: Interpolation) -> Image.Resampling:
    """Return Pillow's name of an interpolation."""
    return Image.Resampling[interpolation.upper()]


def pixels_of(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, `(3, H, W)` uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
