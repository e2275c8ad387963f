"""A split that comes with the data, as folders at the top or in a column: taken as it is, and told."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import recallk
from recallk import InputError
from recallk.comparison.contenders import Contender
from recallk.comparison.experiment import Comparison
from recallk.data.dataset import Dataset, read_for_test, read_for_training
from recallk.data.settings import DataSettings
from recallk.data.source import read_own, read_to_fit
from recallk.runs.folder import RunFolder
from recallk.training.plan import prepare
from tests.cli.test_cli import recallk as command
from tests.configs import image_config
from tests.data import miniatures
from tests.data.test_dataset import items_of, read_twice, save_classes, settings
from tests.miniature_run import SMALL
from tests.rows import kind_of

SIDES = {"train": "abc", "val": "de", "test": "fg"}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for side, names in SIDES.items():
        save_classes(tmp_path / "data" / side, list(names))
    return tmp_path / "data"


@pytest.fixture(params=["folders", "csv", "jsonl", "vectors"])
def data(request: pytest.FixtureRequest, folders: Path, tmp_path: Path) -> Path:
    """Return the same split in another form."""
    rows = [
        (f"data/{side}/{label}/{number}.png", label, side)
        for side, labels in SIDES.items()
        for label in labels
        for number in range(4)
    ]
    match request.param:
        case "csv":
            text = "\n".join(["path;label;Split", *(f"{path};{label};{side.upper()}" for path, label, side in rows)])
            (tmp_path / "t.csv").write_text(text)
            return tmp_path / "t.csv"
        case "jsonl":
            lines = [f'{{"path": "{path}", "label": "{label}", "split": "{side}"}}' for path, label, side in rows]
            (tmp_path / "t.jsonl").write_text("\n".join(lines))
            return tmp_path / "t.jsonl"
        case "vectors":
            vectors = list(np.random.default_rng(0).standard_normal((len(rows), 6)).astype(np.float32))
            columns: dict[str, Any] = {"embedding": vectors, "label": [row[1] for row in rows]}
            parquet.write_table(pyarrow.table(columns | {"split": [row[2] for row in rows]}), tmp_path / "v.parquet")
            return tmp_path / "v.parquet"
    return folders


def classes(read: Dataset) -> list[list[str]]:
    return [[] if side is None else list(side.classes) for side in (read.train, read.validation, read.test.labelled)]


def test_it_is_taken_as_it_is(data: Path, tmp_path: Path) -> None:
    read, again = read_twice(settings(data), tmp_path)
    assert classes(read) == [["a", "b", "c"], ["d", "e"], ["f", "g"]]
    assert [len(read.train), len(read.validation or []), len(read.test.labelled)] == [12, 8, 8]
    assert (read.validation_given, read.split_by_us, read.why_no_validation) == (True, False, "")
    assert {side: sorted(labels) for side, labels in read.split.splits.items()} == {
        "train": ["a", "b", "c"],
        "validation": ["d", "e"],
        "test": ["f", "g"],
    }
    assert again.validation_given
    assert not again.notes
    if data.suffix != ".parquet":
        assert items_of(again) == items_of(read)
        assert read.opened == read.files == 28


@pytest.mark.parametrize("select", ["test", "last"])
def test_its_validation_is_left_out_where_nothing_is_chosen_by_it(data: Path, tmp_path: Path, select: str) -> None:
    for read in read_twice(settings(data, select=select), tmp_path):
        assert classes(read) == [["a", "b", "c"], [], ["f", "g"]]
        assert not read.validation_given
        assert not read.notes


def test_classes_are_split_anew_where_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    for read in read_twice(settings(data, split="classes"), tmp_path):
        assert read.split_by_us
        assert not read.validation_given
        assert sorted([*read.train.classes, *read.test.labelled.classes]) == list("abcdefg")
    others = [classes(read_for_training(settings(data, split="classes", split_seed=seed))) for seed in range(5)]
    assert len({str(sides) for sides in others}) > 1


def test_what_is_fitted_and_tested_keeps_to_its_side(folders: Path) -> None:
    records, _ = read_to_fit(str(folders))
    assert {record.label for record in records} == set("abc")
    test, _ = read_for_test(settings(folders))
    assert test.labelled.classes == ["f", "g"]


@pytest.mark.parametrize("made", ["image beside the classes", "another folder", "no training", "no other side"])
def test_other_folders_are_classes(tmp_path: Path, made: str) -> None:
    root = tmp_path / "data"
    for side in {"no training": ["val", "test"], "no other side": ["train"]}.get(made, ["train", "test"]):
        save_classes(root / side, ["a", "b"])
    if made == "image beside the classes":
        save_classes(root, ["x"])
        (root / "x" / "0.png").rename(root / "train" / "0.png")
        for file in (root / "x").iterdir():
            file.unlink()
    elif made == "another folder":
        save_classes(root / "more", ["a"])
    records, notes = read_own(str(root))
    assert {record.split for record in records} == {None}
    told = [note for note in notes if "are taken as classes: for a split, let there be" in note.message]
    assert bool(told) is (made in ("image beside the classes", "another folder"))
    tops = {record.label.partition("/")[0] for record in records}
    assert tops <= ({"a", "b"} if made == "no other side" else {"train", "test", "val", "more"})


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_a_class_on_two_sides_is_told(folders: Path, one: str, other: str) -> None:
    save_classes(folders / one.replace("validation", "val"), ["z"])
    save_classes(folders / other.replace("validation", "val"), ["z"])
    with pytest.raises(InputError, match=f"class z is in the {one} and in the {other} split.*--split classes splits"):
        read_for_training(settings(folders))
    assert "z" in {*np.concatenate(classes(read_for_training(settings(folders, split="classes"))))}


def test_a_validation_without_positives_is_told(tmp_path: Path) -> None:
    for side, images in (("train", 4), ("valid", 1), ("test", 4)):
        save_classes(tmp_path / side, [f"{side}1", f"{side}2"], images)
    with pytest.raises(InputError, match="every validation class has one item"):
        read_for_training(settings(tmp_path))


def test_a_validation_that_cannot_be_read_is_told(folders: Path) -> None:
    for file in (folders / "val").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match="none of the validation images can be read"):
        read_for_training(settings(folders, on_bad_image="skip", max_bad_images=0.9))


def test_a_benchmark_is_split_as_it_is() -> None:
    with pytest.raises(ValueError, match="split=classes is for own data, and these are cub: leave it out"):
        DataSettings(data="x", dataset="cub", split="classes")


def test_a_run_is_chosen_by_it_and_measured_reported_and_searched(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = SMALL | {"data": str(folders), "select": "validation", "epochs": 2, "batch_size": 6}
    assert prepare(image_config(values)).how_chosen.startswith("the best by MAP@R on the validation classes given")
    summary = recallk.train(values, tmp_path / "run")
    assert [kind_of(row) for row in summary.rows].count("validation") == 3
    run = RunFolder(tmp_path / "run")
    split = run.read_split()
    assert split is not None
    assert set(split.splits) == {"train", "validation", "test"}
    measured = recallk.evaluate(run.path).metrics
    assert measured["recall@1"] == pytest.approx(summary.after.metrics["recall@1"])
    assert recallk.report(run.path) == []
    assert "validation" in run.report.read_text()
    found = recallk.search(recallk.load(run.path), [folders / "test" / "f" / "0.png"], folders / "test", k=2)
    assert found.similarities.shape == (1, 2)
    options = ["--batch-size", "12", "--weights", "none", "--backbone", "test_resnet", "--image-size", "16"]
    assert command("train", "--data", folders, *options, "--run", tmp_path / "dry", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "validate  8 images of 2 classes, as given, to choose the best epoch" in told
    assert "split     as given with the data (--split classes: by the classes' names)" in told


@pytest.mark.parametrize("select", ["validation", "last"])
def test_all_may_be_trained_on_and_nothing_is_measured(
    tmp_path: Path, select: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(40)])
    values = SMALL | {"data": str(data), "select": select, "test_fraction": 0, "validation_fraction": 0.7, "epochs": 2}
    summary = recallk.train(values, tmp_path / "run")
    kinds = {kind_of(row) for row in summary.rows}
    assert kinds == {"start", "step", "result"} | ({"validation"} if select == "validation" else set())
    assert summary.metrics == []
    assert summary.warnings == [
        "no class was kept for testing (test_fraction=0): nothing tells how well it finds classes never seen"
    ]
    run = RunFolder(tmp_path / "run")
    split = run.read_split()
    assert split is not None
    assert split.splits["test"] == {}
    trained = {*split.splits["train"], *split.validation}
    assert trained == {f"c{number:02}" for number in range(40)}
    assert bool(split.validation) == (select == "validation")
    with pytest.raises(InputError, match=r"nothing was kept for testing \(test_fraction=0\): measure it on other data"):
        recallk.evaluate(run.path)
    assert 0 <= recallk.evaluate(run.path, data=str(data)).metrics["recall@1"] <= 1
    (told,) = recallk.report(run.path)
    assert "nothing was kept for testing" in told
    assert recallk.load(run.path).embed([data / "c00" / "0.png"]).shape == (1, 8)
    more = recallk.training.train.resume(run.path, {"epochs": 3})
    assert more.after.epoch == (3 if select == "last" else more.after.epoch)
    assert command("train", "--resume", run.path, "--epochs", 4) == 0
    said = capsys.readouterr().out
    assert "test      none (--test-fraction 0)" in said
    assert "warning   no class was kept for testing (test_fraction=0)" in said
    assert "on classes never seen in training" not in said


def test_data_without_a_test_side_needs_test_fraction_zero(folders: Path) -> None:
    with pytest.raises(InputError, match=r"test_fraction=0 keeps no class for testing, and the data comes with test"):
        read_for_training(settings(folders, test_fraction=0))
    shutil.rmtree(folders / "test")
    with pytest.raises(InputError, match=r"the given split has no test items \(--test-fraction 0 does without\)"):
        read_for_training(settings(folders))
    read = read_for_training(settings(folders, test_fraction=0))
    assert classes(read) == [["a", "b", "c"], ["d", "e"], []]
    assert read.validation_given
    assert read.test.none


def test_a_benchmark_that_we_split_may_be_trained_on_whole(tmp_path: Path) -> None:
    root = miniatures.make("gldv2-clean", tmp_path / "data")
    read = read_for_training(settings(root, dataset="gldv2-clean", test_fraction=0))
    assert read.test.none
    assert len(read.train.classes) + len(read.validation.classes if read.validation else []) > 2


def test_what_needs_test_classes_is_told_that_there_are_none(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(12)])
    values = SMALL | {"data": str(data), "test_fraction": 0}
    with pytest.raises(InputError, match="select=test needs test classes, and test_fraction=0 leaves none"):
        recallk.train(values, tmp_path / "run")
    comparison = Comparison(tmp_path / "compare", values | {"select": "last"}, [Contender("one", {})], (1.0,), 1)
    with pytest.raises(InputError, match="test_fraction=0 leaves nothing to compare on"):
        list(comparison.run())
    both = [Contender("none", {"test_fraction": 0}), Contender("one", {})]
    comparison = Comparison(tmp_path / "both", values | {"select": "last", "test_fraction": 0.5}, both, (1.0,), 1)
    jobs = comparison.run()
    assert next(jobs).contender.name == "one"
    jobs.close()
    (refused,) = comparison.refused
    assert refused.startswith("none: test_fraction=0 leaves nothing to compare on")
