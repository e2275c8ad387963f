"""The images of a folder that are most like some others, against a loop over the gallery."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recallk import InputError
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.saved import save
from recallk.models.settings import ImageSettings
from recallk.retrieval.search import search

COUNT = 9


@pytest.fixture(scope="module")
def embedder() -> ImageEmbedder:
    torch.manual_seed(0)
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=32, embedding_size=8)
    return build(settings, "none").eval()


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """A folder with images in it, in folders of its own, and what is no image."""
    folder = tmp_path / "gallery"
    for number in range(COUNT):
        path = folder / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 40), Image.Resampling.NEAREST).save(path)
    (folder / "a" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def query(tmp_path: Path) -> Path:
    """An image that is not in the gallery."""
    coarse = np.random.default_rng(99).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((40, 40), Image.Resampling.NEAREST).save(tmp_path / "query.png")
    return tmp_path / "query.png"


def by_hand(embedder: ImageEmbedder, query: Path, gallery: Path, k: int) -> list[tuple[Path, float]]:
    """Rank every image but the query itself by its cosine, one after another."""
    mine = embedder.embed([query])[0]
    others = [path for path in sorted(gallery.rglob("*.png")) if path.resolve() != query.resolve()]
    cosines = [(path, float(mine @ embedder.embed([path])[0])) for path in others]
    return sorted(cosines, key=lambda pair: -pair[1])[:k]


@pytest.mark.parametrize("k", [1, 3, 8, 100])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_nearest_come_first(embedder: ImageEmbedder, gallery: Path, query: Path, k: int, workers: int) -> None:
    inside = gallery / "b" / "4.png"
    found = search(embedder, [query, inside], gallery, k, workers=workers)
    width = min(k, COUNT - 1)  # as many as there are besides a query that is in the gallery
    assert found.similarities.shape == (2, width)
    assert found.similarities.dtype == torch.float32
    for row, asked in enumerate((query, inside)):
        expected = by_hand(embedder, asked, gallery, width)
        assert found.ids[row] == [path for path, _ in expected]
        cosines = torch.tensor([cosine for _, cosine in expected])
        torch.testing.assert_close(found.similarities[row], cosines, rtol=1e-4, atol=1e-5)
    assert [str(note) for note in found.notes] == [f"{gallery}: passed over 1 file that is no image: 1 .txt"]


def test_eight_are_found_unless_told_otherwise(embedder: ImageEmbedder, gallery: Path, query: Path) -> None:
    assert [len(row) for row in search(embedder, [query], gallery, workers=0).ids] == [8]


def test_all_of_a_gallery_without_the_query_can_be_found(embedder: ImageEmbedder, gallery: Path, query: Path) -> None:
    assert search(embedder, [query], gallery, 100, workers=0).ids == [
        [path for path, _ in by_hand(embedder, query, gallery, COUNT)]
    ]


@pytest.mark.parametrize("spelling", ["itself", "a link", "by way of another folder"])
def test_a_query_is_not_its_own_result(embedder: ImageEmbedder, gallery: Path, tmp_path: Path, spelling: str) -> None:
    inside = gallery / "a" / "3.png"
    (tmp_path / "link.png").symlink_to(inside)
    query = {
        "itself": inside,
        "a link": tmp_path / "link.png",
        "by way of another folder": gallery / "b" / ".." / "a" / "3.png",
    }[spelling]
    found = search(embedder, [query], gallery, 100, workers=0)
    assert inside not in found.ids[0]
    assert len(found.ids[0]) == COUNT - 1


def test_a_copy_of_a_query_is_its_best_result(embedder: ImageEmbedder, gallery: Path, tmp_path: Path) -> None:
    shutil.copy(gallery / "a" / "3.png", tmp_path / "copy.png")
    found = search(embedder, [tmp_path / "copy.png"], gallery, 2, workers=0)
    assert found.ids[0][0] == gallery / "a" / "3.png"
    assert float(found.similarities[0, 0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("given", [str, lambda path: path, lambda path: str(path / "model")])
def test_a_run_or_its_model_is_named_by_its_folder(
    embedder: ImageEmbedder, gallery: Path, query: Path, tmp_path: Path, given: Callable[[Path], Any]
) -> None:
    save(embedder, tmp_path / "run" / "model")
    found = search(given(tmp_path / "run"), [str(query)], str(gallery), 3, workers=0)
    expected = search(embedder, [query], gallery, 3, workers=0)
    assert found.ids == expected.ids
    assert torch.equal(found.similarities, expected.similarities)


def test_how_far_it_is_comes_to_whoever_asks(embedder: ImageEmbedder, gallery: Path, query: Path) -> None:
    told: list[tuple[str, int, int]] = []
    search(embedder, [query], gallery, 1, workers=0, advance=lambda *step: told.append(step))
    assert told == [("embedding the gallery", COUNT, COUNT)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": []}, "no query: give at least one file to look for"),
        ({"queries": ["nowhere.png"]}, "nowhere.png: no such image"),
        ({"queries": ["text.png"]}, r"text\.png: not an image"),
        ({"gallery": "nowhere"}, "nowhere: no such folder"),
        ({"gallery": "empty"}, "empty: no images below this folder"),
        ({"gallery": "query.png"}, r"query\.png: "),
        ({"gallery": "broken"}, r"broken/x\.png: truncated or broken image"),
        ({"model": "nowhere"}, "nowhere: no such run folder"),
        ({"model": "empty"}, "is it the folder of a finished run"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": "3"}, "k must be a whole number, got '3'"),
        ({"workers": -1}, "workers=-1: a whole number from 0"),
    ],
)
def test_mistakes_are_one_line(
    embedder: ImageEmbedder,
    gallery: Path,
    query: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(query.read_bytes()[:-30])
    given: dict[str, Any] = {"model": embedder, "queries": [query], "gallery": gallery, "k": 3, "workers": 0}
    with pytest.raises(InputError, match=message) as caught:
        search(**(given | change))
    assert str(caught.value).isprintable()


def test_one_image_alone_is_no_gallery_for_itself(embedder: ImageEmbedder, tmp_path: Path, query: Path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(query, tmp_path / "alone" / "x.png")
    found = search(embedder, [tmp_path / "alone" / "x.png"], tmp_path / "alone", 3, workers=0)
    assert found.ids == [[]]
    assert found.similarities.shape == (1, 0)
    assert len(search(embedder, [query], tmp_path / "alone", 3, workers=0).ids[0]) == 1
