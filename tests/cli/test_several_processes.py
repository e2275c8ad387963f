"""One command, several processes: started by it, or by torchrun."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk.catalogue.index import Index
from recallk.models.saved import save
from recallk.runs.folder import RunFolder
from tests.catalogue.place import draw_all, said, small_embedder
from tests.rows import measured, without_time
from tests.training.test_trainer import save_patterns

OPTIONS = [
    *("--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--resize", "32"),
    *("--embedding-size", "16", "--chunk-size", "5", "--workers", "0", "--accelerator", "cpu"),
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=11, images=8)


def start(*words: Any) -> subprocess.Popen[str]:
    """Start the command, as `recallk`, or with torchrun's words before."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def train(pictures: Path, run: Path, *words: Any, before: list[str] | None = None, epochs: int = 2) -> Any:
    return start(
        *(["-m"] if before is None else before),
        *("recallk", "train", "--data", pictures, *OPTIONS, "--epochs", epochs, "--run", run, *words),
    )


def test_one_command_starts_them(pictures: Path, tmp_path: Path) -> None:
    process = train(pictures, tmp_path / "run", "--devices", 2)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert out.count("model     of epoch") == 1
    assert "processes 2, each embeds" in out
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_all_ways_to_start_them_give_one_run(pictures: Path, tmp_path: Path) -> None:
    """One process of several prints."""
    running = {
        "alone": train(pictures, tmp_path / "alone"),
        "devices": train(pictures, tmp_path / "devices", "--devices", 2),
        "torchrun": train(pictures, tmp_path / "torchrun", before=TORCHRUN),
    }
    printed = {}
    for name, process in running.items():
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        printed[name] = out
    rows = {name: measured(RunFolder(tmp_path / name).history()) for name in running}
    for name in ("devices", "torchrun"):
        assert printed[name].count("model     of epoch") == 1
        for one, other in zip(rows["alone"], rows[name], strict=True):
            assert other.metrics == pytest.approx(one.metrics, abs=0.03)  # float32 rounds otherwise
        assert (tmp_path / name / "report.html").is_file()


@pytest.mark.slow
def test_what_embeds_is_started_by_torchrun_too(pictures: Path, tmp_path: Path) -> None:
    """It prints what one process prints, once, and says a mistake once."""
    run, image = tmp_path / "run", next(pictures.rglob("*.png"))
    _, error = (training := train(pictures, run, before=TORCHRUN, epochs=1)).communicate(timeout=240)
    assert training.returncode == 0, error
    assert (run / "report.html").is_file(), "made in shards too"

    def together(*words: Any) -> tuple[str, str]:
        process = start(*TORCHRUN, "recallk", *words)
        out, error = process.communicate(timeout=240)
        assert process.returncode == (1 if "nowhere" in words else 0), error
        return out, error

    alone = start("-m", "recallk", "evaluate", run)
    assert together("evaluate", run)[0] == alone.communicate(timeout=240)[0]
    drawn = together("search", run, image, "--gallery", pictures, "--picture", tmp_path / "found.png")[0]
    assert drawn.count("drawn in") == 1
    assert together("whiten", run, "--data", pictures, "--dimension", 2)[0].count("to 2 of 16 dimensions") == 1
    assert together("whiten", run, "--remove")[0].count("removed") == 1
    _, error = together("evaluate", run, "--data", "nowhere")
    assert error.count("nowhere: no such folder") == 1, error
    assert "recallk/" not in error, "a traceback"


