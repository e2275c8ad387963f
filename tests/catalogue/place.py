"""A small embedder, images to keep, and what a catalogue of them has to say by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from recallk.catalogue.index import Index
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import ImageSettings


def small_embedder() -> ImageEmbedder:
    """Return an embedder of images with random weights, the same each time."""
    torch.manual_seed(0)
    settings = ImageSettings(backbone="test_resnet", image_size=16, resize=16, embedding_size=8)
    return build(settings, "none").eval()


def draw(path: Path, seed: int) -> Path:
    """Write an image that its seed decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((20, 20), Image.Resampling.NEAREST).save(path)
    return path


def draw_all(folder: Path, count: int = 9) -> Path:
    """Write images in three folders of classes."""
    for number in range(count):
        draw(folder / "abc"[number % 3] / f"{number}.png", number)
    return folder


def said(index: Index) -> dict[str, NDArray[Any]]:
    """Return by its id the vector of each item that a catalogue says it holds, as it is stored."""
    rows, vectors = index.vectors()
    return {index.hit_of_row(row).id: vector for row, vector in zip(rows.tolist(), vectors.numpy(), strict=True)}


def by_hand(index: Index, query: NDArray[Any], k: int, but: str | None = None) -> list[str]:
    """Rank all that a catalogue says it holds, one after another."""
    found = [
        (-float(query.astype(np.float64) @ vector.astype(np.float64)), name) for name, vector in said(index).items()
    ]
    return [name for _, name in sorted(found) if name != but][:k]
