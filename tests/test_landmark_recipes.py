"""The landmark recipes in miniature: trained on their data set, and measured beside the rows that they name."""

from dataclasses import replace
from pathlib import Path

import pytest

from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.runs import published
from tests.cli.test_cli import recallk
from tests.data import miniatures
from tests.data.instance_miniatures import make_instances

TINY = [
    *("--weights", "none", "--embedding-size", "16", "--image-size", "32", "--resize", "32", "--workers", "0"),
    *("--batch-size", "8", "--items-per-class", "2", "--chunk-size", "4", "--epochs", "1"),
]


@pytest.mark.parametrize(
    ("name", "data", "flags"),
    [
        ("gldv2-resnet101", "gldv2-clean", ["--backbone", "test_resnet", "--test-fraction", "0.5"]),
        ("gldv2-dinov2-vit-b14", "gldv2-clean", ["--backbone", "test_vit", "--test-fraction", "0.5"]),
        ("sfm120k-resnet101", "sfm120k", ["--backbone", "test_resnet"]),
    ],
)
def test_a_run_of_it(
    name: str,
    data: str,
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, run = miniatures.make(data, tmp_path / "data"), tmp_path / "run"
    assert recallk("train", name, "--data", root, "--run", run, *TINY, *flags) == 0
    whole = replace(INSTANCE_BENCHMARKS["roxford5k"], queries=3, gallery=10)  # as many as the miniature has
    monkeypatch.setitem(INSTANCE_BENCHMARKS, "roxford5k", whole)
    oxford = make_instances("roxford5k", tmp_path / "oxford")
    capsys.readouterr()
    assert recallk("evaluate", run, "--benchmark", "roxford5k", "--data", oxford) == 0
    assert "DOLG" not in capsys.readouterr().out, "no row of ResNet-101 stands beside another network"
    # of a small network, and small images
    monkeypatch.setattr(published, "_OF_THE_ROW", ("dataset", "image_shape"))
    assert recallk("evaluate", run, "--benchmark", "roxford5k", "--data", oxford) == 0
    printed = capsys.readouterr().out
    assert "images of up to 32 pixels, in their own shape" in printed
    shown = name == "gldv2-resnet101"
    assert all((text in printed) == shown for text in ("DOLG", "82.4", "trained on Google Landmarks v2 (clean)"))
    assert ("This run is not as its recipe: " in printed) == shown
    assert ("backbone test_resnet instead of resnet101.tv_in1k" in printed) == shown
    assert "73.6" not in printed  # among a million distractors
