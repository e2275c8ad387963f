"""A closed set, where that is asked for: classes on several sides of a given split, and called so in every table."""

import re
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
from recallk.comparison.outcomes import outcomes
from recallk.data.dataset import read_for_training
from recallk.data.records import LabelledItems
from recallk.data.settings import DataSettings
from recallk.reporting.comparison import table_of, write_page
from recallk.runs.folder import RunFolder
from recallk.training.plan import prepare
from tests.cli.test_cli import recallk as command
from tests.configs import image_config
from tests.data.test_dataset import read_twice, save_classes, settings
from tests.miniature_run import SMALL

NAMED = "classes seen in training (a closed set)"
ROWS = [(label, side) for side, labels in {"train": "abc", "val": "ab", "test": "bcd"}.items() for label in labels] * 4


@pytest.fixture(params=["folders", "vectors", "vectors with ids"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folders":
        for side in ("train", "val", "test"):
            save_classes(tmp_path / "data" / side, [label for label, own in ROWS[:8] if own == side])
        return tmp_path / "data"
    vectors = list(np.random.default_rng(0).standard_normal((len(ROWS), 6)).astype(np.float32))
    columns: dict[str, Any] = {"embedding": vectors, "label": [row[0] for row in ROWS]}
    columns |= {"split": [row[1] for row in ROWS]}
    if request.param == "vectors with ids":
        columns |= {"id": [f"v{number}" for number in range(len(ROWS))]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet")
    return tmp_path / "v.parquet"


def items_of(side: LabelledItems | None) -> list[tuple[str, str]]:
    assert side is not None
    return sorted((record.label, str(getattr(record.item, "row", record.item))) for record in side.records)


def test_classes_may_be_on_several_sides_and_are_again_when_it_goes_on(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"class a is in the train and in the validation.*--closed-set tests on classes"
    ):
        read_for_training(settings(data))
    first, again = read_twice(settings(data, closed_set=True), tmp_path)
    for read in (first, again):
        assert read.train.classes == [*"abc"]
        assert read.validation is not None
        assert read.validation.classes == [*"ab"]
        assert read.test.labelled.classes == [*"bcd"]
        assert (len(read.train), len(read.validation), len(read.test.labelled)) == (12, 8, 12)
    assert [note.message for note in first.notes] == ["1 of 3 test classes are not trained on, in a closed set"]
    assert not again.notes
    for one, other in (
        (first.train, again.train),
        (first.validation, again.validation),
        (first.test.labelled, again.test.labelled),
    ):
        assert items_of(one) == items_of(other)
    assert not {*items_of(first.train)} & {*items_of(first.test.labelled)}


def test_what_is_gone_or_new_is_told_of_each_side(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"embedding": [[1.0, float(n)] for n in range(len(ROWS))]}
    columns |= {"label": [row[0] for row in ROWS], "split": [row[1] for row in ROWS]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet")
    first = read_for_training(settings(tmp_path / "v.parquet", closed_set=True))
    more = {
        name: [*cells, extra] for (name, cells), extra in zip(columns.items(), ([1.0, 99.0], "b", "test"), strict=True)
    }
    parquet.write_table(pyarrow.table(more), tmp_path / "v.parquet")
    again = read_for_training(settings(tmp_path / "v.parquet", closed_set=True), first.split)
    assert len(again.test.labelled) == 12
    assert [note.message for note in again.notes] == ["new since the run: 1 item of 1 class; left out"]
    fewer = {
        name: [cell for cell, row in zip(cells, ROWS, strict=True) if row != ("b", "test")]
        for name, cells in columns.items()
    }
    parquet.write_table(pyarrow.table(fewer), tmp_path / "v.parquet")
    with pytest.raises(InputError, match="4 of the run's items cannot be found"):
        read_for_training(settings(tmp_path / "v.parquet", closed_set=True), first.split)


def test_every_table_calls_it_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, labels in {"train": "abc", "test": "bcd"}.items():
        save_classes(tmp_path / "data" / side, [*labels])
    values = SMALL | {"data": str(tmp_path / "data"), "select": "validation", "batch_size": 6, "closed_set": True}
    assert (
        prepare(image_config(values)).how_chosen
        == "the last: of a closed set no classes are set aside, and it has no val"
    )
    summary = recallk.train(values, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    evaluated = recallk.evaluate(run.path)
    assert evaluated.metrics["recall@1"] == pytest.approx(summary.after.metrics["recall@1"])
    assert evaluated.items == f"12 images of 3 {NAMED}"
    assert recallk.evaluate(run.path, data=str(tmp_path / "data" / "test")).items == "12 images of 3 classes"
    assert recallk.report(run.path) == []
    assert NAMED in run.report.read_text()
    assert command("train", "--resume", run.path, "--epochs", 2) == 0
    said = capsys.readouterr().out
    assert f"on {NAMED}" in said
    assert f"12 images of 3 {NAMED}" in said
    assert "never seen" not in said
    comparison = Comparison(tmp_path / "compared", values | {"select": "last"}, [Contender("one", {})], (1.0,), 1)
    assert len(list(comparison.run())) == 1
    reached = outcomes([tmp_path / "compared"])
    assert table_of(reached)[0][0] == NAMED
    assert write_page(reached, tmp_path / "compared" / "comparison.html") == []
    page = (tmp_path / "compared" / "comparison.html").read_text()
    assert page.count(NAMED) == 2
    assert "never seen" not in page
    found = recallk.search(run.path, [tmp_path / "data" / "test" / "b" / "0.png"], tmp_path / "data" / "train", k=2)
    assert found.similarities.shape == (1, 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"split": "classes"}, "closed_set is for the split that own data has, and split=classes splits by classes"),
        ({"dataset": "cub"}, "closed_set is for the split that own data has, and these are cub: leave it out"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(changes: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"data": "x", "closed_set": True} | changes
    with pytest.raises(ValueError, match=re.escape(told)):
        DataSettings(**given)


def test_what_has_no_class_in_common_is_no_closed_set(tmp_path: Path) -> None:
    save_classes(tmp_path / "train", ["a", "b"])
    save_classes(tmp_path / "test", ["c", "d"])
    with pytest.raises(InputError, match="no class is trained and tested on: it is no closed set, leave closed_set"):
        read_for_training(settings(tmp_path, closed_set=True))


def test_a_few_classes_are_of_those_that_are_on_both_sides(tmp_path: Path) -> None:
    save_classes(tmp_path / "train", ["a", "b", "c", "d"])
    save_classes(tmp_path / "test", ["c", "d", "e", "f"])
    read = read_for_training(settings(tmp_path, closed_set=True, limit_classes=2))
    assert read.train.classes == read.test.labelled.classes == ["c", "d"]


def test_data_without_a_split_are_no_closed_set(tmp_path: Path) -> None:
    data = save_classes(tmp_path, [*"abcd"])
    with pytest.raises(InputError, match="closed_set is for data that come with a split, and these have none"):
        read_for_training(settings(data, closed_set=True))
