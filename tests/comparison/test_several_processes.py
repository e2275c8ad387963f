"""Comparisons whose runs train in several processes each."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from recallk import InputError
from recallk.comparison.contenders import Contender
from recallk.comparison.experiment import Comparison
from recallk.runs.folder import RunFolder
from tests.comparison import processes
from tests.comparison.test_experiment import runs, soon
from tests.rows import measured
from tests.training.test_trainer import SMALL, save_patterns

BOTH = [Contender("recall@k", {}), Contender("contrastive", {"loss": "contrastive"})]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=6)


def compared(folder: Path, pictures: Path, contenders: list[Contender] | None = None, **changes: Any) -> Comparison:
    return Comparison(folder, SMALL | {"data": str(pictures)} | changes, contenders or BOTH, (1,), 1, at_once=2)


def test_what_cannot_be_is_refused_before_anything_runs(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="far: nodes=2: a comparison runs on one machine"):
        compared(tmp_path / "runs", pictures, [*BOTH, Contender("far", {"nodes": 2})])
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(InputError, match="give devices=N, without torchrun"):
        compared(tmp_path / "runs", pictures)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_runs_in_two_processes_are_those_in_one(pictures: Path, tmp_path: Path) -> None:
    """And one that was cut goes on."""
    changes: dict[str, Any] = {"learning_rate": 1e-4, "chunk_size": 4}
    assert len(list(compared(tmp_path / "1", pictures, **changes).run())) == 2
    assert len(list(compared(tmp_path / "2", pictures, **changes, devices=2).run())) == 2
    folder = RunFolder(tmp_path / "2" / "contrastive" / "seed-1")
    folder.forget_after(0, 0)
    shutil.rmtree(folder.model)
    (again,) = compared(tmp_path / "2", pictures, **changes, devices=2).run()
    assert again.folder == folder
    for contender in BOTH:
        rows = [measured(RunFolder(tmp_path / n / contender.folder / "seed-1").history(), "result") for n in ("1", "2")]
        assert rows[0][0].metrics == pytest.approx(rows[1][0].metrics, abs=1e-9)


@pytest.fixture
def started() -> Iterator[set[int]]:
    pids: set[int] = set()
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_comparison(
    tmp_path: Path, pictures: Path, started: set[int], by: signal.Signals
) -> None:
    values = SMALL | {"data": str(pictures), "chunk_size": 4, "epochs": 5000, "devices": 2}
    parent = multiprocessing.get_context("spawn").Process(target=processes.run_endless, args=(tmp_path, values))
    parent.start()
    assert parent.pid is not None
    started.add(parent.pid)
    assert soon(lambda: len(list(tmp_path.glob("*/seed-1/checkpoint/latest.ckpt"))) == 2, 180)
    below = descendants(parent.pid)
    started |= below
    members = [pid for pid in below if b"recallk.training.member" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(members) == 2
    os.kill(parent.pid, by)
    assert soon(lambda: not any(map(runs, below)), 30)
    parent.join(15)
    assert parent.exitcode not in (None, 0)


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found
