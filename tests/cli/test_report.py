"""`recallk report` makes the page of a run anew, and says where it is and what it could not show."""

import shutil
from pathlib import Path

import pytest

from tests.cli.test_cli import FLAGS, recallk
from tests.training.test_trainer import save_patterns


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=6, images=5)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("runs") / "a run"
    assert recallk("train", "--data", pictures, "--run", path, *FLAGS) == 0
    return path


def test_the_page_is_made_anew(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert recallk("report", run) == 0
    assert capfd.readouterr().out.strip() == f"look at   {run}/report.html"
    assert (run / "report.html").read_bytes() == page, "as training made it"


def test_what_cannot_be_shown_is_told(
    run: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run, tmp_path / "copied")
    (copied / "report.html").unlink()
    away = pictures.rename(pictures.with_name("away"))
    try:
        assert recallk("report", copied) == 0
    finally:
        away.rename(pictures)
    missing, look = capfd.readouterr().out.strip().split("\n")
    assert missing == f"note      no queries and no similarities are shown: {pictures}: no such folder"
    assert look == f"look at   {copied}/report.html"
    assert missing.removeprefix("note      ") in (copied / "report.html").read_text()


def test_training_tells_it_too(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recallk.reporting.run.report", lambda run: ["no queries are shown: gone"])
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", *FLAGS) == 0
    assert "note      no queries are shown: gone\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no config.yaml in this folder; is it the folder of a run?"),
        ([], "Missing argument"),
        (["begun"], "no result in its metrics.jsonl; finish it: recallk train --resume begun"),
    ],
)
def test_a_mistake_is_one_line(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun").mkdir()
    shutil.copy(run / "config.yaml", tmp_path / "begun")
    assert recallk("report", *words) == 2
    error = capfd.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.rglob("report.html"))
