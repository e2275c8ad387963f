"""What runs reached is read from their folders, whatever these are like by now."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recallk.comparison.outcomes import interval, outcomes
from recallk.comparison.single_run import best_validation, failure_of, result_of, write_failure
from recallk.reporting.comparison import save_table, table_of
from recallk.runs.folder import RunFolder
from tests.training.made import made_comparison, made_run

RESULT = '{"kind": "result", "epoch": 1, "step": 2, "recall@1": %s, "recall@2": 0.5, "map@r": 0.5}\n'


def cell(folder: Path, *recalls: float) -> str:
    made_comparison(folder, one=recalls)
    return table_of(outcomes([folder]))[1][0].cells[1]


@pytest.mark.parametrize(
    ("recalls", "expected"),
    [
        ((0.37, 0.54), "45.5 (0 to 100)"),
        ((0.98, 0.99), "98.5 (92.1 to 100)"),
        ((0.01, 0.02), "1.5 (0 to 7.9)"),
        ((0.5,), "50.0"),
        ((1.0, 1.0, 1.0), "100.0 ± 0.0"),
        ((0.0, 0.0, 0.0), "0.0 ± 0.0"),
    ],
)
def test_no_interval_leaves_0_to_100(tmp_path: Path, recalls: tuple[float, ...], expected: str) -> None:
    assert cell(tmp_path, *recalls) == expected


def test_an_interval_that_fits_is_shown_as_ever(tmp_path: Path) -> None:
    recalls = (0.52, 0.527, 0.531)
    assert cell(tmp_path, *recalls) == "{:.1f} ± {:.1f}".format(*interval([100 * recall for recall in recalls]))


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(content)


def without(kind: str) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["kind"] != kind))

    return damage


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no metrics": ("not finished", lambda run: (run / "metrics.jsonl").unlink()),
    "no rows": ("not finished", text("metrics.jsonl", "")),
    "no result": ("not finished", without("result")),
    "other rows": ("not finished", text("metrics.jsonl", '{"a": 1}\n{"b": 2}\n')),
    "rows of numbers": ("seed-2", text("metrics.jsonl", "5\n[]\nnull\n")),
    "garbage": ("seed-2", lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\xfe\x00\x01")),
    "a cut row": ("seed-2", text("metrics.jsonl", '{"kind": "res')),
    "a result that is no number": ("not finished", text("metrics.jsonl", RESULT % '"x"')),
    "a result that is NaN": ("not finished", text("metrics.jsonl", RESULT % "NaN")),
    "a result beyond 1": ("is damaged", text("metrics.jsonl", RESULT % "45.3")),
    "a result without recall": ("is damaged", text("metrics.jsonl", '{"kind": "result", "epoch": 1, "step": 2}\n')),
    "no steps": ("rows are missing", text("metrics.jsonl", RESULT % "0.5")),
    "no config": ("is damaged", lambda run: (run / "config.yaml").unlink()),
    "a config of another version": ("unknown key 'old'", text("config.yaml", "data: x\nold: 1\n")),
    "a config that is a list": ("is damaged", text("config.yaml", "[1, 2]")),
    "a config that is no text": ("is damaged", lambda run: (run / "config.yaml").write_bytes(b"\xff\x00")),
    "a cost that is none": ("memory is unknown", text("cost.json", "")),
    "a cost that is a list": ("memory is unknown", text("cost.json", "[]")),
    "a cost without end": ("memory is unknown", text("cost.json", '{"peak_bytes": Infinity}')),
    "a failure that is no text": ("seed-2: \\xff", lambda run: (run / "failure.txt").write_bytes(b"\xff\n")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_a_remark(tmp_path: Path, damage: str) -> None:
    folder = made_comparison(tmp_path / "both", one=(0.5, 0.6), other=(0.2, 0.3))
    word, do = DAMAGES[damage]
    do(folder / "one" / "seed-2")
    found = {outcome.name: outcome for outcome in outcomes([folder])}
    columns, rows = table_of(list(found.values()))
    save_table(list(found.values()), tmp_path / "comparison.csv")
    (row,) = [row for row in rows if row.cells[0] == "one"]
    assert row.cells[columns.index("seeds")] == str(len(found["one"].results))
    assert word in " ".join(row.remarks)
    assert all(remark.isprintable() for remark in row.remarks)
    assert len(found["one"].results) == (2 if word in ("rows are missing", "memory is unknown", "seed-2: \\xff") else 1)
    assert (len(found["other"].results), found["other"].remarks) == (2, [])


def test_a_contender_whose_runs_are_all_damaged_is_a_row(tmp_path: Path) -> None:
    made_comparison(tmp_path, one=(0.5, 0.6))
    for run in (tmp_path / "one").iterdir():
        (run / "config.yaml").write_text("")
    (row,) = table_of(outcomes([tmp_path]))[1]
    assert not row.measured
    assert len(row.remarks) == 2


def test_folders_of_other_hands_do_not_stop_the_table(tmp_path: Path) -> None:
    made_comparison(tmp_path, one=(0.5,))
    for name in ("rate-fast-1", "rate-..-1", "rate-1e-1e-1", "seed-x", "notes", "rate-0.001-1"):
        (tmp_path / "one" / name).mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "seed-1").write_text("a file")
    found = {outcome.name: outcome for outcome in outcomes([tmp_path])}
    assert found["one"].learning_rates == [0.001]
    assert found["two"].remarks == ["not finished"]


def test_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    made_comparison(tmp_path / "of\x1b[2J", **{"a\x1b[31m": (0.5,), "b\nc": (0.4,)})
    assert [outcome.name for outcome in outcomes([tmp_path / "of\x1b[2J"])] == ["a\\x1b[31m", "b\\nc"]
    made_comparison(tmp_path / "other", c=(0.1,))
    names = [outcome.name for outcome in outcomes([tmp_path / "of\x1b[2J", tmp_path / "other"])]
    assert names == ["of\\x1b[2J: a\\x1b[31m", "of\\x1b[2J: b\\nc", "other: c"]


def test_a_failure_is_one_line_that_can_be_shown(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert failure_of(run) is None
    write_failure(run, "no such\nfile: \x1b[31m\udcff.png")
    assert failure_of(run) == "no such file: \\x1b[31m\\udcff.png"
    assert [path.name for path in run.path.iterdir()] == ["failure.txt"]
    (run.path / "failure.txt").write_text("")
    assert failure_of(run)


def test_a_run_without_validation_rows_chooses_no_rate(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 0.5)
    assert best_validation(RunFolder(run)) == 0.4
    without("validation")(run)
    assert result_of(RunFolder(run)) is not None
    assert best_validation(RunFolder(run)) is None


def test_a_batch_that_shrank_is_told_where_a_first_seed_is_damaged(tmp_path: Path) -> None:
    made_comparison(tmp_path, one=(0.5, 0.6))
    for run in (tmp_path / "one").iterdir():
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("batch_size: null", "batch_size: 80"))
    shutil.rmtree(tmp_path / "one" / "seed-1")
    (tmp_path / "one" / "seed-1").mkdir()
    (outcome,) = outcomes([tmp_path])
    assert outcome.remarks == ["seed-1: not finished", "its batches have 40 items: there are no more classes"]


def test_rows_without_their_numbers_count_for_nothing(tmp_path: Path) -> None:
    made_comparison(tmp_path, one=(0.5,))
    with (tmp_path / "one" / "seed-1" / "metrics.jsonl").open("a") as file:
        for rest in ("", ', "images": null', ', "seconds": "x"', f', "step": {"9" * 400}', ', "images": 1e308'):
            file.write(f'{{"kind": "step", "epoch": 1{rest}}}\n')
    (outcome,) = outcomes([tmp_path])
    assert (list(outcome.items), list(outcome.minutes), outcome.remarks) == ([80], [0.2], [])
