"""An item's number -> its picture as the network sees it; what the readers' processes call."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recallk.data.images import read_image, test_view, train_view
from recallk.data.record import Interpolation


@dataclass(frozen=True)
class TestView:
    """The one view of each test image: `(3, size, size)` uint8."""

    __test__ = False

    images: Sequence[Path | NDArray[np.uint8]]
    resize: int
    size: int
    interpolation: Interpolation

    def __call__(self, item: int) -> Tensor:
        """Read item number `item`."""
        return test_view(read_image(self.images[item]), self.resize, self.size, self.interpolation)


@dataclass(frozen=True)
class TrainView:
    """The view of each training image in one epoch: `(3, size, size)` uint8."""

    images: Sequence[Path | NDArray[np.uint8]]
    size: int
    crop_scale: tuple[float, float]
    horizontal_flip: bool
    seed: int
    epoch: int
    interpolation: Interpolation

    def __call__(self, item: int) -> Tensor:
        """Read item number `item`."""
        image = read_image(self.images[item])
        return train_view(
            image,
            self.size,
            self.crop_scale,
            self.horizontal_flip,
            self.interpolation,
            seed=self.seed,
            epoch=self.epoch,
            item=item,
        )
