"""Rows come back as they were written, whatever an interruption, a full disk or an earlier version left of the file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recallk import InputError
from recallk.runs.folder import RunFolder
from recallk.runs.history import (
    Measurement,
    MeasurementKind,
    Row,
    Start,
    Step,
    append_row,
    columns,
    read_rows,
    write_rows,
)

COUNTS = st.integers(0, 2**60)
NUMBERS = st.floats(-1e99, 1e99)
TEXTS = st.text(st.characters(codec=None), max_size=20)  # also what is no UTF-8
KINDS: list[MeasurementKind] = ["validation", "evaluation", "result"]
NAMES = st.sampled_from(["recall@1", "map@r", "small recall@10", "nmi", "\u0645 recall@1"])
ROWS: st.SearchStrategy[Row] = st.one_of(
    st.builds(Start, COUNTS, TEXTS, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3).map(tuple)),
    st.builds(Step, COUNTS, COUNTS, NUMBERS, NUMBERS, COUNTS, NUMBERS, st.none() | NUMBERS, st.none() | TEXTS),
    st.builds(Step, COUNTS, COUNTS, st.none(), NUMBERS, COUNTS, NUMBERS, st.none(), TEXTS),
    st.builds(Measurement, st.sampled_from(KINDS), COUNTS, COUNTS, st.dictionaries(NAMES, NUMBERS), NUMBERS),
)
STEP = Step(1, 1, 0.5, 0.1, 8, 2.0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("rows") / "metrics.jsonl"
    return path


@given(st.lists(ROWS, max_size=6), ROWS)
def test_rows_come_back_as_they_were_written(shared: Path, rows: list[Row], last: Row) -> None:
    write_rows(shared, rows)
    append_row(shared, last)
    assert read_rows(shared) == [*rows, last]
    assert len(shared.read_bytes().splitlines()) == len(rows) + 1, "a line each"


@given(st.lists(ROWS, min_size=1, max_size=4), st.data())
def test_of_a_cut_file_all_whole_lines_are_read(shared: Path, rows: list[Row], data: st.DataObject) -> None:
    write_rows(shared, rows)
    whole = shared.read_bytes()
    ends = [number + 1 for number, byte in enumerate(whole) if byte == ord("\n")]
    cut = data.draw(st.integers(0, len(whole)))
    shared.write_bytes(whole[:cut])
    there = sum(end - 1 <= cut for end in ends)  # a line is whole without its line break
    assert read_rows(shared) == rows[:there]
    append_row(shared, STEP)
    assert read_rows(shared) == [*rows[:there], STEP]


def test_rows_with_earlier_names_are_read(tmp_path: Path) -> None:
    earlier = {"kind": "step", "epoch": 1, "step": 3, "loss": 0.5, "learning_rate": 0.1, "images": 40, "seconds": 2.0}
    lines = [earlier | {"usable": 0.75}, earlier, {"kind": "evaluation", "epoch": 1, "step": 3, "recall@1": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected: list[Row] = [
        Step(1, 3, 0.5, 0.1, items=40, seconds=2.0, reached=0.75),
        Step(1, 3, 0.5, 0.1, items=40, seconds=2.0),
        Measurement("evaluation", 1, 3, {"recall@1": 0.5}),
    ]
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows == expected
    write_rows(tmp_path / "metrics.jsonl", rows)
    assert "images" not in (tmp_path / "metrics.jsonl").read_text()
    assert read_rows(tmp_path / "metrics.jsonl") == expected


def test_columns_are_of_one_kind_and_of_rows_that_have_them_all() -> None:
    rows: list[Row] = [
        Start(0, "m", "v", "test", "w"),
        Measurement("evaluation", 0, 0, {"recall@1": 0.25}, 1.5),
        Step(1, 1, 0.5, 0.1, 8, 2.0, reached=0.75),
        Step(1, 2, 0.25, 0.1, 8, 3.0),
        Measurement("validation", 1, 2, {"recall@1": 0.5, "map@r": 0.125}),
        Measurement("result", 1, 2, {"recall@1": 1.0}),
    ]
    assert columns(rows, "step", "epoch", "step", "items", "seconds") == [[1, 1], [1, 2], [8, 8], [2.0, 3.0]]
    rows.append(Step(1, 3, None, 0.1, 8, 1.0, note="skipped: the loss is nan"))
    assert columns(rows, "step", "step", "loss") == [[1, 2], [0.5, 0.25]]
    assert columns(rows, "step", "step", "reached") == [[1], [0.75]]
    assert columns(rows, "validation", "epoch", "map@r") == [[1], [0.125]]
    assert columns(rows, "evaluation", "seconds", "recall@1") == [[1.5], [0.25]]
    assert columns(rows, "result", "map@r") == [[]]
    assert columns([], "step", "loss", "step") == [[], []]


def test_rows_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        RunFolder(tmp_path).append(STEP)
    with pytest.raises(InputError, match="a folder, not a file"):
        RunFolder(tmp_path).history()
    assert RunFolder(tmp_path / "nothing").history() == []


def test_a_row_after_a_cut_line_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    folder, other = RunFolder(tmp_path), Step(1, 2, 0.25, 0.1, 8, 2.0)
    folder.append(STEP)
    with folder.metrics.open("a") as file:
        file.write('{"kind": "st')
    folder.append(other)
    assert folder.history() == [STEP, other]


SOUND = {"kind": "step", "epoch": 1, "step": 1, "loss": 0.5, "learning_rate": 0.1, "items": 8, "seconds": 0.5}
MEASURED = {"kind": "evaluation", "epoch": 0, "step": 0, "map@r": 0.5}
BEGUN = {"kind": "start", "epoch": 0, "machine": "m", "versions": "v", "selection": "s", "how_chosen": "h"}
BEGUN |= {"differences": ["d"]}


def changed(row: dict[str, object], **changes: str) -> str:
    """Return the line of a row with values as they stand in JSON."""
    values = {key: json.dumps(value) for key, value in row.items()} | changes
    return "{" + ", ".join(f'"{key}": {value}' for key, value in values.items()) + "}"


@pytest.mark.parametrize(
    "row",
    [
        *(changed(SOUND, seconds=value) for value in ("null", "Infinity", "1e300", "true", "[1]", '"1"')),
        *(changed(SOUND, loss=value) for value in ("NaN", "-Infinity", "null", '"0.5"')),
        *(changed(SOUND, items=value) for value in ("9" * 400, "-8", "8.0", "true", "null")),
        *(changed(SOUND, epoch=value) for value in ("9" * 400, "9" * 5000, "-1", "1.0", "true", "null")),
        *(changed(SOUND, step=value) for value in ("-1", "1.5", "null")),
        *(changed(SOUND, reached=value) for value in ("NaN", "null", "true")),
        *(changed(SOUND, note=value) for value in ("null", "3", "[]")),
        *(changed(SOUND, kind=value) for value in ("null", '"other"', "[]", "3", "{}")),
        *(
            changed({name: value for name, value in SOUND.items() if name != lost})
            for lost in ("epoch", "items", "loss")
        ),
        *(changed(MEASURED, **{"map@r": value}) for value in ("null", '"0.5"', "NaN")),
        *(changed({name: value for name, value in MEASURED.items() if name != lost}) for lost in ("kind", "epoch")),
        *(changed(BEGUN, machine=value) for value in ("null", "3", "[]")),
        *(changed(BEGUN, differences=value) for value in ("null", '"abc"', "[3]", "{}")),
        *(changed({name: value for name, value in BEGUN.items() if name != lost}) for lost in ("epoch", "versions")),
        *("", "3", "null", "[]", '"start"', "{", "[" * 100_000, "\x00"),
    ],
    ids=lambda row: str(row[:60]),
)
def test_only_whole_rows_of_finite_numbers_are_read(tmp_path: Path, row: str) -> None:
    folder = RunFolder(tmp_path)
    sound = Step(0, 1, -3.4e38, 0.0, 8, 0.5)
    folder.append(sound)
    with folder.metrics.open("a") as file:
        file.write(row + "\n")
    assert folder.history() == [sound]


def test_the_rows_that_were_damaged_above_are_sound_without_it(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(changed(row) + "\n" for row in (SOUND, MEASURED, BEGUN)))
    assert [type(row) for row in read_rows(tmp_path / "metrics.jsonl")] == [Step, Measurement, Start]
