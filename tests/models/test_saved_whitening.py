"""A whitening is stored beside the weights, comes back with them, and says in one line what is wrong with it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from recallk import InputError, load
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.saved import load_network, remove_whitening, save, save_whitening
from recallk.models.settings import ImageSettings
from recallk.models.whitening import Fitted, Whitening, pca_whitening

PICTURES = list(np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8))
FITTED = Fitted("pca", 0.25, (1.0, 0.5), "photos", 6)


def made(dimension: int | None = 3, fitted: Fitted | None = FITTED) -> ImageEmbedder:
    torch.manual_seed(0)
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=32, embedding_size=8)
    embedder = build(settings, "none").eval()
    if dimension is not None:
        found = pca_whitening(embedder.embed(PICTURES), dimension)
        embedder.whitening = Whitening(found.mean, found.projection, fitted)
    return embedder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a saved model with a whitening."""
    save(made(), tmp_path / "model")
    return tmp_path / "model"


def line(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_it_comes_back_with_the_model(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "embedder.json",
        "weights.safetensors",
        "whitening.safetensors",
    ]
    embedder = load(folder.parent)
    assert embedder.whitening is not None
    assert embedder.whitening.fitted == FITTED
    assert embedder.embed(PICTURES).shape == (6, 3)
    assert torch.equal(embedder.embed(PICTURES), made().embed(PICTURES))
    assert embedder.embed([]).shape == (0, 3)
    assert load_network(folder).embed(PICTURES).shape == (6, 8)


def test_what_the_file_says_of_itself(folder: Path) -> None:
    with safe_open(folder / "whitening.safetensors", framework="pt") as file:
        assert file.metadata() == {
            "format": "1",
            "method": "pca",
            "dimension": "3",
            "power": "0.25",
            "scales": "1.0,0.5",
            "data": "photos",
            "items": "6",
        }
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {"mean": (8,), "projection": (3, 8)}  # noqa: SIM118


def test_one_that_was_made_by_hand_is_stored_too(tmp_path: Path) -> None:
    save(made(fitted=None), tmp_path)
    whitening = load(tmp_path).whitening
    assert whitening is not None
    assert whitening.fitted is None


def test_a_model_without_one_leaves_none_of_an_earlier_model(folder: Path) -> None:
    save(made(dimension=None), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["embedder.json", "weights.safetensors"]
    assert load(folder).embed(PICTURES).shape == (6, 8)


def test_another_takes_its_place(folder: Path) -> None:
    save_whitening(made(dimension=5), folder)
    assert load(folder).embed(PICTURES).shape == (6, 5)
    assert len(list(folder.iterdir())) == 3
    for _ in range(2):
        remove_whitening(folder)
        assert load(folder).whitening is None


def tensors(**changes: Any) -> dict[str, torch.Tensor]:
    return {"mean": torch.zeros(8).double(), "projection": torch.ones(3, 8).double()} | changes


ABOUT = {"format": "1", "dimension": "3"}
FULL = ABOUT | {"method": "pca", "power": "0.5", "scales": "1", "data": "x", "items": "3"}
DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "no tensors": lambda path: save_file({}, path, ABOUT),
    "shapes": lambda path: save_file(tensors(mean=torch.zeros(7).double()), path, ABOUT),
    "no rows": lambda path: save_file(tensors(projection=torch.zeros(0, 8).double()), path, ABOUT),
    "float32": lambda path: save_file(tensors(mean=torch.zeros(8)), path, ABOUT),
    "NaN": lambda path: save_file(tensors(mean=torch.full((8,), torch.nan).double()), path, ABOUT),
    "infinity": lambda path: save_file(tensors(projection=torch.full((3, 8), torch.inf).double()), path, ABOUT),
    "method": lambda path: save_file(tensors(), path, FULL | {"method": "zca"}),
    "power": lambda path: save_file(tensors(), path, FULL | {"power": "much"}),
    "items": lambda path: save_file(tensors(), path, FULL | {"items": "some"}),
    "missing": lambda path: save_file(tensors(), path, ABOUT | {"method": "pca"}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_one_is_one_line(folder: Path, damage: str) -> None:
    DAMAGED[damage](folder / "whitening.safetensors")
    told = line(folder)
    assert "whitening.safetensors: not a whitening (" in told
    assert told.endswith("); it is damaged: fit it again, or remove the file")
    assert load_network(folder).whitening is None


def test_what_is_sound_in_the_files_that_are_damaged_above(folder: Path) -> None:
    for about in (ABOUT, FULL):
        save_file(tensors(), folder / "whitening.safetensors", about)
        assert load(folder).embedding_size == 3


def test_scales_that_cannot_be_are_one_line(folder: Path) -> None:
    save_file(tensors(), folder / "whitening.safetensors", FULL | {"scales": "0"})
    assert "scales" in line(folder)


def test_another_format_says_what_to_do(folder: Path) -> None:
    for about in (ABOUT | {"format": "2"}, None):
        save_file(tensors(), folder / "whitening.safetensors", about)
        assert "written by another version of recallk (format " in line(folder)


def test_one_of_another_model_is_told(folder: Path) -> None:
    changes = {"mean": torch.zeros(9).double(), "projection": torch.ones(3, 9).double()}
    save_file(tensors(**changes), folder / "whitening.safetensors", ABOUT)
    assert "a whitening of 9 dimensions, and the model's embeddings have 8; fit it again" in line(folder)


@pytest.mark.parametrize("kind", ["folder", "pipe", "no link"])
def test_what_is_no_file(folder: Path, kind: str) -> None:
    path = folder / "whitening.safetensors"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(folder / "nowhere")
    assert "whitening.safetensors: " in line(folder)
