"""Which shapes a network takes, and which of them an image is scaled to where it keeps its own."""

from collections.abc import Callable
from dataclasses import dataclass

from recallk.data.headers import Size

_MULTIPLES = (1, 2, 4, 7, 8, 14, 16, 28, 32, 64)


@dataclass(frozen=True)
class Shapes:
    """Shapes whose longer side is at most `size`, and whose sides are multiples of a number, at least `least`."""

    size: int
    multiple: int = 1
    least: int = 1

    @property
    def largest(self) -> int:
        """The longest side that there is."""
        return self.size // self.multiple * self.multiple

    def of(self, image: Size, whole: Size | None = None) -> Size:
        """Return the width and height that an image is scaled to: shrunk until its longer side is `size`.

        Never enlarged, but for a side shorter than `least`. A part of an image is scaled as the `whole` would be.

        >>> Shapes(1024).of((2000, 1500)), Shapes(1024).of((500, 300)), Shapes(1024).of((500, 300), (2000, 1500))
        ((1024, 768), (500, 300), (256, 154))
        >>> Shapes(518, multiple=14, least=14).of((2000, 1500)), Shapes(518, 14, 14).of((60_000, 1))
        ((518, 392), (518, 14))

        """
        shrunk = min(1.0, self.size / max(whole or image))
        width, height = (self._nearest(side, side * shrunk) for side in image)
        return width, height

    def takes(self, size: Size) -> bool:
        """Whether the network takes images of this width and height, which may be larger than `size`."""
        return all(side % self.multiple == 0 and side >= self.least for side in size)

    def _nearest(self, side: int, shrunk: float) -> int:
        """Return the multiple next to a side once it is shrunk, of those that enlarge nothing."""
        most = min(side, self.size) // self.multiple
        return max(min(round(shrunk / self.multiple), most) * self.multiple, self.least)


def find_shapes(size: int, try_out: Callable[[Size], None]) -> Shapes:
    """Return the shapes that a network takes, found by trying a few; `try_out` raises where it does not take one.

    Raises what `try_out` raised last where there are none whose longer side is at most `size`.
    """
    multiples = [multiple for multiple in _MULTIPLES if multiple <= size]
    found = _first([Shapes(size, multiple) for multiple in multiples], _uneven, try_out)
    doublings = range((found.largest // found.multiple).bit_length())
    return _first([Shapes(size, found.multiple, found.multiple << n) for n in doublings], _outermost, try_out)


def _first(candidates: list[Shapes], sizes: Callable[[Shapes], list[Size]], try_out: Callable[[Size], None]) -> Shapes:
    """Return the first whose sizes can all be tried out. Raises the last one's error where there is none."""
    for candidate in candidates:
        try:
            for tried in sizes(candidate):
                try_out(tried)
            return candidate
        except Exception:
            if candidate is candidates[-1]:
                raise
    raise ValueError("no candidates")


def _uneven(shapes: Shapes) -> list[Size]:
    """Return two sizes whose sides are odd multiples, so that no larger number divides both."""
    count = shapes.size // shapes.multiple
    longer, shorter = (shapes.multiple * odd for odd in ((count - 1) | 1, (2 * count // 3) | 1))
    return [(longer, shorter), (shorter, longer)]


def _outermost(shapes: Shapes) -> list[Size]:
    least, most = shapes.least, shapes.largest
    return [(least, least), (most, least), (least, most), (most, most)]
