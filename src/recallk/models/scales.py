"""Images embedded at several scales, for one embedding of all."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from recallk.core.errors import InputError
from recallk.core.text import brief

Scales = tuple[float, ...]
"""Factors by which images are scaled before they are embedded."""
ONE_SCALE: Scales = (1.0,)
MOST, LARGEST = 16, 16.0


def checked_scales(scales: Any) -> Scales:
    """Return scales as floats. Raises InputError where they are not 1 to 16 numbers above 0, and at most 16.

    >>> checked_scales([1, 0.5])
    (1.0, 0.5)

    """
    values = tuple(scales) if isinstance(scales, Iterable) and not isinstance(scales, str | bytes) else ()
    if not 1 <= len(values) <= MOST:
        raise InputError(f"scales={brief(scales)}: 1 to {MOST} numbers are needed, such as (1, 0.7071, 0.5)")
    for scale in values:
        if isinstance(scale, bool) or not isinstance(scale, int | float | np.floating) or not 0 < scale <= LARGEST:
            raise InputError(f"scales: every scale must be a number above 0, at most {LARGEST:g}, got {brief(scale)}")
    return tuple(map(float, values))


def scaled(side: int, scale: float, multiple: int = 1, least: int = 1) -> int:
    """Return the side of a scaled image, in pixels: whole, and the multiple next to that which a network needs.

    >>> scaled(224, 0.7071), scaled(518, 0.7071, multiple=14, least=14)
    (158, 364)

    """
    return max(round(int(side * scale) / multiple) * multiple, least)
