"""Tables whose columns have other names, and whose paths start elsewhere: trained on, measured, embedded, searched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import recallk
from recallk import InputError
from recallk.data.columns import read_columns
from recallk.data.dataset import read_for_training
from recallk.data.layout import Layout, parse_columns
from recallk.data.settings import DataSettings
from recallk.data.source import read_own
from recallk.runs.folder import RunFolder
from tests.cli.test_cli import recallk as command
from tests.data.test_dataset import read_twice, save_classes, settings
from tests.miniature_run import SMALL

NAMES = "path=Image, label=class, split=fold"


def written(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Path:
    if path.suffix == ".csv":
        path.write_text("\n".join(map(",".join, [header, *rows])))
    elif path.suffix == ".jsonl":
        import json

        path.write_text("\n".join(json.dumps(dict(zip(header, row, strict=True))) for row in rows))
    else:
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture(params=[".csv", ".jsonl", ".parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a table of photographs that are elsewhere."""
    save_classes(tmp_path / "photos", ["a", "b", "c", "d"])
    rows = [
        (f"{label}/{number}.png", label.upper(), "train" if label in "ab" else "test", "no label")
        for label in "abcd"
        for number in range(4)
    ]
    (tmp_path / "lists").mkdir()
    return written(tmp_path / "lists" / f"t{request.param}", ("image", "CLASS", "fold", "label"), rows)


def test_it_is_read_as_if_it_were_ours(table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'path'; the columns are image, CLASS, fold, label"):
        read_for_training(settings(table))
    given = settings(table, columns=NAMES, root=str(tmp_path / "photos"))
    for read in read_twice(given, tmp_path):
        assert read.train.classes == ["A", "B"]
        assert read.test.labelled.classes == ["C", "D"]
        assert not read.split_by_us
    split = read_for_training(given).split.splits
    assert split["train"]["A"] == [f"a/{number}.png" for number in range(4)]


def test_a_run_is_measured_reported_whitened_embedded_and_searched(table: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    layout = {"columns": NAMES, "root": str(photos)}
    values = SMALL | {"data": str(table), "select": "last", "batch_size": 4} | layout
    summary = recallk.train(values, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert recallk.evaluate(run.path).metrics["recall@1"] == pytest.approx(summary.after.metrics["recall@1"])
    assert recallk.evaluate(run.path, data=str(table)).items == "16 images of 4 classes"
    assert recallk.report(run.path) == []
    assert recallk.evaluate(run.path, data=str(photos)).items == "16 images of 4 classes"
    rows = [(f"photos/{label}/{n}.png", label) for label in "ab" for n in range(4)]
    other = written(tmp_path / "other.csv", ("image", "class"), rows)
    with pytest.raises(InputError, match="no column 'fold'; the columns are image, class"):
        recallk.evaluate(run.path, data=str(other))
    assert recallk.whiten(run.path, str(table), dimension=3, method="learned").items == "8 images"
    recallk.embed(str(table), tmp_path / "vectors.parquet", run=run.path)
    network = ["--backbone", "test_resnet", "--weights", "none", "--image-size", "16"]
    words = ["--columns", NAMES, "--root", photos, "-o", tmp_path / "more.parquet"]
    assert command("embed", table, *network, *words) == 0
    for made in ("vectors", "more"):
        embedded = parquet.read_table(tmp_path / f"{made}.parquet")
        assert embedded["id"][0].as_py() == "a/0.png"
        assert embedded["image"][0].as_py() == "photos/a/0.png"
    assert recallk.search(run.path, [photos / "a" / "0.png"], photos, k=2).similarities.shape == (1, 2)


def test_a_table_beside_vectors_may_have_other_names(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32))
    rows = [(label, f"{label}{number}.png") for label in "abcd" for number in range(2)]
    written(tmp_path / "v.csv", ("class", "photo"), rows)
    given = Layout({"label": "class", "image": "photo"}, tmp_path / "photos")
    records, _ = read_own(str(tmp_path / "v.npy"), layout=given)
    assert [record.label for record in records] == [*"aabbccdd"]
    assert str(records[0].item.shown) == str(tmp_path / "photos" / "a0.png")  # type: ignore[union-attr]
    run = tmp_path / "run"
    recallk.train(
        {"data": str(tmp_path / "v.npy"), "columns": "label=class", "embedding_size": 2, "batch_size": 4,
         "items_per_class": 2, "select": "last", "epochs": 1}, run
    )  # fmt: skip
    assert recallk.evaluate(run).items == "4 vectors of 2 classes"


def test_a_table_is_checked(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--columns", NAMES, "--root", tmp_path / "photos"]
    assert command("data", "check", table, *words, "--image-size", "1") == 0
    assert f"{table}: all 16 images opened" in capsys.readouterr().out
    assert command("data", "check", table, "--columns", "path") == 2
    assert "--columns: 'path' names no column; write path=image,label=class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("path", "'path' names no column"),
        ("path=", "'path=' names no column"),
        ("", "names no column"),
        ("file=image", "no column 'file': one of path, label, "),
        ("path=a,path=b", "path is there twice"),
        ("path=a,label=A", "two columns are one in the table"),
    ],
)
def test_mistakes_in_what_is_typed_are_one_line(typed: str, told: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + told) as error:
        parse_columns(typed)
    assert "\n" not in str(error.value)


def test_paths_are_found_from_wherever_the_run_is_looked_at(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = str(table.relative_to(tmp_path))
    values = SMALL | {"data": own, "columns": NAMES, "root": "photos", "select": "last", "batch_size": 4}
    recallk.train(values, "run")
    assert recallk.evaluate("run", data=own).items == "16 images of 4 classes"
    comparison = recallk.compare({**values, "epochs": 1}, "compared", losses=["recall@k"], rates=(1,), seeds=1)
    assert len(comparison[0].results) == 1
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert recallk.evaluate("../run").items == "8 images of 2 classes"
    assert recallk.report("../compared/recall@k/seed-1") == []


def test_a_column_that_is_not_read_is_told(table: Path) -> None:
    with pytest.raises(InputError, match="columns says what id is called, which is not read here: path, label, split"):
        read_own(str(table), layout=Layout({"id": "nope"}))


def test_a_column_is_not_two(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", ("label", "image", "split"), [("a", "b", "train")])
    with pytest.raises(InputError, match=r"column label would be two; say of both what they are called"):
        read_columns(path, ("path", "label"), (), Layout({"path": "label"}))
    swapped = read_columns(path, ("path", "label"), ("split",), Layout({"path": "label", "label": "split"}))
    assert dict(swapped) == {"path": ["a"], "label": ["train"]}


def test_what_is_no_table_has_no_layout(tmp_path: Path) -> None:
    save_classes(tmp_path, ["a", "b"])
    for given in ({"columns": "label=class"}, {"root": "x"}):
        with pytest.raises(InputError, match=r"not a table .*--columns and --root are for tables"):
            read_for_training(settings(tmp_path, **given))
        values: dict[str, Any] = {"data": "x", "dataset": "cub"} | given
        with pytest.raises(ValueError, match="columns and root are for own tables, and these are cub"):
            DataSettings(**values)
