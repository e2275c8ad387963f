"""A head after the embedder that made its vectors is one embedder: what both give one after the other, and saved."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recallk import InputError, load
from recallk.models.composed import ComposedEmbedder
from recallk.models.embedder import Embedder
from recallk.models.image_embedder import build_image_embedder
from recallk.models.saved import load_network, save, save_new
from recallk.models.settings import ImageSettings, VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from recallk.models.whitening import pca_whitening

IMAGES = [np.random.default_rng(n).integers(0, 255, (40, 30 + n, 3)).astype(np.uint8) for n in range(9)]


def backbone(seed: int = 0, size: int = 12) -> Embedder:
    torch.manual_seed(seed)
    settings = ImageSettings(backbone="test_resnet", image_size=32, embedding_size=size)
    return build_image_embedder(settings, "none").eval()


def head(inputs: int = 12) -> VectorEmbedder:
    torch.manual_seed(1)
    made = VectorEmbedder(VectorSettings(input_size=inputs, embedding_size=5))
    made.standardise(torch.randn(50, inputs) + 0.3)
    made.made_by = {"format": 1}
    return made.eval()


def whitened(embedder: Embedder, dimension: int) -> Embedder:
    given = torch.randn(60, embedder.embedding_size, generator=torch.Generator().manual_seed(3))
    embedder.whitening = pca_whitening(given, dimension)
    return embedder


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5)])
@pytest.mark.parametrize("whiten", ["neither", "first", "head", "both"])
def test_it_gives_what_both_give_one_after_the_other(whiten: str, scales: tuple[float, ...]) -> None:
    first, last = backbone(), head(7 if whiten in ("first", "both") else 12)
    if whiten in ("first", "both"):
        whitened(first, 7)
    if whiten in ("head", "both"):
        whitened(last, 3)
    expected = last.transform(first.embed(IMAGES, scales=scales))
    composed = last.after(first)
    torch.testing.assert_close(composed.embed(IMAGES, scales=scales, chunk_size=4), expected, rtol=0, atol=1e-5)
    assert composed.embedding_size == expected.shape[1]
    assert (composed.noun, composed.settings.seen) == ("images", first.settings.seen)


@pytest.mark.parametrize("whiten", [False, True])
def test_as_a_module_it_takes_what_the_first_prepares(whiten: bool) -> None:
    first, last = whitened(backbone(), 7) if whiten else backbone(), head(7 if whiten else 12)
    composed = last.after(first)
    chunk = first.preparation(first.listed(IMAGES)).collate(
        [first.preparation(first.listed(IMAGES)).prepare(number) for number in range(3)]
    )
    torch.testing.assert_close(composed(chunk), composed.embed(IMAGES[:3]), rtol=0, atol=1e-5)
    torch.testing.assert_close(composed.at_scale(chunk, 1.0), composed(chunk), rtol=0, atol=1e-5)
    assert composed.example(2).shape == first.example(2).shape


@pytest.mark.parametrize("whiten", [False, True])
def test_what_is_saved_is_loaded(tmp_path: Path, whiten: bool) -> None:
    first, last = backbone(), head(7 if whiten else 12)
    if whiten:
        whitened(first, 7)
        whitened(last, 3)
    composed = last.after(first)
    save(composed, tmp_path / "model")
    again = load(tmp_path / "model")
    assert (load(tmp_path / "model" / "first").whitening is not None) == whiten
    assert load(tmp_path / "model" / "head").whitening is None, "it is that of the whole"
    assert isinstance(again, ComposedEmbedder)
    assert not again.training
    assert torch.equal(again.embed(IMAGES), composed.embed(IMAGES))
    assert again.settings == composed.settings
    assert load(tmp_path / "model" / "head").made_by == {"format": 1}
    if whiten:
        network = load_network(tmp_path / "model")
        assert network.whitening is None
        torch.testing.assert_close(composed.whitening(network.embed(IMAGES)), composed.embed(IMAGES))  # type: ignore[misc]


def test_what_is_saved_needs_nothing_beside_it(tmp_path: Path) -> None:
    save(head().after(backbone()), tmp_path / "model")
    expected = load(tmp_path / "model").embed(IMAGES)
    assert torch.equal(load(shutil.move(tmp_path / "model", tmp_path / "moved")).embed(IMAGES), expected)


def test_composed_of_a_composed_one(tmp_path: Path) -> None:
    first = head().after(backbone())
    further = head(5).after(first)
    torch.testing.assert_close(further.embed(IMAGES), head(5).transform(first.embed(IMAGES)), rtol=0, atol=1e-5)
    save(further, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").embed(IMAGES), further.embed(IMAGES))


def test_only_what_fits_is_composed() -> None:
    with pytest.raises(InputError, match="test_resnet gives 11 dimensions, and the head takes 12"):
        head().after(backbone(size=11))


def test_a_new_folder_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    save_new(head(), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    monkeypatch.setattr("recallk.models.saved.write_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        save_new(head(), tmp_path / "another")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_damaged_folders_are_told_in_a_line(tmp_path: Path) -> None:
    save(head().after(backbone()), tmp_path / "model")
    written = tmp_path / "model" / "embedder.json"
    about = json.loads(written.read_text())
    for parts, told in ((["first", "second"], "later version of recallk"), (None, "later version of recallk")):
        written.write_text(json.dumps(about | {"parts": parts}))
        with pytest.raises(InputError, match=told):
            load(tmp_path / "model")
    written.write_text(json.dumps(about | {"format": 9}))
    with pytest.raises(InputError, match="format 9"):
        load(tmp_path / "model")
    written.write_text(json.dumps(about))
    shutil.rmtree(tmp_path / "model" / "first")
    with pytest.raises(InputError, match="first: no such run folder"):
        load(tmp_path / "model")
