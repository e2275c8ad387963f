"""What a person mistypes, and what a machine runs out of: one line, nothing left behind. And what ends a run early."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recallk.runs.folder import RunFolder
from tests.cli.test_cli import FLAGS, recallk
from tests.rows import measured


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for label in ("a[red]", "b[/red]", "c\x1b[31m", "d:smile:", "e", "f"):
        (root / label).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.jpg")
    return root


def one_line(error: str) -> str:
    error = error.strip()
    assert error.startswith("recallk: "), error
    assert "\n" not in error
    return error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ks", "²"], "ks="),
        (["--ks", "1,,2"], "ks="),
        (["--data", "~no-such-user/x"], "~no-such-user/x"),
        (["--accelerator", "tpu"], "accelerator="),
        (["--learning-rate", "1e39"], "learning_rate="),
        (["--learning-rate", "nan"], "learning_rate="),
        (["--host-memory-gb", "inf"], "host_memory_gb="),
        (["--embedding-size", "10000000000"], "embedding_size="),
        (["--seed", "-1"], "seed="),
        (["--run", "n" * 300], "File name too long"),
        (["--run", "a-file"], "a-file"),
        (["--run", "a-file/below"], "a-file"),
    ],
)
def test_odd_options(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("keep")
    assert recallk("train", "--data", pictures, *FLAGS, "--run", "run", *words) == 2
    assert message in one_line(capfd.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]
    assert (tmp_path / "a-file").read_text() == "keep"


@pytest.mark.parametrize("ks", ["²", "0", "1,,2", "x", "9" * 30])
def test_odd_ks_of_evaluate(tmp_path: Path, capfd: pytest.CaptureFixture[str], ks: str) -> None:
    assert recallk("evaluate", tmp_path, "--ks", ks) == 2
    assert "whole numbers from 1" in one_line(capfd.readouterr().err)


def test_from_goes_with_nothing_that_would_have_no_effect(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("compare", "--from", tmp_path, "--seeds", "5") == 2
    assert "--seeds has no effect" in one_line(capfd.readouterr().err)


def test_ten_million_epochs_are_planned_at_once(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    started = time.perf_counter()
    code = recallk("train", "--data", pictures, *FLAGS, "--dry-run", "--epochs", "10000000")
    assert time.perf_counter() - started < 20
    printed = capfd.readouterr()
    assert code == 0 or "epochs=" in one_line(printed.err)


@pytest.mark.parametrize("flag", ["--mixup", "--no-mixup"])
def test_a_flag_takes_no_value(pictures: Path, capfd: pytest.CaptureFixture[str], flag: str) -> None:
    assert recallk("train", flag, "--data", pictures, *FLAGS, "--dry-run") == 0
    assert ("with similarity mixup" in capfd.readouterr().out) == (flag == "--mixup")


def test_names_of_others_are_printed_as_they_are(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "z[red]x[/blue] $y"
    assert recallk("train", "--data", pictures, "--run", run, *FLAGS) == 0
    printed = capfd.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert str(run) in printed.out
    assert f"recallk search '{run}' --gallery" in printed.out
    assert recallk("search", run, pictures / "e/0.jpg", "--gallery", pictures, "--picture", tmp_path / "p.png") == 0
    printed = capfd.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "b[/red]/" in printed.out
    assert r"c\x1b[31m/" in printed.out


def test_a_log_file_shows_how_far_a_command_is(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recallk.cli.console.SILENCE", 0)
    run = tmp_path / "run"
    assert recallk("train", "--data", pictures, "--run", run, *FLAGS, "--chunk-size", "7") == 0
    assert re.search(r"training  1 of 1  epoch 1/1  loss [\d.]+  [\d,]+ images/s\n", capfd.readouterr().out)
    assert recallk("evaluate", run, "--data", pictures) == 0
    assert "embedding  7 of 30" in capfd.readouterr().out
    assert recallk("search", run, pictures / "e/0.jpg", "--gallery", pictures, "--picture", tmp_path / "p.png") == 0
    assert "embedding the gallery  30 of 30" in capfd.readouterr().out


def test_a_closed_pipe_is_no_mistake() -> None:
    words = f"{sys.executable} -m recallk train --help | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {words}"], capture_output=True, text=True)
    assert done.stderr == ""


def hears_interruptions() -> None:
    """Undo what a shell does to what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_until_it_trains(pictures: Path, run: Path, *further: object) -> "subprocess.Popen[str]":
    words = ["train", "--data", pictures, "--run", run, *FLAGS, "--epochs", "100000", *further]
    process = subprocess.Popen(
        [sys.executable, "-m", "recallk", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_interruptions,
    )
    metrics = run / "metrics.jsonl"
    for _ in range(600):
        if metrics.is_file() and '"step"' in metrics.read_text():
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("never began to train")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "recallk: terminated"), (signal.SIGINT, 130, "recallk: interrupted")],
)
def test_a_run_that_is_stopped_says_how_it_goes_on(
    pictures: Path, tmp_path: Path, number: int, code: int, line: str
) -> None:
    run = tmp_path / "a run"
    process = start_until_it_trains(pictures, run)
    while not (run / "checkpoint/latest.ckpt").is_file():
        time.sleep(0.05)
    os.kill(process.pid, number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert error.strip() == line
    assert out.strip().endswith(f"continue with   recallk train --resume '{run}'")
    assert not list(run.glob("**/*.unfinished"))
    assert not (run / ".lock").exists()


def children_of(process: "subprocess.Popen[str]") -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for children in tasks for pid in children.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the readers as Linux shows them")
def test_a_reader_that_is_killed_ends_the_run_within_seconds(pictures: Path, tmp_path: Path) -> None:
    """And the line names it; one that has nothing left to read when it is killed is not missed."""
    run, killed = tmp_path / "run", list[int]()
    process = start_until_it_trains(pictures, run, "--workers", "2", "--chunk-size", "2", "--host-memory-gb", "0")
    started = time.monotonic()
    while process.poll() is None and time.monotonic() < started + 60:
        if readers := children_of(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(readers[0], signal.SIGKILL)
                killed.append(readers[0])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    process.kill()
    error = process.communicate()[1]
    assert process.returncode == 2
    assert error.startswith("recallk: a process that reads items failed (DataLoader worker (pid")
    assert any(f"{pid})" in error for pid in killed)
    assert "lower --workers (now 2), or raise the limit" in one_line(error)
    assert not (run / ".lock").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_before_its_first_checkpoint_starts_anew(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    process = start_until_it_trains(pictures, run)
    process.kill()
    process.communicate()
    (run / "checkpoint/latest.ckpt").unlink(missing_ok=True)
    config = (run / "config.yaml").read_text().replace("epochs: 100000", "epochs: 1")
    (run / "config.yaml").write_text(config)
    assert recallk("train", "--resume", run) == 0
    assert "the run is in" in capfd.readouterr().out
    assert (run / "report.html").is_file()


def test_a_finished_run_can_be_lengthened(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert recallk("train", "--data", pictures, "--run", run, *FLAGS) == 0
    assert recallk("train", "--resume", run, "--epochs", "2") == 0
    assert "since it was resumed" in capfd.readouterr().out
    assert recallk("train", "--data", pictures, "--run", whole, *FLAGS, "--epochs", "2") == 0
    assert weights_of(run) == weights_of(whole)
    assert recallk("train", "--resume", run, "--epochs", "1") == 2
    assert "epochs" in one_line(capfd.readouterr().err)
    assert recallk("train", "--resume", run, "--seed", "2") == 2
    assert "beside it only" in one_line(capfd.readouterr().err)


def test_a_run_of_ones_own_is_a_recipe(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    assert recallk("train", "--data", pictures, "--run", run, *FLAGS) == 0
    assert recallk("train", run / "config.yaml", "--run", again) == 0
    assert (run / "config.yaml").read_text() == (again / "config.yaml").read_text()
    assert weights_of(run) == weights_of(again)


@pytest.mark.parametrize("name", ["a::b", "httpish", "http:x", "memory:"])
def test_a_run_may_have_the_name_of_an_address(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recallk("train", "--data", pictures, "--run", name, *FLAGS) == 0
    assert (tmp_path / name / "checkpoint/latest.ckpt").is_file()


def test_a_demo_replaces_no_other_run(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert recallk("train", "--data", pictures, "--run", run, *FLAGS) == 0
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/config.yaml").write_text("chapters: 7\n")
    capfd.readouterr()
    for folder in (run, tmp_path / "thesis"):
        assert recallk("demo", "--overwrite", "--run", folder) == 2
        one_line(capfd.readouterr().err)
        assert (folder / "config.yaml").is_file()


@pytest.mark.slow
def test_a_run_that_is_going_on_is_left_alone(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    process = start_until_it_trains(pictures, run)
    try:
        assert recallk("train", "--resume", run) == 2
        assert f"in use by process {process.pid}" in one_line(capfd.readouterr().err)
    finally:
        process.kill()
        process.communicate()


def test_the_start_of_a_network_with_weights_is_not_untrained(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import timm
    from safetensors.torch import save_file

    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    run = tmp_path / "run"
    flags = [weights if flag == "none" else flag for flag in FLAGS]
    assert recallk("train", "--data", pictures, "--run", run, *flags) == 0
    printed = capfd.readouterr().out
    assert "untrained" not in printed
    assert "start " in printed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_two_hundred_classes_by_default_never_end_below_the_start_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], seed: int
) -> None:
    random = np.random.default_rng(seed)
    for label in range(200):
        (tmp_path / f"data/class{label}").mkdir(parents=True)
        pattern = random.integers(0, 255, (6, 6, 3))
        for number in range(5):
            noisy = (pattern + random.normal(0, 60, pattern.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((36, 36)).save(tmp_path / f"data/class{label}/{number}.png")
    network = ["--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--embedding-size", "32"]
    harm = ["--learning-rate", "1", "--epochs", "1"] if seed == 4 else []  # one that must be told
    assert recallk("train", "--data", tmp_path / "data", "--run", tmp_path / "run", *network, *harm) == 0
    rows = measured(RunFolder(tmp_path / "run").history())
    before, after = next(row for row in rows if row.kind == "evaluation").metrics, rows[-1].metrics
    below = any(after[name] < before[name] for name in ("recall@1", "map@r"))
    printed = capfd.readouterr().out
    assert ("worse than before training" in printed) == ("worse than before" in _report(tmp_path / "run")) == below
    assert not below or "try a lower --learning-rate" in printed
    assert below or not harm


def weights_of(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


def _report(run: Path) -> str:
    return (run / "report.html").read_text()
