"""What a run reached, from its folder alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recallk import InputError
from recallk.runs.config import make_config, to_yaml
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, Row, Start, Step, write_rows
from recallk.runs.summary import Summary, percent, summary_of

BEFORE = {"recall@1": 0.379, "recall@2": 0.5, "map@r": 0.2}
AFTER = {"recall@1": 0.6, "recall@2": 0.7, "map@r": 0.4, "mrr": 0.6}
BEGUN = Start(0, "2 CPU cores", "recallk 0", "test", "the best on the test classes", ("batches of 8 images",))
ROWS: list[Row] = [
    BEGUN,
    Measurement("evaluation", 0, 0, BEFORE, 1.0),
    Measurement("validation", 0, 0, {"recall@1": 0.1}, 2.0),
    Step(1, 1, 0.5, 0.1, 8, 4.0, reached=0.5),
    Step(1, 2, 0.4, 0.1, 8, 8.0),
    Measurement("evaluation", 1, 2, AFTER, 16.0),
    Measurement("result", 1, 2, AFTER, 16.0),
]


def folder_of(path: Path, rows: list[Row] = ROWS, **changes: Any) -> RunFolder:
    """Write the folder of a run that was never trained."""
    folder = RunFolder(path)
    path.mkdir(exist_ok=True)
    config = make_config({"data": "nowhere", "evaluate_ks": (1, 2), "select": "test"}, changes)
    folder.config.write_text(to_yaml(config))
    write_rows(folder.metrics, rows)
    return folder


def summary_from(before: dict[str, float], after: dict[str, float], **changes: Any) -> Summary:
    start, result = Measurement("evaluation", 0, 0, before), Measurement("result", 1, 2, after)
    return Summary(make_config({"data": "x", "select": "last"}, changes), [start, result], start, result)


def test_a_summary_holds_what_the_folder_does(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    summary = summary_of(folder)
    assert summary.config == folder.read_config()
    assert list(summary.rows) == ROWS
    assert summary.start == BEGUN
    assert summary.before.metrics == BEFORE
    assert (summary.after.kind, summary.after.epoch, summary.after.metrics) == ("result", 1, AFTER)
    assert summary.steps == [row for row in ROWS if isinstance(row, Step)]
    assert summary.training_seconds == 12
    assert summary.seconds == 31, "the result was measured once, as the evaluation of its epoch"
    assert summary.metrics == ["recall@1", "recall@2", "map@r"]
    assert summary.warnings == []


def test_a_summary_of_several_test_sets_names_the_metrics_of_each(tmp_path: Path) -> None:
    names = ("small recall@1", "small map@r", "large recall@10", "large mrr", "precision@1")
    result = Measurement("result", 1, 2, dict.fromkeys(names, 0.5))
    summary = summary_of(folder_of(tmp_path, [*ROWS[:-1], result]))
    assert summary.metrics == ["small recall@1", "small map@r", "large recall@10"]


def test_a_run_that_was_resumed_is_told_as_it_went_on(tmp_path: Path) -> None:
    resumed = replace(BEGUN, epoch=1, machine="a GPU", differences=())
    assert summary_of(folder_of(tmp_path, [*ROWS[:4], resumed, *ROWS[4:]])).start == resumed


def test_rows_that_are_lost_leave_gaps(tmp_path: Path) -> None:
    """A run of an earlier version has no start row either."""
    summary = summary_of(folder_of(tmp_path, ROWS[-1:]))
    assert summary.before.metrics == {}
    assert summary.start.machine == summary.start.versions == "unknown"
    assert summary.start.differences == ()
    assert (summary.steps, summary.seconds, summary.training_seconds) == ([], 0, 0)
    assert summary.after.metrics == AFTER
    assert summary.warnings == []


def test_the_start_is_never_the_row_of_another_epoch(tmp_path: Path) -> None:
    assert summary_of(folder_of(tmp_path, [ROWS[0], *ROWS[2:]])).before.metrics == {}


def test_what_is_no_finished_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a run: no config\.yaml in this folder"):
        summary_of(RunFolder(tmp_path / "a run"))
    folder = folder_of(tmp_path / "a run", ROWS[:-1])
    with pytest.raises(
        InputError, match=r"no result in its metrics\.jsonl; finish it: recallk train --resume '.*a run'"
    ):
        summary_of(folder)
    folder.metrics.unlink()
    with pytest.raises(InputError, match="no result"):
        summary_of(folder)


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ({"recall@1": 0.368, "map@r": 0.7}, "recall@1 fell from 37.9 to 36.8;"),
        ({"recall@1": 0.4, "map@r": 0.1}, "map@r fell from 20.0 to 10.0;"),
        ({"recall@1": 0.3, "map@r": 0.1}, "recall@1 fell from 37.9 to 30.0 and map@r fell from 20.0 to 10.0;"),
        ({"recall@1": 0.379, "map@r": 0.2}, None),
        ({"recall@1": 0.6, "map@r": 0.5, "recall@2": 0.0}, None),
    ],
)
def test_a_result_below_the_start_is_told(after: dict[str, float], told: str | None) -> None:
    said = summary_from(BEFORE, after).warnings
    assert (told in said[0] and "try a lower --learning-rate" in said[0]) if told else said == []
    assert not said or "--select last" not in said[0]


def test_steps_that_were_left_out_are_told(tmp_path: Path) -> None:
    left_out = [Step(1, number, None, 0.05, 8, 1.0, note="skipped: the loss is nan") for number in (3, 4)]
    (told,) = summary_of(folder_of(tmp_path, [*ROWS[:5], *left_out, *ROWS[5:]])).warnings
    assert told.startswith("2 of 4 steps were left out, first step 3, at learning rate 0.05 (skipped: the loss is nan)")


def test_the_last_epoch_is_advised_where_it_was_not_taken() -> None:
    fallen = summary_from(BEFORE, {"recall@1": 0.1}, select="validation")
    assert ", --select last, or more classes" in fallen.warnings[0]
    too_few_classes = replace(fallen, start=replace(BEGUN, selection="last"))
    assert "--select last" not in too_few_classes.warnings[0]


def test_what_falls_is_the_recall_at_the_first_k() -> None:
    before, after = {"recall@1": 0.5, "recall@4": 0.5}, {"recall@1": 0.1, "recall@4": 0.4}
    assert "recall@4 fell from 50.0 to 40.0;" in summary_from(before, after, evaluate_ks=(4, 1)).warnings[0]


def test_a_start_that_is_lost_is_below_nothing() -> None:
    assert summary_from({}, {"recall@1": 0.1, "map@r": 0.1}).warnings == []


def test_the_published_numbers_stand_beside_what_differs() -> None:
    cars = replace(summary_from(BEFORE, AFTER, recipe="cars196-resnet50", epochs=3), start=BEGUN)
    assert cars.published["recall@1"] == 80.7
    assert cars.beside_published is not None
    assert cars.beside_published.startswith("Published: ")
    assert "epochs 3 instead of 170; " in cars.beside_published
    assert cars.beside_published.endswith("; batches of 8 images."), "what the data made other comes last"


@pytest.mark.parametrize("recipe", [None, "demo", "gone.yaml"])
def test_without_published_numbers_nothing_stands_beside(recipe: str | None) -> None:
    summary = summary_from(BEFORE, AFTER, recipe=recipe)
    assert summary.published == {}
    assert summary.beside_published is None


def test_percentages() -> None:
    assert percent({"recall@1": 0.87449}, "recall@1") == "87.4"
    assert percent({"recall@1": 0.5}, "map@r") == "–"
