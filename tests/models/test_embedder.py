"""Items of any kind are embedded in their order, whoever reads them, and the model stays as it was."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recallk import InputError
from recallk.models.embedder import Embedder, evaluating
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import Augmentation, ImageSettings
from tests.embedders import DIMENSIONS, TextEmbedder, VectorEmbedder


def built() -> ImageEmbedder:
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=32, embedding_size=8)
    return build(settings, "none").eval()


# the item need not be an image

TEXTS = ["a red chair", "a blue chair", "", "große Vögel", "名前", *(f"number {n}" for n in range(9))]
VECTORS = list(np.random.default_rng(0).standard_normal((14, DIMENSIONS)).astype(np.float32))
KINDS: dict[str, tuple[Callable[[], Embedder], list[Any], Any]] = {
    "texts": (TextEmbedder, TEXTS, 3),
    "vectors": (VectorEmbedder, VECTORS, np.zeros(DIMENSIONS + 1)),
}


def embedder_of(kind: str) -> Embedder:
    torch.manual_seed(0)
    return KINDS[kind][0]()


def by_hand(embedder: Embedder, item: Any) -> Any:
    """Return the embedding of one item, without chunks, readers and preparations."""
    with torch.no_grad():
        if isinstance(embedder, TextEmbedder):
            codes = torch.tensor([ord(character) % 64 for character in item or " "])
            row = embedder.head(embedder.bag.weight[codes].mean(0))
        else:
            assert isinstance(embedder, VectorEmbedder)
            row = embedder.head(torch.from_numpy(item))
        return row / row.norm()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_other_items_than_images_are_embedded(kind: str, workers: int) -> None:
    embedder, items = embedder_of(kind), KINDS[kind][1]
    done: list[int] = []
    found = embedder.embed(iter(items), chunk_size=4, workers=workers, advance=done.append)
    assert (found.shape, found.dtype) == ((14, 8), torch.float32)
    assert done == [4, 4, 4, 2]
    torch.testing.assert_close(found, torch.stack([by_hand(embedder, item) for item in items]))
    assert found.std(0).min() > 0.01, "the items differ"
    assert all(part.training for part in embedder.modules()), "as it was"
    torch.testing.assert_close(embedder.embed([items[5]], workers=workers), found[[5]])
    assert embedder.embed([], workers=workers).shape == (0, 8)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_an_item_of_another_kind_is_one_line(kind: str, workers: int) -> None:
    embedder, (_, items, other) = embedder_of(kind), KINDS[kind]
    with pytest.raises(InputError, match=r"^item 2: .*give a ") as caught:
        embedder.embed([*items[:2], other], workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [*KINDS, "images"])
def test_preparations_in_training_are_a_function_of_seed_epoch_and_item(kind: str) -> None:
    if kind == "images":
        embedder: Embedder = built()
        items: list[Any] = list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))
    else:
        embedder, items = embedder_of(kind), KINDS[kind][1]

    def embedded(seed: int, epoch: int) -> torch.Tensor:
        preparation = embedder.training_preparation(items, Augmentation(), seed=seed, epoch=epoch)
        with evaluating(embedder), torch.no_grad():
            found: torch.Tensor = embedder(preparation.collate([preparation.prepare(n) for n in range(3)]))
        return found

    first = embedded(1, 2)
    assert torch.equal(first, embedded(1, 2))
    for other in (embedded(2, 2), embedded(1, 3)):
        assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", [*KINDS, "images"])
def test_an_example_is_a_chunk_of_so_many_items(kind: str) -> None:
    embedder = built() if kind == "images" else embedder_of(kind)
    assert embedder.noun == kind
    with evaluating(embedder), torch.no_grad():
        found = embedder(embedder.example(3))
    assert found.shape == (3, 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


# images


def test_files_are_embedded_in_order(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    embedder = built()
    embeddings = embedder.embed([str(path) for path in paths])
    assert (embeddings.shape, embeddings.dtype) == ((5, 8), torch.float32)
    torch.testing.assert_close(embeddings[[3]], embedder.embed([paths[3]]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embeddings, embedder.embed(paths, chunk_size=2, workers=1), rtol=1e-4, atol=1e-5)
    assert embedder.embed([]).shape == (0, 8)
    with pytest.raises(InputError, match=r"nothing\.jpg: no such image"):
        embedder.embed([tmp_path / "nothing.jpg"])


def test_threads_that_embed_at_a_time_leave_the_model_as_it_was() -> None:
    embedder = built()
    pictures = [np.full((40, 40, 3), 20 * number, dtype=np.uint8) for number in range(6)]
    expected = embedder.embed(pictures)
    embedder.train()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: embedder.embed(pictures, chunk_size=2), range(12)))
    assert all(module.training for module in embedder.modules())
    for one in found:
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
    for name, value in embedder.state_dict().items():
        assert torch.equal(value, before[name]), name
