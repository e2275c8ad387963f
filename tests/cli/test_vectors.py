"""The commands on a run of vectors: what they print, show and draw, and what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from recallk import load
from tests.cli.test_cli import FLAGS, recallk
from tests.training.test_trainer import save_patterns
from tests.training.test_vectors import LABELS, SMALL, vectors

WORDS = [word for key, value in (SMALL | {"epochs": 1}).items() for word in (f"--{key.replace('_', '-')}", value)]


def write(folder: Path, **further: Any) -> Path:
    columns = {"embedding": list(vectors()), "label": [f"class {n}" for n in LABELS], **further}
    parquet.write_table(pyarrow.table(columns), folder / "v.parquet")
    return folder / "v.parquet"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table that says of each row an id, and of what text or image it is; its table lies beside it."""
    folder = tmp_path_factory.mktemp("run")
    Image.new("RGB", (30, 20), "red").save(folder / "red.png")
    images = ["red.png" if n % 4 == 0 else "gone.png" if n % 4 == 1 else None for n in range(len(LABELS))]
    texts = [f"about <{n}>" if n % 4 == 2 else None for n in range(len(LABELS))]
    data = write(folder, id=[f"item {n}" for n in range(len(LABELS))], image=images, text=texts)
    assert recallk("train", "--data", data, "--run", folder / "run", *WORDS) == 0
    return folder / "run"


def test_training_says_what_it_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("train", "--data", write(tmp_path), "--run", tmp_path / "run", *WORDS) == 0
    printed = capfd.readouterr().out
    for said in ("vectors of", "model     linear head over standardised vectors of 12, 8 dimensions", "as given  "):
        assert said in printed
    assert f"search    recallk search {tmp_path / 'run'} --gallery FILE ID...\n" in printed
    assert "image" not in printed


def test_evaluate_the_run_and_another_file(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("evaluate", run) == 0
    assert "vectors of" in capfd.readouterr().out
    assert recallk("evaluate", run, "--data", write(tmp_path)) == 0
    assert "480 vectors of 60 classes" in capfd.readouterr().out


def test_a_whitening_is_fitted(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("whiten", run, "--data", run.parent / "v.parquet", "--dimension", "4") == 0
    assert "fitted to 480 vectors" in capfd.readouterr().out
    assert load(run).embed(vectors()).shape == (480, 4)
    assert recallk("whiten", run, "--remove") == 0


def test_the_page_shows_images_texts_and_ids(run: Path) -> None:
    page = (run / "report.html").read_text()
    section = page[page.index("Answered worst") :]
    assert '<img src="data:image/' in section
    assert "about &lt;" in section
    assert ">cannot be read</span>" in section, "an image that is not there"
    assert '<span class="text" dir="auto" role="img"' in section
    assert ">item " in section
    assert "image" not in page[page.index("<body") : page.index("Answered worst")]


def test_search_by_ids_and_by_a_file(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture, gallery = tmp_path / "found.png", run.parent / "v.parquet"
    words = ("--gallery", gallery, "--picture", picture, "--k", "2")
    assert recallk("search", run, "item 8", *words) == 0
    printed = capfd.readouterr().out
    assert "item 8" in printed
    assert "class " in printed
    assert f"drawn in {picture}" in printed
    assert Image.open(picture).width > 300
    picture.unlink()
    assert recallk("search", run, write(tmp_path), "--gallery", tmp_path / "v.parquet", *words[2:]) == 0
    printed = capfd.readouterr().out
    assert "480 queries, of which the first 20 are shown" in printed
    assert "row 20" in printed
    assert not picture.exists(), "there is no image"


def test_mistakes_are_one_line(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = run.parent / "v.parquet"
    (tmp_path / "pictures").mkdir()
    pictures = save_patterns(tmp_path / "pictures", classes=2, images=2)
    capfd.readouterr()
    for words, message in [
        (
            ["train", "--data", data, "--backbone", "resnet50"],
            "backbone is for images and texts, and the data are vectors",
        ),
        (["search", run, "x", "--gallery", data], "x: neither an id in"),
        (["search", run, "item 8", "--gallery", tmp_path], "the run is on vectors: give a .parquet"),
        (["evaluate", run, "--scales", "1,2"], "scales: vectors cannot be scaled"),
        (["evaluate", run, "--data", pictures], "no vectors: this head takes vectors of 12 numbers"),
        (["whiten", run, "--data", pictures], "no vectors: this head takes vectors of 12 numbers"),
        (["evaluate", run, "--benchmark", "places"], "no vectors: this head takes vectors of 12 numbers"),
    ]:
        assert recallk(*words) == 2, words
        out, error = capfd.readouterr()
        assert error.count("\n") == 1, error
        assert message in error, (words, error, out)


def test_vectors_are_refused_by_a_run_of_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    pictures = save_patterns(tmp_path / "pictures", classes=6, images=4)
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", *FLAGS) == 0
    data = write(tmp_path)
    np.save(tmp_path / "q.npy", vectors())
    capfd.readouterr()
    for words, message in [
        (["search", tmp_path / "run", tmp_path / "q.npy", "--gallery", pictures], "vectors, and the run is on images"),
        (["search", tmp_path / "run", "q.png", "--gallery", data], "vectors, and the run is on images"),
        (["evaluate", tmp_path / "run", "--data", data], "image"),
        (["whiten", tmp_path / "run", "--data", data], "image"),
    ]:
        assert recallk(*words) == 2, words
        _, error = capfd.readouterr()
        assert error.count("\n") == 1, error
        assert message in error, (words, error)
