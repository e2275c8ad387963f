"""Embedders of texts and of vectors: small, so that whatever trains or embeds can be tried on what is no image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recallk import InputError
from recallk.core.seeds import mixed_seed
from recallk.models.chunks import Preparation
from recallk.models.embedder import Embedder
from recallk.models.settings import Augmentation, ImageSettings

DIMENSIONS = 6
"""Of the vectors that a `VectorEmbedder` takes."""
_BUCKETS = 64  # characters are counted by their code, modulo this

SETTINGS: dict[str, Any] = ImageSettings(backbone="test_resnet", embedding_size=8, image_size=32).model_dump()
"""Of which they need the size of an embedding alone."""


@dataclass(frozen=True)
class Texts(Preparation):
    """Texts as numbers of their characters; a chunk is a dictionary of all characters, and where each text begins.

    In training, every character is left out with the chance `dropped`.
    """

    texts: Sequence[str]
    dropped: float = 0.0
    seed: int = 0
    epoch: int = 0

    def prepare(self, number: int) -> list[int]:
        """Return the numbers of a text's characters; of an empty one, that of a space."""
        random = np.random.default_rng(mixed_seed(self.seed, self.epoch, number))
        left = [c for c in self.texts[number] if random.random() >= self.dropped]
        return [ord(character) % _BUCKETS for character in left] or [ord(" ")]

    def collate(self, prepared: list[list[int]]) -> dict[str, Tensor]:
        """Return the texts one after another, as nn.EmbeddingBag takes them."""
        starts = np.cumsum([0, *map(len, prepared)])[:-1]
        return {
            "input": torch.tensor([code for text in prepared for code in text]),
            "offsets": torch.from_numpy(starts),
        }


class TextEmbedder(Embedder):
    """Embeds texts: the mean over their characters -> Linear -> unit length."""

    noun = "texts"

    def __init__(self, settings: ImageSettings | None = None) -> None:
        super().__init__(settings or ImageSettings(**SETTINGS))
        self.bag = nn.EmbeddingBag(_BUCKETS, 16, mode="mean")
        self.head = nn.Linear(16, self.settings.embedding_size)

    def forward(self, chunk: dict[str, Tensor]) -> Tensor:
        """Return embeddings `(n, D)`."""
        return F.normalize(self.head(self.bag(**chunk)), dim=1)

    def listed(self, items: Iterable[Any]) -> list[str]:
        """Return the texts. Raises InputError, naming the position, for anything else."""
        listed = list(items)
        for position, item in enumerate(listed):
            if not isinstance(item, str):
                raise InputError(f"item {position}: {type(item).__name__}; give a text")
        return listed

    def preparation(self, items: Sequence[str]) -> Texts:
        """Return the whole texts."""
        return Texts(items)

    def training_preparation(
        self, items: Sequence[str], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Texts:
        """Return the texts without some of their characters."""
        return Texts(items, 0.1, seed, epoch)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return texts of a space."""
        return Texts([" "] * count).collate([[ord(" ")]] * count)


@dataclass(frozen=True)
class Vectors(Preparation):
    """Vectors as they are; in training, with some noise."""

    vectors: Sequence[NDArray[Any]]
    noise: float = 0.0
    seed: int = 0
    epoch: int = 0

    def prepare(self, number: int) -> NDArray[np.float32]:
        """Return a vector `(DIMENSIONS,)`."""
        random = np.random.default_rng(mixed_seed(self.seed, self.epoch, number))
        return (self.vectors[number] + self.noise * random.standard_normal(DIMENSIONS)).astype(np.float32)

    def collate(self, prepared: list[NDArray[np.float32]]) -> Tensor:
        """Return `(n, DIMENSIONS)`."""
        return torch.from_numpy(np.stack(prepared))


class VectorEmbedder(Embedder):
    """Embeds vectors `(DIMENSIONS,)`, as another model may have made them: Linear -> unit length."""

    noun = "vectors"

    def __init__(self, settings: ImageSettings | None = None) -> None:
        super().__init__(settings or ImageSettings(**SETTINGS))
        self.head = nn.Linear(DIMENSIONS, self.settings.embedding_size)

    def forward(self, chunk: Tensor) -> Tensor:
        """Return embeddings `(n, D)` of vectors `(n, DIMENSIONS)`."""
        return F.normalize(self.head(chunk), dim=1)

    def listed(self, items: Iterable[Any]) -> list[NDArray[Any]]:
        """Return the vectors. Raises InputError, naming the position, for anything else."""
        listed = list(items)
        for position, item in enumerate(listed):
            if not isinstance(item, np.ndarray) or item.shape != (DIMENSIONS,):
                raise InputError(f"item {position}: give a vector of {DIMENSIONS} numbers")
        return listed

    def preparation(self, items: Sequence[NDArray[Any]]) -> Vectors:
        """Return the vectors as they are."""
        return Vectors(items)

    def training_preparation(
        self, items: Sequence[NDArray[Any]], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Vectors:
        """Return the vectors with some noise."""
        return Vectors(items, 0.01, seed, epoch)

    def example(self, count: int) -> Tensor:
        """Return vectors of zeros."""
        return torch.zeros(count, DIMENSIONS)
