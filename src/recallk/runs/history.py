"""The rows of metrics.jsonl: written one by one, read back whatever an interruption has left of the file."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from recallk.core.files import read_file, write_text, writing

MeasurementKind = Literal["validation", "evaluation", "result"]

_LARGEST = 1e100  # beyond whatever a run writes; sums and percentages of numbers below it are still finite
_MEASURED: tuple[MeasurementKind, ...] = ("validation", "evaluation", "result")
_EARLIER_NAMES = {"images": "items", "usable": "reached"}


@dataclass(frozen=True)
class Start:
    """What a run began, or went on, with: sentences for whoever reads its report."""

    epoch: int
    machine: str
    versions: str
    selection: str  # how the epoch is chosen whose model is the run's
    how_chosen: str  # the same in words
    # where the data made it differ from its configuration, or from what was published
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of training; `reached` is the share of its queries that the loss reaches, where it was measured.

    `kept` is the share of the chunks, in the first process, that were embedded once: their activations were kept.
    `note` says what went otherwise than planned. A step that was skipped has no loss; its note says why.
    """

    epoch: int
    step: int
    loss: float | None
    learning_rate: float
    items: int
    seconds: float
    reached: float | None = None
    note: str | None = None
    kept: float | None = None

    @property
    def skipped(self) -> bool:
        """Whether it changed nothing."""
        return self.loss is None


@dataclass(frozen=True)
class Measurement:
    """Metrics by their names, shares from 0 to 1, after an epoch.

    "validation" on classes given for it or set aside, "evaluation" on the test classes, or the "result": on the test
    classes, of the chosen epoch's model; without metrics where they were not measured.
    """

    kind: MeasurementKind
    epoch: int
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


Row = Start | Step | Measurement


def columns(rows: Iterable[Row], kind: MeasurementKind | Literal["step"], *names: str) -> list[list[float]]:
    """Return columns of numbers by name, of the rows of one kind that have all of them.

    >>> columns([Measurement("result", 3, 60, {"recall@1": 0.5})], "result", "epoch", "recall@1")
    [[3], [0.5]]

    """
    table = [numbers for row in rows if (numbers := _numbers(row, kind)) is not None and set(names) <= numbers.keys()]
    return [[numbers[name] for numbers in table] for name in names]


def _numbers(row: Row, kind: MeasurementKind | Literal["step"]) -> Mapping[str, float] | None:
    """Return the numbers of a row by their names; None where it is of another kind."""
    if isinstance(row, Step) and kind == "step":
        return {name: value for name, value in asdict(row).items() if isinstance(value, int | float)}
    if isinstance(row, Measurement) and kind == row.kind:
        return {**row.metrics, "epoch": row.epoch, "step": row.step, "seconds": row.seconds}
    return None


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; none where there is no file.

    Lines that are no rows, whole and of finite numbers, are passed over: the last may be cut, and a disk that was full
    leaves others. Raises InputError, one line, where the file cannot be read.
    """
    if not os.path.lexists(path):
        return []
    lines = read_file(path, Path.read_bytes, "rows of metrics", "remove it").splitlines()
    return [row for line in lines if (row := _row(line)) is not None]


def append_row(path: Path, row: Row) -> None:
    """Add a row, on a line of its own even where the last one was cut. Raises InputError where that cannot be."""
    line = f"{_line(row)}\n".encode()
    with writing(path), path.open("ab+", buffering=0) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace all rows in one step. Raises InputError where that cannot be."""
    write_text(path, "".join(f"{_line(row)}\n" for row in rows))


def _line(row: Row) -> str:
    match row:
        case Start():
            return json.dumps({"kind": "start", **asdict(row)})
        case Step():
            return json.dumps({"kind": "step"} | {k: v for k, v in asdict(row).items() if v is not None})
        case Measurement():
            about = {"kind": row.kind, "epoch": row.epoch, "step": row.step}
            return json.dumps(about | dict(row.metrics) | {"seconds": row.seconds})


def _row(line: bytes) -> Row | None:
    try:
        written = json.loads(line)
        kind = written.pop("kind")
        if kind == "start":
            return _start(written)
        note = _text(written.pop("note")) if kind == "step" and "note" in written else None
        values = {_EARLIER_NAMES.get(name, name): _number(value) for name, value in written.items()}
        epoch, step = _count(values.pop("epoch")), _count(values.pop("step"))
        seconds = values.pop("seconds", 0.0)
        if kind == "step":
            items = _count(values.pop("items"))
            loss = values.pop("loss") if note is None else values.pop("loss", None)
            rate = values.pop("learning_rate", 0.0)
            return Step(epoch, step, loss, rate, items, seconds, values.get("reached"), note, values.get("kept"))
        if kind in _MEASURED:
            return Measurement(kind, epoch, step, values, seconds)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # not a row
    return None


def _start(written: dict[str, Any]) -> Start:
    names = ("machine", "versions", "selection", "how_chosen")
    machine, versions, selection, how_chosen = (_text(written[name]) for name in names)
    told = written["differences"]
    if not isinstance(told, list):
        raise ValueError("not a list of sentences")
    differences = tuple(map(_text, told))
    return Start(_count(written["epoch"]), machine, versions, selection, how_chosen, differences)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < _LARGEST:  # NaN is not below
        raise ValueError("not a finite number")
    number: float = value
    return number


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a number from 0")
    count: int = value
    return count
