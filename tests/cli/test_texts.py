"""The commands on texts: trained, measured, shown, searched, kept in a catalogue, and what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import recallk
from recallk.models import fetching
from recallk.models.saved import load
from tests.cli.test_cli import FLAGS
from tests.cli.test_cli import recallk as command
from tests.miniature_texts import SMALL, offers, save_texts
from tests.training.test_trainer import save_patterns

HEADER = ("text", "label", "id", "price")
ROWS = [(text, label, f"o{number}", number % 10) for number, (text, label) in enumerate(offers())]


def words_of(**changes: Any) -> list[Any]:
    keys = SMALL | {"epochs": 1} | changes
    return [word for key, value in keys.items() for word in (f"--{key.replace('_', '-')}", value)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sentence_model: Path) -> Path:
    """A run on a table with ids and prices, among its texts long, hostile and right-to-left ones; it lies beside it."""
    folder = tmp_path_factory.mktemp("run")
    odd = {"<b>bold</b>": 0, "\u202eevil": 8, "שלום": 1, f"{'long ' * 2_000}": 9}
    rows = [(f"{text} {word}", label, *more) for word, (text, label, *more) in zip(odd, ROWS, strict=False)]
    data = save_texts(folder / "offers.csv", [*rows, *ROWS[len(odd) :]], HEADER)
    assert command("train", "--data", data, "--backbone", sentence_model, "--run", folder / "run", *words_of()) == 0
    return folder / "run"


def test_training_says_what_it_does(sentence_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = save_texts(tmp_path / "t.csv", [(text, label) for text, label, *_ in ROWS], ("Title", "Kind"))
    given = ("--data", data, "--columns", "text=title,label=kind", "--backbone", sentence_model)
    assert command("train", *given, "--run", tmp_path / "run", *words_of(), "--dry-run", "--explain") == 0
    out, error = capfd.readouterr()
    assert not error, "no bar of another library"
    for said in ("texts of", f"model     {sentence_model}, 24 dimensions", "--no-mixup"):
        assert said in out
    assert "image" not in out
    assert command("train", *given, "--run", tmp_path / "run", *words_of()) == 0
    out = capfd.readouterr().out
    assert f"search    recallk search {tmp_path / 'run'} --gallery TABLE TEXT...\n" in out
    assert "image" not in out
    assert command("evaluate", tmp_path / "run") == 0
    assert "texts of" in capfd.readouterr().out


def test_evaluate_other_texts_and_whiten(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", run, "--data", save_texts(tmp_path / "t.csv")) == 0
    assert f"{len(ROWS)} texts of 36 classes" in capfd.readouterr().out
    assert command("whiten", run, "--data", tmp_path / "t.csv", "--dimension", "4") == 0
    assert load(run).embed(["a hat"]).shape == (1, 4)
    assert command("whiten", run, "--remove") == 0


def test_the_page_shows_texts(run: Path) -> None:
    page = (run / "report.html").read_text()
    section = page[page.index("Answered worst") :]
    assert '<span class="text" dir="auto" role="img"' in section, "right to left, where the text is"
    assert "price: " in section
    assert "cannot be read" not in section
    assert "image" not in page[page.index("<body") : page.index("Answered worst")]


def test_texts_are_shown_escaped_and_shortened(run: Path, tmp_path: Path) -> None:
    rows = [(f"{text} <script>x</script> \u202e שלום {'long ' * 2_000}", *more) for text, *more in ROWS]
    shutil.copytree(run, tmp_path / "run")
    data = save_texts(tmp_path / "offers.csv", rows, HEADER)
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace(str(run.parent / "offers.csv"), str(data)))
    recallk.report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert "\u202e" not in page
    assert "שלום" in page
    assert "long " * 40 in page
    assert "long " * 80 not in page, "the beginning"


def test_search_by_texts_that_are_typed(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture, data = tmp_path / "found.png", run.parent / "offers.csv"
    assert command("search", run, ROWS[9][0], "a red shoe", "--gallery", data, "--picture", picture, "--k", "2") == 0
    out = capfd.readouterr().out
    assert "1.000" in out, "what is typed is found where it is"
    assert "a red shoe" in out
    assert not picture.exists(), "there is no image"
    found = recallk.search(run, [ROWS[9][0]], data, k=1)
    assert found.ids == [[ROWS[9][0]]]
    inside = recallk.search(run, [str(data)], str(data), k=1)
    assert len(inside.items) == len(ROWS)
    assert all(row[0].row != number for number, row in enumerate(inside.items)), "none finds itself"  # type: ignore[union-attr]
    assert recallk.search(run, ["red"], ["blue hat", "red hat"], k=2).similarities.shape == (1, 2)


def test_roles_and_texts_without_labels(run: Path, tmp_path: Path) -> None:
    rows = [(text, "query" if number % 4 == 0 else "gallery") for number, (text, *_) in enumerate(ROWS)]
    data = save_texts(tmp_path / "t.csv", rows, ("text", "role"))
    found = recallk.search(run, ["a red shoe"], data, k=len(ROWS) - len(ROWS) // 4)
    assert {item.row % 4 for item in found.items[0]} == {1, 2, 3}  # type: ignore[union-attr]
    assert found.notes[0].message == f"{len(ROWS) // 4} texts outside its gallery left out"


def test_a_catalogue_of_texts(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, data = tmp_path / "offers", run.parent / "offers.csv"
    assert command("index", run, data, "-o", folder) == 0
    assert f"catalogue {len(ROWS)} texts, with id, label, text, price" in capfd.readouterr().out
    assert command("search", folder, ROWS[9][0], "o20", "--json", "-k", "2", "--where", "price != '3'") == 0
    typed, named = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert typed["results"][0]["id"] == "o9"
    assert typed["results"][0]["price"] == "9"
    assert named["query"] == "o20"
    assert "o20" not in {result["id"] for result in named["results"]}, "an id is not its own result"
    assert command("search", folder, "a red shoe") == 0
    assert "label" in capfd.readouterr().out
    assert np.allclose(
        recallk.Index.open(folder).search(["a red shoe"], k=1).similarities,
        recallk.search(run, ["a red shoe"], data, k=1).similarities,
        atol=2e-3,  # kept as float16
    )
    rows = [(f"{text} new" if name == "o9" else text, label, name, price) for text, label, name, price in ROWS[4:]]
    changed = save_texts(tmp_path / "offers.csv", rows, HEADER)
    index = recallk.Index.open(folder)
    done = index.update(changed, remove_missing=True)
    assert (done.embedded_again, done.removed, len(index)) == (1, 4, len(ROWS) - 4)
    assert command("index", "check", folder) == 0
    listed = recallk.Index.build(run, ["red hat", "blue hat"], tmp_path / "listed")
    assert listed.search(["hat red"], k=2).hits[0][0].known["text"] in ("red hat", "blue hat")
    assert (folder / "model" / "modules.json").is_file(), "the catalogue has its model"


def test_a_check_of_texts_needs_no_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_no_answer", lambda place: "not asked")
    rows = [(text, label) for text, label, *_ in ROWS]
    assert command("data", "check", save_texts(tmp_path / "t.csv", rows)) == 0
    out = capfd.readouterr().out
    assert "no files to open" in out
    assert f"{len(ROWS)}" in out
    columns = ("--columns", "text=title")
    assert command("data", "check", save_texts(tmp_path / "c.csv", rows, ("title", "label")), *columns) == 0
    assert command("data", "check", save_texts(tmp_path / "few.csv", rows[:5])) == 2
    assert "training would not start" in capfd.readouterr().out
    assert command("data", "check", save_texts(tmp_path / "bad.csv", [("", "x")])) == 2
    assert "row 1: empty text" in capfd.readouterr().err


def test_vectors_of_texts_and_a_head_composed(
    run: Path, sentence_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_no_answer", lambda place: "not asked")
    data, vectors = run.parent / "offers.csv", tmp_path / "v.parquet"
    assert command("embed", data, "--backbone", sentence_model, "--max-length", "16", "-o", vectors) == 0
    table = parquet.read_table(vectors)
    assert {"embedding", "id", "text", "label"} <= set(table.column_names)
    assert table["text"][9].as_py() == ROWS[9][0]
    assert table["id"][9].as_py() == "o9"
    head = ("--embedding-size", "8", "--epochs", "1", "--accelerator", "cpu")
    assert command("train", "--data", vectors, "--run", tmp_path / "head", *head) == 0
    assert command("compose", tmp_path / "head", "-o", tmp_path / "whole") == 0
    assert "--gallery TABLE TEXT..." in capfd.readouterr().out
    assert command("evaluate", tmp_path / "whole", "--data", data) == 0
    whole, head_alone = load(tmp_path / "whole"), load(tmp_path / "head")
    given = np.array(table["embedding"].to_pylist()[:5], np.float32)
    assert np.allclose(whole.embed(table["text"].to_pylist()[:5]), head_alone.embed(given), atol=1e-5)
    assert command("embed", data, "--run", run, "-o", tmp_path / "w.npy", "--dtype", "float16") == 0
    assert np.load(tmp_path / "w.npy").shape == (len(ROWS), 24)


def test_mistakes_are_one_line(
    run: Path, sentence_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_no_answer", lambda place: f"no route to host: {place}")
    data = run.parent / "offers.csv"
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    save_patterns(pictures, classes=4, images=4)
    assert command("train", "--data", pictures, "--run", tmp_path / "images", *FLAGS) == 0
    empty = save_texts(tmp_path / "e.csv", [("a", "x"), ("", "x")])
    numbers = tmp_path / "n.parquet"
    parquet.write_table(pyarrow.table({"text": [1, 2], "label": ["x", "y"]}), numbers)
    image = next(pictures.rglob("*.png"))
    ours = ("--backbone", sentence_model)
    capfd.readouterr()
    for words, message in [
        (["train", "--data", data, "--backbone", "resnet50"], "backbone=resnet50: a network of images; of texts"),
        (
            ["train", "--data", pictures, "--backbone", "sentence-transformers/x"],
            "a model of texts, and the data are im",
        ),
        (["train", "--data", data, *ours, "--image-size", "32"], "image_size is for images, and the data are texts"),
        (["train", "--data", data, *ours, "--augment", "none"], "augment is for images, and the data are texts"),
        (["train", "--data", data, *ours, "--on-bad-image", "skip"], "on_bad_image is for images, and the data are te"),
        (["train", "--data", data, *ours, "--root", tmp_path], "texts have no paths"),
        (["train", "--data", data, "--backbone", "test_resnet", "--items", "images"], "no column 'path'"),
        (["train", "--data", data, *ours, "--dataset", "cub", "--items", "texts"], "items=texts, and cub holds images"),
        (["train", "--data", pictures, *ours, "--items", "texts"], "no table of texts"),
        (["train", "--data", pictures, "--max-length", "5"], "max_length is for texts, and the data are images"),
        (["train", "--data", data, "--backbone", "nobody/nothing"], "cannot be fetched (no route to host"),
        (["train", "--data", data, "--backbone", "./nothing"], "backbone=./nothing: no such folder"),
        (["train", "--data", empty, *ours], "row 2: empty text"),
        (["train", "--data", numbers, *ours], "column 'text' holds int64"),
        (["train", "--data", data, *ours, "--max-length", "99"], "has positions for 40 tokens"),
        (["search", run, "a", "--gallery", pictures], "no table of texts"),
        (["search", run, image, "--gallery", data], "a file, and the run is on texts"),
        (["search", tmp_path / "images", image, "--gallery", data], "texts, and the run is on images"),
        (["evaluate", run, "--scales", "1,2"], "scales: texts cannot be scaled"),
        (["evaluate", run, "--data", pictures], "this model embeds texts"),
        (["evaluate", tmp_path / "images", "--data", data], "image"),
        (["index", run, pictures, "-o", tmp_path / "c"], "images, and the model of the catalogue embeds texts"),
        (["index", tmp_path / "images", data, "-o", tmp_path / "c"], "texts, and the model of the catalogue embeds im"),
        (["embed", data, "--run", tmp_path / "images", "-o", tmp_path / "v.parquet"], "texts, and the model of"),
    ]:
        assert command(*words) == 2, words
        out, error = capfd.readouterr()
        assert error.count("\n") == 1, (words, error)
        assert message in error, (words, error, out)
