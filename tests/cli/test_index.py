"""`recallk index` and `recallk search` in a catalogue, as they are typed."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk.catalogue.index import Index
from recallk.data.images import read_image
from recallk.models.saved import save
from tests.catalogue.place import draw, draw_all, said, small_embedder
from tests.catalogue.test_approximate import head, source
from tests.cli.test_cli import recallk
from tests.retrieval.test_approximate import clustered


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is as that of a finished run, as far as its model goes."""
    path: Path = tmp_path_factory.mktemp("model") / "run"
    save(small_embedder(), path / "model")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_all(tmp_path / "photos")


@pytest.fixture
def kept(model: Path, photos: Path, tmp_path: Path) -> Path:
    assert recallk("index", model, photos, "-o", tmp_path / "catalogue", "--workers", "0") == 0
    return tmp_path / "catalogue"


def test_building_says_what_there_is_and_how_to_search(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "catalogue"
    assert recallk("index", model, photos, "-o", kept, "--workers", "0") == 0
    printed = capsys.readouterr().out
    assert f"catalogue 9 images, with id, label, image; in {kept}" in printed
    assert f"recallk search {kept} QUERY" in printed
    assert recallk("index", "build", model, photos, "--output", tmp_path / "more", "--workers", "0") == 0
    assert said(Index.open(tmp_path / "more")).keys() == said(Index.open(kept)).keys()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_the_numbers_that_vectors_are_stored_as(model: Path, photos: Path, tmp_path: Path, dtype: str) -> None:
    words = ("index", model, photos, "-o", tmp_path / "catalogue", "--dtype", dtype, "--workers", "0")
    assert recallk(*words) == 0
    files = {path.name: np.load(path).dtype for path in (tmp_path / "catalogue").rglob("*.npy")}
    assert files["vectors.npy"] == (np.float32 if dtype == "float32" else np.float16)
    assert ("codes.npy" in files) == (dtype == "int8")


def test_searching(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query, picture = draw(tmp_path / "query.png", 99), tmp_path / "found.png"
    expected = Index.open(kept).search([query], 3)
    capsys.readouterr()
    assert recallk("search", kept, query, "-k", "3", "--picture", picture) == 0
    printed = capsys.readouterr().out
    places = [printed.index(f" {name} ") for name in expected.ids[0]]
    assert places == sorted(places)
    assert f"drawn in {picture}" in printed
    assert read_image(picture).width > 300


def test_lines_of_json(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = draw(tmp_path / "query.png", 99)
    capsys.readouterr()
    words = ("search", kept, query, "a/0.png", "--json", "--k", "2", "--where", "label <> 'b'")
    assert recallk(*words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["query"] for line in lines] == ["query.png", "a/0.png"]
    found = Index.open(kept).search([query, "a/0.png"], 2, where="label <> 'b'")
    assert [[each["id"] for each in line["results"]] for line in lines] == found.ids
    assert lines[0]["results"][0]["similarity"] == pytest.approx(float(found.similarities[0, 0]), abs=1e-6)
    assert lines[0]["results"][0]["label"] in ("a", "c")


def test_several_queries_together(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("search", kept, "a/0.png", "b/1.png", "--together", "--json", "--k", "4") == 0
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [[each["id"] for each in line["results"]]] == Index.open(kept).search(
        ["a/0.png", "b/1.png"], 4, together=True
    ).ids


def test_adding_updating_and_removing(
    kept: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = draw(tmp_path / "more" / "d" / "new.png", 50).parents[1]
    capsys.readouterr()
    assert recallk("index", "add", kept, more, "--workers", "0") == 0
    assert "done      1 added; 10 items now" in capsys.readouterr().out
    draw(photos / "a" / "0.png", 70)
    (photos / "b" / "1.png").unlink()
    assert recallk("index", "update", kept, photos, "--workers", "0") == 0
    assert "done      1 embedded again; 10 items now" in capsys.readouterr().out
    assert recallk("index", "update", kept, photos, "--remove-missing", "--workers", "0") == 0
    assert "done      2 removed; 8 items now" in capsys.readouterr().out
    assert recallk("index", "remove", kept, "c/2.png", "c/5.png") == 0
    assert "done      2 removed; 6 items now" in capsys.readouterr().out
    assert recallk("index", "update", kept, photos / "a", "--workers", "0") == 0
    assert recallk("index", "check", kept) == 0
    assert "all files as they were written" in capsys.readouterr().out


def test_a_table_with_columns_of_its_own(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file;class;colour\na/0.png;x;red\nb/1.png;y;blue\n")
    how = ("--columns", "path=file,label=class", "--root", photos, "--workers", "0")
    assert recallk("index", model, tmp_path / "table.csv", "-o", tmp_path / "kept", *how) == 0
    index = Index.open(tmp_path / "kept")
    assert index.hit("a/0.png").known["colour"] == "red"
    (tmp_path / "table.csv").write_text("file;class;colour\nc/2.png;x;green\na/0.png;x;pink\n")
    assert recallk("index", "update", tmp_path / "kept", tmp_path / "table.csv", *how) == 0
    assert Index.open(tmp_path / "kept").hit("a/0.png").known["colour"] == "pink"
    (tmp_path / "table.csv").write_text("file;class;colour\nc/5.png;x;green\n")
    assert recallk("index", "add", tmp_path / "kept", tmp_path / "table.csv", *how) == 0
    assert len(Index.open(tmp_path / "kept")) == 4


def test_duplicates_and_outliers(kept: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(photos / "b" / "again.png", 3)
    assert recallk("index", "update", kept, photos, "--workers", "0") == 0
    capsys.readouterr()
    file = tmp_path / "alike.csv"
    assert recallk("index", "duplicates", kept, "--least", "0.9999", "--csv", file) == 0
    assert "2 items in 1 groups are alike to 0.9999 or more" in capsys.readouterr().out
    rows = list(csv.DictReader(file.open()))
    assert [row["id"] for row in rows] == ["a/3.png", "b/again.png"]
    assert recallk("index", "outliers", kept, "--most", "2", "--csv", tmp_path / "lonely.csv") == 0
    assert len(list(csv.DictReader((tmp_path / "lonely.csv").open()))) == 2


def test_what_is_worth_knowing_of_a_source_is_told(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "a" / "notes.txt").write_text("mine")
    assert recallk("index", model, photos, "-o", tmp_path / "catalogue", "--workers", "0") == 0
    assert "note      passed over 1 file that is no image: 1 .txt" in capsys.readouterr().out
    assert recallk("index", "update", tmp_path / "catalogue", photos, "--workers", "0") == 0
    assert "note      passed over 1 file that is no image: 1 .txt" in capsys.readouterr().out


def test_nothing_is_written_over_and_no_folder_is_made_by_a_look(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    for command in ("duplicates", "outliers"):
        assert recallk("index", command, kept, "--csv", tmp_path / "mine.csv") == 2
        assert "mine.csv: exists already" in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "mine"
    for words in (["check"], ["duplicates"], ["outliers"], ["remove", "x"]):
        assert recallk("index", words[0], tmp_path / "nowhere", *words[1:]) == 2
        assert "no catalogue (no such folder)" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search", "{kept}", "nowhere.png"], "nowhere.png: neither an id in"),
        (["search", "{kept}", "a/0.png", "--where", "weight = 1"], "no column 'weight'"),
        (["search", "{kept}", "a/0.png", "--gallery", "photos"], "is a catalogue"),
        (["search", "{model}", "a/0.png"], "recallk index"),
        (["search", "{model}", "{photos}/a/0.png", "--gallery", "{photos}", "--json"], "are for a catalogue"),
        (["search", "{kept}", "a/0.png", "--picture", "found.jpg"], "the name of a .png file"),
        (["index", "{model}", "{photos}", "-o", "{kept}"], "a catalogue already"),
        (["index", "{photos}", "{photos}", "-o", "new"], "no "),
        (["index", "nowhere", "{photos}", "-o", "new"], "nowhere: no such run folder"),
        (["index", "{model}", "nowhere", "-o", "new"], "nowhere: no such folder"),
        (["index", "add", "{photos}", "{photos}"], "no catalogue"),
        (["index", "add", "{kept}", "{photos}"], "'a/0.png' and 8 others are there already"),
        (["index", "remove", "{kept}", "z"], "no item 'z'"),
        (["index", "duplicates", "{kept}", "--least", "3"], "a cosine similarity"),
        (["index", "add", "{kept}", "{photos}", "--columns", "path"], "names no column"),
        (["index", "{model}", "{photos}"], "output"),
    ],
)
def test_mistakes(
    words: list[str], told: str, kept: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    filled = [word.format(kept=kept, model=model, photos=photos) for word in words]
    assert recallk(*filled) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_the_help_of_the_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("index", "--help") == 0
    printed = capsys.readouterr().out
    for name in ("build", "add", "update", "remove", "check", "duplicates", "outliers"):
        assert f" {name} " in printed


def test_readers_are_started(model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.models import chunks
    from recallk.models import embedder as embedders

    seen = list[int]()
    whole = chunks.read_all

    def read_all(preparation: Any, count: int, chunk_size: int, workers: int) -> Any:
        seen.append(workers)
        return whole(preparation, count, chunk_size, 0)

    monkeypatch.setattr(embedders, "read_all", read_all)
    for workers in ("0", "3"):
        assert recallk("index", model, photos, "-o", tmp_path / workers, "--workers", workers) == 0
    assert seen == [0, 3]


def test_an_approximate_search_says_what_it_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = Index.build(head(), source(tmp_path, clustered(300)), tmp_path / "catalogue")
    query = tmp_path / "query.npy"
    np.save(query, clustered(2, seed=3))
    assert recallk("search", index.folder, query, "--approximate") == 2
    assert "recallk index approximate" in capsys.readouterr().err
    words = ("index", "approximate", index.folder, "--kind", "ivf", "--recall", "0.99", "-k", "4")
    assert recallk(*words) == 0
    printed = capsys.readouterr().out
    assert "built     ivf over 300 vectors" in printed
    assert re.search(r"recall@4 [01]\.\d{3} of what exact search finds, for 30 items held out", printed)
    assert recallk("search", index.folder, query, "--approximate", "--json", "-k", "4") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = index.search([query], 4)
    for one, ids in zip(found, expected.ids, strict=True):
        assert len({each["id"] for each in one["results"]} & {*ids}) >= 3
    assert recallk("index", "approximate", index.folder, "--recall", "1.5") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_catalogue_is_pushed_and_searched_where_it_is(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, query = f"qdrant://{tmp_path}/store/items", draw(tmp_path / "query.png", 99)
    assert recallk("index", "push", kept, "--to", url) == 0
    printed = capsys.readouterr().out
    assert f"pushed    9 sent, 0 removed; 9 items in {url}" in printed
    assert "checked   recall@10 1.000 where it searches exactly" in printed
    assert f"recallk search {url} QUERY --model {kept}" in printed
    words = ("-k", "4", "--where", "label <> 'a'", "--json")
    for place in (kept, url):
        assert recallk("search", place, query, *words, *(() if place == kept else ("--model", kept))) == 0
    here, there = (json.loads(line)["results"] for line in capsys.readouterr().out.splitlines())
    assert [each["id"] for each in there] == [each["id"] for each in here]
    assert recallk("search", url, "a/0.png", "-k", "2", "--approximate", "--picture", tmp_path / "found.png") == 0
    assert (tmp_path / "found.png").is_file()
    capsys.readouterr()
    assert recallk("index", "push", kept, "--to", f"parquet:{tmp_path}/all.parquet") == 0
    assert "the same, number by number" in capsys.readouterr().out
    mistakes: list[tuple[Any, ...]] = [("search", kept, query, "--model", kept), ("search", url, query)]
    for mistake in (*mistakes, ("index", "push", kept, "--to", "x")):
        assert recallk(*mistake) == 2
        assert capsys.readouterr().err.count("\n") == 1
