"""Who searches what."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Search:
    """One test set: the items `queries` search the items `gallery`, or, without one, each searches all the others.

    Both are indexes into the items of the test split. `name` tells several test sets apart; "" where there is one.
    """

    name: str
    queries: NDArray[np.int64]
    gallery: NDArray[np.int64] | None = None
