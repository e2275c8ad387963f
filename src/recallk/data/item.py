"""The one shape in which every data set hands over its images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["bilinear", "bicubic"]
"""How an image is scaled."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set.

    `image` is a file, or pixels `(H, W)` grey or `(H, W, 3)` RGB; `split` is "train", "test" or what a
    benchmark calls its test sets, and None where nothing is split yet.
    """

    image: Path | NDArray[np.uint8]
    label: str
    split: str | None = None
