"""A run goes on after whatever ended it, one process at a time, and never as another run."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recallk import InputError, load
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Step
from recallk.runs.train_config import TrainConfig
from recallk.training.plan import prepare
from recallk.training.state import load_state
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import measured, steps, without_time
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "epochs": 3}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=4, images=4)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of three epochs that nothing interrupted."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    list(Trainer(prepare(config_of(pictures)), folder).rows())
    return folder


def config_of(pictures: Path, **changes: Any) -> TrainConfig:
    return make_config(TINY, {"data": str(pictures)}, changes)


def cut(pictures: Path, path: Path, epoch: int = 2, **changes: Any) -> RunFolder:
    """A run that was interrupted in an epoch."""
    folder = RunFolder(path)
    for row in Trainer(prepare(config_of(pictures, **changes)), folder).rows():
        if row.epoch == epoch:
            break
    return folder


def resume(folder: RunFolder) -> None:
    list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))


def same(one: RunFolder, other: RunFolder) -> bool:
    ends = [load(folder.path).state_dict() for folder in (one, other)]
    rows = [without_time(folder.history()) for folder in (one, other)]
    return rows[0] == rows[1] and all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda lines: [*lines[:-1], lines[-1][:9]], id="cut"),
        pytest.param(lambda lines: [*lines, b"\n"], id="blank"),
        pytest.param(lambda lines: [*lines[:1], b"\xff\x00\n", b"3\n", b'{"kind": 3}\n', *lines[1:]], id="garbage"),
        pytest.param(lambda lines: [*lines, b"[" * 100_000], id="deep"),
    ],
)
def test_damaged_metrics_do_not_block_a_run(pictures: Path, whole: RunFolder, tmp_path: Path, damage: Any) -> None:
    folder = cut(pictures, tmp_path / "run")
    with folder.metrics.open("rb") as file:
        lines = file.readlines()
    folder.metrics.write_bytes(b"".join(damage(lines)))
    resume(folder)
    assert same(folder, whole)


def test_a_kill_before_the_first_checkpoint_is_no_dead_end(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    folder = cut(pictures, tmp_path / "run", epoch=1)
    assert not folder.checkpoint.exists()
    assert folder.config.exists()
    resume(folder)
    assert same(folder, whole)


EVERY_STEP: dict[str, Any] = {"batch_size": 4, "items_per_class": 2, "chunk_size": 2, "checkpoint_minutes": 1e-9}
"""Two steps an epoch, each followed by a checkpoint."""
KINDS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "milestones": (2,), "mixup": True},
    "adamw": {"optimizer": "adamw", "schedule": "cosine", "warmup_steps": 4},
    "proxies": {"loss": "proxy-nca", "select": "test", "evaluate_every": 2},
    "a memory": {"loss": {"name": "memory-contrastive", "memory_size": 6}},
    "a memory of ours": {"loss": {"name": "memory-recall@k", "memory_size": 6}, "select": "test"},
    "16-mixed": {"precision": "16-mixed", "schedule": "exponential", "epoch_factor": 0.5},
    "head=whitening": {"head": "whitening", "embedding_size": 4, "batch_norm": "frozen"},
}


def cut_after(pictures: Path, path: Path, step: int, **changes: Any) -> RunFolder:
    """A run that was interrupted when the step after this one was done."""
    folder = RunFolder(path)
    for row in Trainer(prepare(config_of(pictures, **EVERY_STEP | changes)), folder).rows():
        if isinstance(row, Step) and row.step == step + 1:
            break
    state = load_state(folder.checkpoint)
    assert (state["epoch"], state["batches"]) == (1 + step // 2, step % 2)
    return folder


QUICK = ("adam", "a memory of ours", "16-mixed")


@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind not in QUICK)]
)
def test_a_run_goes_on_in_mid_epoch(pictures: Path, tmp_path: Path, kind: str) -> None:
    whole = RunFolder(tmp_path / "whole")
    list(Trainer(prepare(config_of(pictures, **EVERY_STEP | KINDS[kind])), whole).rows())
    folder = cut_after(pictures, tmp_path / "run", 3, **KINDS[kind])
    resume(folder)
    assert same(folder, whole)
    ends = [load_state(one.checkpoint) for one in (folder, whole)]
    assert ends[0]["best"] == ends[1]["best"]
    assert ends[0]["scaler"] == ends[1]["scaler"]
    for name in ("loss", "optimizer"):
        assert equal(ends[0].get(name), ends[1].get(name))
    reached = [[row.reached is not None for row in steps(one.history())] for one in (folder, whole)]
    assert (
        reached[0] == reached[1] == [row.step % 2 == 1 and "loss" not in KINDS[kind] for row in steps(whole.history())]
    )


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_a_run_that_was_cut_in_its_last_epoch_can_be_lengthened(pictures: Path, tmp_path: Path) -> None:
    whole = RunFolder(tmp_path / "whole")
    list(Trainer(prepare(config_of(pictures, **EVERY_STEP)), whole).rows())
    folder = cut_after(pictures, tmp_path / "run", 3, epochs=2)
    longer = folder.read_config().model_copy(update={"epochs": 3})
    with pytest.raises(InputError, match="epochs=1: 2 are done already"):
        list(Trainer(prepare(longer.model_copy(update={"epochs": 1})), folder).rows(resume=True))
    list(Trainer(prepare(longer), folder).rows(resume=True))
    assert same(folder, whole)


def test_the_model_that_was_the_best_must_be_there(pictures: Path, tmp_path: Path) -> None:
    """It is asked for at once, and not when everything else has been trained."""
    folder = cut_after(pictures, tmp_path / "run", 3, select="test")
    (best,) = folder.checkpoint.parent.glob("best-*")
    best.unlink()
    with pytest.raises(InputError, match=r"the model of the epoch that was the best is not there; start the run anew"):
        resume(folder)


def resumed_here(root: str, number: int) -> None:
    resume(RunFolder(Path(root) / f"run-{number}"))


@pytest.mark.parametrize("before", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_goes_on_in_another_number_of_processes(pictures: Path, tmp_path: Path, before: int) -> None:
    changes = {"learning_rate": 1e-4, "mixup": True}
    in_processes(cut_here, before, str(pictures), str(tmp_path), changes)
    in_processes(resumed_here, 3 - before, str(tmp_path), 0)
    in_processes(resumed_here, before, str(tmp_path), 1)
    rows = [measured(RunFolder(tmp_path / f"run-{number}").history()) for number in (0, 1)]
    for one, other in zip(*rows, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-9)
    ends = [load(tmp_path / f"run-{number}").state_dict() for number in (0, 1)]
    for name, value in ends[0].items():
        assert torch.allclose(value.double(), ends[1][name].double(), rtol=1e-4, atol=1e-6), name


def cut_here(pictures: str, root: str, changes: dict[str, Any]) -> None:
    for number in (0, 1):
        cut_after(Path(pictures), Path(root) / f"run-{number}", 3, **changes)


WORK = """
import sys, time; from pathlib import Path
from recallk.runs.folder import RunFolder; from recallk.runs.config import read_config, make_config
from recallk.training.plan import prepare; from recallk.training.trainer import Trainer
for row in Trainer(prepare(make_config(read_config(Path(sys.argv[1])))), RunFolder(Path(sys.argv[2]))).rows():
    print(row.epoch, flush=True)
    if row.epoch == int(sys.argv[3]): time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "end"), [(1, signal.SIGTERM), (2, signal.SIGKILL)])
