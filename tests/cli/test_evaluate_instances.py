"""`recallk evaluate --benchmark`: what is printed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.models import saved
from recallk.runs.config import make_config, to_yaml
from tests.cli.test_cli import recallk
from tests.data.instance_miniatures import distractors, make_instances
from tests.runs.known_angles import KnownAngles
from tests.runs.test_instances import ROWS, vectors


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_instances("roxford5k", tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(saved, "load", lambda _: KnownAngles())
    (tmp_path / "mine.yaml").write_text(ROWS)
    run = tmp_path / "run"
    run.mkdir()
    config = {"data": "x", "workers": 0, "accelerator": "cpu", "recipe": str(tmp_path / "mine.yaml")}
    (run / "config.yaml").write_text(to_yaml(make_config(config)))
    return run


def line_with(printed: str, name: str) -> list[str]:
    return next(line for line in printed.splitlines() if f" {name} " in line).replace("│", " ").split()


def test_a_run(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", run, "--benchmark", "roxford5k", "--data", data]
    assert recallk(*words) == 0
    printed = capsys.readouterr().out
    assert "roxford5k: 3 queries, 10 images" in printed
    assert line_with(printed, "easy map") == ["easy", "map", "75.00"]
    assert line_with(printed, "medium mp@5") == ["medium", "mp@5", "91.67"]
    assert "measured  queries cropped to their boxes; no distractors; images of 32 x 32 pixels; scale 1;" in printed
    assert "published are 4,993" in printed
    assert "Theirs" not in printed  # of another number of images

    monkeypatch.setitem(
        INSTANCE_BENCHMARKS, "roxford5k", replace(INSTANCE_BENCHMARKS["roxford5k"], queries=3, gallery=10)
    )
    assert recallk(*words) == 0
    printed = capsys.readouterr().out
    assert line_with(printed, "medium map") == ["medium", "map", "92.13", "79.7", "82.4"]
    assert line_with(printed, "hard map") == ["hard", "map", "93.06", "60.0"]
    assert "Theirs" in printed
    assert "Other methods: two papers. This run is as its recipe, mine." in printed

    assert recallk(*words, "--uncropped") == 0
    printed = capsys.readouterr().out
    assert "roxford5k, queries NOT cropped" in printed
    assert "Theirs" not in printed
    assert "Other methods" not in printed

    assert recallk(*words, "--distractors", distractors(tmp_path / "distractors"), "--scales", "1,0.5") == 0
    printed = capsys.readouterr().out
    assert "6 distractors" in printed
    assert "scales 1, 0.5" in printed
    assert line_with(printed, "medium map") == ["medium", "map", "84.26"]


def test_given_descriptors(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "vectors.npz", **vectors())
    words = ["--benchmark", "roxford5k", "--data", data, "--descriptors", tmp_path / "vectors.npz"]
    assert recallk("evaluate", *words) == 0
    printed = capsys.readouterr().out
    assert "roxford5k, queries as given: 3 queries, 10 images" in printed
    assert line_with(printed, "easy map") == ["easy", "map", "75.00"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmark", "oxford"], "one of the two"),
        ([], "no run: give the folder of a finished one"),
        (["run", "--benchmark", "roxford5k", "--protocol", "re-identification"], "leave ks and protocol out"),
        (["run", "--benchmark", "roxford5k", "--ks", "1"], "leave ks and protocol out"),
        (["run", "--benchmark", "roxford5k"], "say where with --data"),
        (["run", "--benchmark", "roxford5k", "--descriptors", "d.npz"], "one of the two"),
        (["--benchmark", "roxford5k", "--descriptors", "d.npz", "--distractors", "d"], "put theirs into the file"),
        (["run", "--distractors", "d"], "distractors is for instance-level test sets"),
        (["run", "--uncropped"], "uncropped is for instance-level test sets"),
        (["run", "--descriptors", "d.npz"], "descriptors is for instance-level test sets"),
    ],
)
def test_what_makes_no_sense_is_one_line(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("evaluate", *words) == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("recallk: ")
    assert message in error
    assert "\n" not in error
