"""What TensorBoard and Weights & Biases are given is what metrics.jsonl holds, read back from their own files."""

import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from recallk import InputError, MissingExtraError
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, Row, Start, Step
from recallk.training.loggers import numbers_of
from recallk.training.trainer import Trainer
from tests.miniature_run import Miniature
from tests.rows import without_time

Read = Callable[[Path], dict[str, list[tuple[int, float]]]]
"""From the folder of a test: by the name of a number, its steps and values."""


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return Miniature(tmp_path_factory.mktemp("miniature"))


@pytest.fixture(autouse=True)
def _nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And W&B's files are the test's own."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    wandb.teardown()  # it reads its settings once in a process


def from_tensorboard(root: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(root / "run" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def from_wandb(root: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    file = max((root / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    for _ in range(300):  # a process of its own writes the file, and may be behind where the machine is busy
        if any(record.WhichOneof("record_type") == "exit" for record in records(file)):
            break
        time.sleep(0.1)
    for record in records(file):
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name, value in row.items():
            if "/" in name:
                found.setdefault(name, []).append((row["step"], value))
    return found


def records(file: Path) -> Iterable[Any]:
    """Yield what is in a file of W&B: a header, and blocks of 32 KiB of pieces of records, as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    written, place, whole = file.read_bytes(), 7, b""
    while place < len(written):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", written, place + 4)
        whole += written[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of a record, or its last piece
            yield Record.FromString(whole)
            whole = b""


READ: dict[str, Read] = {"tensorboard": from_tensorboard, "wandb": from_wandb}


def of_rows(rows: Iterable[Row]) -> dict[str, list[tuple[int, float]]]:
    """Return what a logger is to hold of the rows of a history."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if not isinstance(row, Start):
            for name, value in numbers_of(row).items():
                near: Any = pytest.approx(value, rel=1e-6)  # TensorBoard keeps float32
                found.setdefault(name, []).append((row.step, near))
    return found


def test_the_numbers_of_rows() -> None:
    step = Step(2, 7, 0.5, 1e-3, 8, 1.5)
    assert numbers_of(step) == {
        "step/epoch": 2,
        "step/loss": 0.5,
        "step/learning_rate": 1e-3,
        "step/items": 8,
        "step/seconds": 1.5,
    }
    assert numbers_of(Step(2, 7, 0.5, 1e-3, 8, 1.5, 0.25))["step/reached"] == 0.25
    skipped = numbers_of(Step(2, 7, None, 1e-3, 8, 1.5, note="skipped: the loss is nan"))
    assert skipped.keys() == {"step/epoch", "step/learning_rate", "step/items", "step/seconds"}
    measured = numbers_of(Measurement("validation", 2, 7, {"recall@1": 0.75}, 3.0))
    assert measured == {"validation/recall@1": 0.75, "validation/epoch": 2, "validation/seconds": 3.0}
    assert numbers_of(Start(0, "", "", "", "")) == {}


@pytest.mark.parametrize("logger", READ)
def test_a_logger_holds_the_history_and_changes_nothing(mini: Miniature, tmp_path: Path, logger: str) -> None:
    folder, plain = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "plain")
    list(Trainer(mini.plan(logger=logger, epochs=2), folder).rows())
    history = folder.history()
    assert READ[logger](tmp_path) == of_rows(history)
    assert {"step/loss", "evaluation/recall@1", "result/map@r"} < of_rows(history).keys()
    list(Trainer(mini.plan(epochs=2), plain).rows())
    assert without_time(history) == without_time(plain.history())
    folder.clear()
    assert not folder.path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("logger", READ)
def test_after_an_interruption_a_logger_holds_what_counts(mini: Miniature, tmp_path: Path, logger: str) -> None:
    """Also where it is asked for only when the run goes on."""
    folder = RunFolder(tmp_path / "run")
    rows = Trainer(mini.plan(epochs=3, batch_size=None), folder).rows()
    for row in rows:
        if isinstance(row, Step) and row.epoch == 2:
            break
    rows.close()  # type: ignore[attr-defined]
    for number, epochs in enumerate((3, 4)):
        list(Trainer(mini.plan(epochs=epochs, batch_size=None, logger=logger), folder).rows(resume=True))
        history = folder.history()
        assert {row.epoch for row in history if isinstance(row, Step)} == set(range(1, epochs + 1)), number
        assert READ[logger](tmp_path) == of_rows(history)


@pytest.mark.parametrize("logger", READ)
def test_a_logger_that_is_not_installed_is_told_before_anything_is_read(
    mini: Miniature, tmp_path: Path, logger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = mini.plan(logger=logger)
    monkeypatch.setitem(sys.modules, logger, None)
    with pytest.raises(MissingExtraError, match=rf"logger={logger} needs {logger}, .* 'recallk\[{logger}\]'"):
        Trainer(plan, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_whoever_is_not_logged_in_sends_nothing_and_is_not_asked(
    mini: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    folder = RunFolder(tmp_path / "run")
    list(Trainer(mini.plan(logger="wandb"), folder).rows())
    assert from_wandb(tmp_path) == of_rows(folder.history())


def test_what_weights_and_biases_refuses_is_one_line(
    mini: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise wandb.Error("no such entity\nat all")

    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(InputError, match=r"^logger=wandb: no such entity at all; WANDB_MODE=offline"):
        list(Trainer(mini.plan(logger="wandb"), RunFolder(tmp_path / "run")).rows())
    assert not (tmp_path / "run").exists()