def test_a_killed_process_is_followed_by_another(
    pictures: Path, whole: RunFolder, tmp_path: Path, epoch: int, end: signal.Signals
) -> None:
    words = [sys.executable, "-c", WORK, str(whole.config), str(tmp_path / "run"), str(epoch)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline().strip() != str(epoch):
        assert process.poll() is None
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match=f"in use by process {process.pid}"):
        resume(folder)
    process.send_signal(end)
    process.wait()
    resume(folder)
    assert same(folder, whole)


def test_one_at_a_time(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    folder = cut(pictures, tmp_path / "run")
    rows: Iterator[Any] = Trainer(prepare(folder.read_config()), folder).rows(resume=True)
    next(rows)
    before = folder.metrics.read_bytes()
    with pytest.raises(InputError, match="in use by"):
        resume(folder)
    assert folder.metrics.read_bytes() == before
    rows.close()  # type: ignore[attr-defined]
    assert not (folder.path / ".lock").exists()
    resume(folder)
    assert same(folder, whole)


def test_a_resumed_run_needs_no_initial_weights(pictures: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from recallk.models.build import build

    config = config_of(pictures)
    weights = tmp_path / "weights.safetensors"
    save_file(build(config, "none").get_submodule("backbone").state_dict(), weights)
    changes: dict[str, Any] = {"weights": str(weights), "batch_norm": "per-chunk"}
    folder = cut(pictures, tmp_path / "run", **changes)
    again = cut(pictures, tmp_path / "again", **changes)
    resume(again)
    weights.unlink()
    resume(folder)
    assert same(folder, again)


def test_a_finished_run_can_be_lengthened(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    list(Trainer(prepare(config_of(pictures, epochs=2)), folder).rows())
    longer = folder.read_config().model_copy(update={"epochs": 3})
    list(Trainer(prepare(longer), folder).rows(resume=True))
    assert same(folder, whole)
    assert folder.read_config() == whole.read_config()
    shorter = longer.model_copy(update={"epochs": 2})
    with pytest.raises(InputError, match="epochs=2: 3 are done already; give 3 or more"):
        list(Trainer(prepare(shorter), folder).rows(resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"learning_rate": 0.5}, "learning_rate 0.5 instead of 0.002"), ({"seed": 7}, "seed 7 instead of 1")],
)
def test_a_run_is_not_resumed_as_another(pictures: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = cut(pictures, tmp_path / "run")
    with pytest.raises(InputError, match=message):
        list(Trainer(prepare(config_of(pictures, **changes)), folder).rows(resume=True))


def test_an_interruption_leaves_the_random_state_as_it_was(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    cut(pictures, tmp_path / "run", epoch=1)
    assert torch.equal(torch.get_rng_state(), expected)
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_folder_with_leftovers_of_a_kill_is_not_taken(pictures: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.checkpoint.parent.mkdir(parents=True)
    (folder.path / ".lock").touch()
    (folder.path / "config.yaml.0123abcd.unfinished").touch()
    assert not folder.taken
    next(Trainer(prepare(config_of(pictures)), folder).rows())
    assert folder.taken


def test_other_errors_keep_what_there_is(pictures: Path, tmp_path: Path) -> None:
    rows = Trainer(prepare(config_of(pictures)), RunFolder(tmp_path / "run")).rows()
    next(rows)
    with pytest.raises(MemoryError):
        rows.throw(MemoryError)  # type: ignore[attr-defined]
    assert RunFolder(tmp_path / "run").config.exists()


def test_a_failure_never_removes_what_is_not_the_runs(pictures: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "best-1.safetensors").write_text("precious")
    folder = RunFolder(tmp_path / "run")
    rows = Trainer(prepare(config_of(pictures)), folder).rows()
    next(rows)
    (folder.path / "notes.txt").write_text("precious")
    folder.checkpoint.parent.rmdir()
    folder.checkpoint.parent.symlink_to(elsewhere)
    with pytest.raises(KeyboardInterrupt):
        rows.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert (folder.path / "notes.txt").read_text() == "precious"
    assert (elsewhere / "best-1.safetensors").read_text() == "precious"
    assert not folder.config.exists()


def test_the_best_epoch_is_known_without_its_row(pictures: Path, tmp_path: Path) -> None:
    folder = cut(pictures, tmp_path / "run", epoch=3, select="test")
    best = int(next(folder.checkpoint.parent.glob("best-*")).stem.partition("-")[2])
    rows = [line for line in folder.metrics.read_text().splitlines() if f'"epoch": {best}' not in line]
    folder.metrics.write_text("\n".join(rows) + "\n")
    resume(folder)
    assert folder.history()[-1].epoch in (best, 3)


def test_kills_at_random_leave_nothing_that_cannot_go_on(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    folder, chance = RunFolder(tmp_path / "run"), random.Random(0)
    for _ in range(4):
        rows = Trainer(prepare(config_of(pictures)), folder).rows(resume=folder.config.exists())
        for _ in range(chance.randint(1, 4)):
            next(rows, None)
        rows.close()  # type: ignore[attr-defined]
    resume(folder)
    assert same(folder, whole)


@pytest.mark.parametrize("name", ["config.yaml", "split.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[[[", b"{}", None])
def test_a_damaged_folder_is_one_line(pictures: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = cut(pictures, tmp_path / "run")
    (folder.path / name).unlink()
    if content is None:
        os.mkfifo(folder.path / name)
    else:
        (folder.path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        resume_with_split(folder)
    assert "\n" not in str(caught.value)
    assert str(folder.path) in str(caught.value) or "no data" in str(caught.value)


def resume_with_split(folder: RunFolder) -> None:
    list(Trainer(prepare(folder.read_config(), folder.read_split()), folder).rows(resume=True))


def test_a_run_resumed_with_moved_data_is_read_where_that_is(tmp_path: Path) -> None:
    from recallk.data.dataset import read_for_test

    for name in ("before", "now"):
        (tmp_path / name).mkdir()
    data = save_patterns(tmp_path / "before", classes=4, images=4)
    folder = cut(data, tmp_path / "run")
    moved = data.rename(tmp_path / "now" / "data")
    changed = folder.read_config().model_copy(update={"data": str(moved), "host_memory_gb": 1.0})
    list(Trainer(prepare(changed, folder.read_split()), folder).rows(resume=True))
    assert folder.read_config() == changed
    test, notes = read_for_test(folder.read_config(), folder.read_split())
    assert len(test.labelled) == 8
    assert list(notes) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_a_failure_leaves_a_folder_that_was_there_before(
    pictures: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    for path, stays in ((tmp_path / "there", True), (tmp_path / "new", False)):
        if stays:
            path.mkdir()
        rows = Trainer(prepare(config_of(pictures)), RunFolder(path)).rows()
        next(rows)
        with pytest.raises(error):
            rows.throw(error("why"))  # type: ignore[attr-defined]
        assert path.exists() == stays
        assert not list(path.rglob("*"))


@pytest.mark.parametrize("spoil", ["NaN", "float64", "cut"])
def test_damaged_weights_of_the_best_epoch_are_one_line(pictures: Path, tmp_path: Path, spoil: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = RunFolder(tmp_path / "run")
    list(Trainer(prepare(config_of(pictures)), folder).rows())
    (best,) = folder.checkpoint.parent.glob("best-*")
    weights = load_file(best)
    name = next(name for name, value in weights.items() if value.is_floating_point())
    weights[name] = weights[name] * torch.nan if spoil == "NaN" else weights[name].double()
    save_file(weights, best)
    if spoil == "cut":
        best.write_bytes(best.read_bytes()[:99])
    with pytest.raises(InputError, match=r"best-\d.safetensors: ") as caught:
        resume(folder)
    assert "\n" not in str(caught.value)
