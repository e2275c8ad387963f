"""Images that keep their shape: shrunk as a whole, in training after a crop; what the reading processes call."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from recallk.data.headers import Size, upright_size
from recallk.data.images import read_image
from recallk.data.item import Depicted, File, Region
from recallk.models.chunks import Preparation
from recallk.models.preprocessing import Interpolation
from recallk.models.settings import Augmentation
from recallk.models.shapes import Shapes
from recallk.models.views import pixels_of, random_view, resampling


@dataclass(frozen=True)
class ShapedViews(Preparation):
    """Pictures of which those of one shape make a chunk `(n, 3, H, W)` uint8."""

    images: Sequence[Depicted]
    shapes: Shapes
    interpolation: Interpolation
    known: dict[File, Size] = field(default_factory=dict, repr=False)
    """The sizes of views, of files whose headers have been read."""

    def kind(self, number: int) -> Size:
        """Return the width and height of an image's view, known from its header."""
        image = self.images[number]
        if not isinstance(image, File):
            return self.shapes.of(upright_size(image), _whole(image))
        if image not in self.known:
            self.known[image] = self.shapes.of(upright_size(image))
        return self.known[image]

    def bytes_of(self, number: int) -> int:
        """Return how much memory an image's view takes."""
        width, height = self.kind(number)
        return 3 * width * height

    def collate(self, prepared: list[Tensor]) -> Tensor:
        """Return the chunk of some views of one shape."""
        return torch.stack(prepared)

    def read(self, number: int) -> tuple[Image.Image, Size]:
        """Return an image, and the width and height of its view."""
        source = self.images[number]
        image = read_image(source)
        return image, self.shapes.of(image.size, _whole(source))


@dataclass(frozen=True)
class ShapedTestViews(ShapedViews):
    """The one view of each test image: all of it."""

    def prepare(self, number: int) -> Tensor:
        """Return the view of an image, `(3, H, W)` uint8."""
        image, size = self.read(number)
        return pixels_of(image.resize(size, resampling(self.interpolation)))


@dataclass(frozen=True, kw_only=True)
class ShapedTrainViews(ShapedViews):
    """The view of each training image in one epoch: a part as wide for its height as the whole, scaled to its view."""

    augmentation: Augmentation
    seed: int
    epoch: int

    def prepare(self, number: int) -> Tensor:
        """Return the view of an image, `(3, H, W)` uint8."""
        image, size = self.read(number)
        ratio = image.width / image.height
        return random_view(
            image,
            size,
            (ratio, ratio),
            self.augmentation,
            self.interpolation,
            seed=self.seed,
            epoch=self.epoch,
            item=number,
        )


def _whole(source: Depicted) -> Size | None:
    return upright_size(source.image) if isinstance(source, Region) else None