@pytest.mark.slow
def test_mistakes_are_said_once(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    mistakes = [
        (train(pictures, tmp_path / "taken", "--devices", 2), "taken: exists already"),
        (train(tmp_path / "nowhere", tmp_path / "run", before=TORCHRUN), "nowhere: no such folder"),
        (train(pictures, tmp_path / "run", "--chunk-size", 500, "--devices", 2), "lower chunk_size to 12"),
        (train(pictures, tmp_path / "run", "--devices", 3, before=TORCHRUN), "2 processes were started on each of 1"),
    ]
    for process, told in mistakes:
        out, error = process.communicate(timeout=120)
        assert process.returncode in (1, 2)  # torchrun's own is 1
        assert (out + error).count(told) == 1, error
        assert "recallk/" not in error, "a traceback"
    assert not (tmp_path / "run").exists()


def wait_for(path: Path, process: subprocess.Popen[str], text: str) -> None:
    until = time.monotonic() + 90
    while not (path.exists() and text in path.read_text(encoding="utf-8")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_all_with_a_checkpoint(pictures: Path, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    process = train(pictures, tmp_path / "run", "--devices", 2, epochs=1000)
    wait_for(tmp_path / "run" / "metrics.jsonl", process, '"epoch": 3')
    process.send_signal(sent)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    folder = RunFolder(tmp_path / "run")
    assert folder.has_checkpoint
    assert f"recallk train --resume {folder.path}" in out
    assert error.count("recallk: ") == 1
    before = without_time(folder.history())
    again = start("-m", "recallk", "train", "--resume", folder.path, "--epochs", 10_000)  # alone
    wait_for(folder.metrics, again, f'"epoch": {before[-1].epoch + 2}')
    again.kill()
    again.wait()
    assert without_time(folder.history())[: len(before)] == before, "nothing is lost but the step at work"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["devices", "torchrun"])
def test_the_others_end_with_one_that_is_killed(pictures: Path, tmp_path: Path, how: str) -> None:
    words = ["--devices", 2] if how == "devices" else []
    before = None if how == "devices" else TORCHRUN
    process = train(pictures, tmp_path / "run", *words, before=before, epochs=1000)
    wait_for(tmp_path / "run" / "metrics.jsonl", process, '"epoch": 2')
    children = [int(child) for child in _children(process.pid)]
    os.kill(children[-1], signal.SIGKILL)
    begun = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - begun < 60
    assert process.returncode not in (0, None)
    assert ("has ended (SIGKILL; it may have run out of memory)" if how == "devices" else "has ended") in error, error
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def _children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task")
    return [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def machines(pictures: Path, run: Path, *words: list[Any]) -> list[subprocess.Popen[str]]:
    """Start the command as on several machines, of which each gets some words of its own."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    started = []
    for number, own in enumerate(words):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(number)}
        started.append(train(pictures, run, "--nodes", len(words), *own))
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        del os.environ[name]
    return started


@pytest.mark.slow
def test_machines_train_together(pictures: Path, tmp_path: Path) -> None:
    ended = [process.communicate(timeout=180) for process in machines(pictures, tmp_path / "run", [], [])]
    assert ["model     of epoch" in out for out, _ in ended] == [True, False], ended
    assert not any("Traceback" in error for _, error in ended), ended
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_machines_that_were_given_different_settings_are_told(pictures: Path, tmp_path: Path) -> None:
    started = machines(pictures, tmp_path / "run", [], ["--seed", 7])
    (_, first), (_, second) = [process.communicate(timeout=180) for process in started]
    assert [process.returncode for process in started] == [2, 2]
    assert "process 1 was given seed=7, and process 0 1: give all the same" in first
    assert "Traceback" not in first + second
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_catalogue_is_made_and_changed_by_several_processes_as_by_one(tmp_path: Path) -> None:
    """One of them writes and prints, and what one refuses all of them do."""
    save(small_embedder(), tmp_path / "run" / "model")
    photos, kept = draw_all(tmp_path / "photos", 210), tmp_path / "catalogue"

    def both(*words: Any) -> Any:
        process = start(*TORCHRUN, "recallk", *words)
        out, error = process.communicate(timeout=120)
        return process.returncode, out, error

    for words, printed in [
        (("index", tmp_path / "run", photos, "-o", kept, "--workers", 0), "catalogue 210 images"),
        (("index", "add", kept, draw_all(tmp_path / "more" / "new", 3).parent, "--workers", 0), "done      3 added"),
        (("index", "remove", kept, "a/0.png"), "done      1 removed; 212 items now"),
        (("index", "approximate", kept, "--kind", "ivf"), "built     ivf over 212 images"),
        (("index", "push", kept, "--to", f"qdrant://{tmp_path}/store/items"), "pushed    212 sent"),
        (("index", "check", kept), "whole     212 images"),
        (("search", kept, "a/3.png", "--json", "--approximate"), '"query": "a/3.png"'),
    ]:
        code, out, error = both(*words)
        assert code == 0, error
        assert out.count(printed) == 1, out
    alone = Index.build(small_embedder(), photos, tmp_path / "alone", workers=0)
    expected, found = said(alone), said(Index.open(kept))
    assert all(np.allclose(found[name], expected[name], atol=1e-3) for name in found.keys() & expected.keys())
    code, out, error = both("index", "remove", kept, "nothing")
    assert code != 0
    assert error.count("no item 'nothing' in it; nothing was removed") == 1
