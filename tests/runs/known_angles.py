"""A model whose rankings one knows: it turns each image into the direction of an angle that a table gives."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recallk.data.item import Region
from recallk.models.chunks import Preparation
from recallk.models.embedder import Embedder
from recallk.models.settings import Augmentation, ImageSettings
from tests.embedders import SETTINGS

# The miniature of revisited Oxford and Paris has ten images and three queries. Its truth is, by their numbers:
#   query 0: easy 0, hard 1 and 2, junk 3        query 1: easy 4, hard 5 and 6        query 2: easy 7, hard 8
# Image 9 answers none. So around query 0 the ranking is 3, 1, 9, 0, 2; the others find theirs first.
ANGLES: Mapping[str, float] = {
    **{f"building_{n:06}": a for n, a in enumerate((20, 10, 25, 5, 125, 135, 145, 250, 245, 15))},
    **{"box of query_000000": 0, "box of query_000001": 120, "box of query_000002": 240},
    # as whole images: query 0 finds 0 first, then 2
    **{"query_000000": 22, "query_000001": 120, "query_000002": 240},
    # the distractors: one is between the first two answers of query 1, the others are far from all
    **{f"{n:04}": 130 if n == 0 else 190 for n in range(6)},
}

# By hand, with p0 and p1 as in revisited mAP. Query 0, easy: 9 is before 0: (0 + 1/2) / 2 = 1/4. Medium: 1, 9, 0, 2:
# (1 + (1/2 + 2/3) / 2 + (2/3 + 3/4) / 2) / 3 = 55/72. Hard: 1, 9, 2: (1 + (1/2 + 2/3) / 2) / 2 = 19/24.
BY_HAND = {
    "easy map": (1 / 4 + 1 + 1) / 3,
    "easy mp@1": (0 + 1 + 1) / 3,
    "easy mp@5": (1 / 2 + 1 + 1) / 3,
    "easy mp@10": (1 / 2 + 1 + 1) / 3,
    "medium map": (55 / 72 + 1 + 1) / 3,
    "medium mp@1": 1.0,
    "medium mp@5": (3 / 4 + 1 + 1) / 3,
    "medium mp@10": (3 / 4 + 1 + 1) / 3,
    "hard map": (19 / 24 + 1 + 1) / 3,
    "hard mp@1": 1.0,
    "hard mp@5": (2 / 3 + 1 + 1) / 3,
    "hard mp@10": (2 / 3 + 1 + 1) / 3,
}
# Whole, query 0 finds 0, 2, 9, 1: medium (1 + 1 + (2/3 + 3/4) / 2) / 3 = 65/72, hard 2, 9, 1: as before.
UNCROPPED = {"easy map": 1.0, "medium map": (65 / 72 + 1 + 1) / 3, "hard map": (19 / 24 + 1 + 1) / 3}
# The distractor is the second of query 1. Easy: 4 is before it. Medium: 4, d, 5, 6, hard d, 5, 6:
# ((0 + 1/2) / 2 + (1/2 + 2/3) / 2) / 2 = 5/12.
AMONG_DISTRACTORS = {
    "easy map": (1 / 4 + 1 + 1) / 3,
    "medium map": (55 / 72 + 55 / 72 + 1) / 3,
    "hard map": (19 / 24 + 5 / 12 + 1) / 3,
}


def name_of(item: Path | Region) -> str:
    return f"box of {item.image.stem}" if isinstance(item, Region) and isinstance(item.image, Path) else item.stem  # type: ignore[union-attr]


@dataclass(frozen=True)
class Angles(Preparation):
    """The angles of items."""

    items: Sequence[Path | Region]
    seen: Callable[[str], object]

    def prepare(self, number: int) -> float:
        """Return an angle."""
        name = name_of(self.items[number])
        self.seen(name)
        return float(ANGLES[name])

    def collate(self, prepared: list[float]) -> Tensor:
        """Return angles `(n,)`."""
        return torch.tensor(prepared)


class KnownAngles(Embedder):
    """Embeds images by the angle that their name has; `turn` is added to it. Notes the names in `seen`."""

    noun = "images"

    def __init__(self) -> None:
        super().__init__(ImageSettings(**SETTINGS | {"embedding_size": 2}))
        self.turn = nn.Parameter(torch.zeros(()))
        self.seen = list[str]()

    def forward(self, angles: Tensor) -> Tensor:
        """Return directions `(n, 2)`."""
        return self._directions(angles + self.turn)

    def at_scale(self, chunk: Tensor, scale: float) -> Tensor:
        """Return the same directions: they do not depend on the scale."""
        return self.forward(chunk)

    def listed(self, items: Iterable[Any]) -> Sequence[Any]:
        """Return the items."""
        return list(items)

    def preparation(self, items: Sequence[Any]) -> Angles:
        """Return their angles."""
        return Angles(items, self.seen.append)

    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Angles:
        """Return their angles."""
        return self.preparation(items)

    def example(self, count: int) -> Tensor:
        """Return zeros."""
        return torch.zeros(count)

    def _directions(self, angles: Tensor) -> Tensor:
        radians = torch.deg2rad(angles)
        return torch.stack([radians.cos(), radians.sin()], dim=1)
