"""Memory that is used again from block to block."""

import math

from torch import Tensor


class Scratch:
    """Memory by name, used again and again: new memory takes the system longer than a tile takes to compute."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return the tensor called `name`, unwritten, of `shape`."""
        size = math.prod(shape)
        if name not in self._held or len(self._held[name]) < size:
            self._held[name] = self._like.new_empty(size)
        return self._held[name][:size].view(shape)
