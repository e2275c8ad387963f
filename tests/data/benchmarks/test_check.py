"""Counts beside the published ones, broken images, and the two commands that show it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from recallk.data.benchmarks.benchmark import Benchmark, Count
from recallk.data.benchmarks.catalogue import BENCHMARKS
from recallk.data.benchmarks.check import check
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.data.instances.instance import InstanceBenchmark
from tests.cli.test_cli import recallk
from tests.data.miniatures import CLASSES, IMAGES, make

SIDE = Count(CLASSES * IMAGES, CLASSES)


def test_everything_is_right(tmp_path: Path) -> None:
    benchmark = replace(BENCHMARKS["cub"], counts={"train": SIDE, "test": SIDE})
    found = check(benchmark, make("cub", tmp_path), None)
    assert found.right
    assert not found.findings.listed
    assert [(row.split, row.images, row.classes, row.verdict) for row in found.counts] == [
        ("train", 30, 6, "ok"),
        ("test", 30, 6, "ok"),
    ]
    assert found.opened == found.files == 60


@pytest.mark.parametrize(("confirmed", "verdict"), [(True, "differs"), (False, "differs, unconfirmed figure")])
def test_other_counts_are_a_note(tmp_path: Path, confirmed: bool, verdict: str) -> None:
    counts = {"train": replace(SIDE, images=31, confirmed=confirmed), "test": replace(SIDE, confirmed=confirmed)}
    found = check(replace(BENCHMARKS["sop"], counts=counts), make("sop", tmp_path), 0)
    (note,) = found.findings.notes
    assert note.kind == "other counts"
    assert "train has 30 images of 6 classes" in note.message
    assert "31 of 6" in note.message
    assert not found.findings.errors
    assert found.right is not confirmed
    assert [row.verdict for row in found.counts] == [verdict, "ok" if confirmed else "ok, unconfirmed figure"]


def test_broken_images_are_found_among_those_that_are_opened(tmp_path: Path) -> None:
    root = make("vehicleid", tmp_path)
    images = sorted((root / "VehicleID_V1.0/image").iterdir())
    broken = images[7]
    broken.write_bytes(broken.read_bytes()[:-100])
    seen: list[tuple[str, int, int]] = []
    found = check(BENCHMARKS["vehicleid"], root, None, lambda *told: seen.append(told))
    assert seen[-1] == ("opening images", len(images), len(images))  # an image of three test sets is opened once
    (error,) = found.findings.errors
    assert (error.kind, error.where) == ("broken image", str(broken))
    assert "truncated or broken image" in error.message
    assert not found.right


def test_a_sample_is_seeded(tmp_path: Path) -> None:
    root = make("cub", tmp_path)
    for path in (root / "CUB_200_2011/images").rglob("*.jpg"):
        path.write_bytes(b"")
    first, second = (check(BENCHMARKS["cub"], root, 7).findings.errors for _ in range(2))
    assert len(first) == 7
    assert first == second


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("console", "data"):
        monkeypatch.setattr(f"recallk.cli.{module}.console", Console(width=200, highlight=False, markup=False))


@pytest.mark.usefixtures("wide")
def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("data", "list") == 0
    printed = capsys.readouterr().out
    listed: list[Benchmark | InstanceBenchmark] = [*BENCHMARKS.values(), *INSTANCE_BENCHMARKS.values()]
    for benchmark in listed:
        for text in (benchmark.name, benchmark.what, benchmark.size, benchmark.terms, *benchmark.home.split(", ")):
            assert text in printed


def test_list_is_light() -> None:
    probe = (
        "import sys; sys.argv = ['recallk', 'data', 'list']; from recallk import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'timm', 'scipy') if m in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", probe], text=True)
    assert printed.strip().splitlines()[-1] == "[]"


@pytest.mark.usefixtures("wide")
def test_check_shows_counts_problems_and_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make("inaturalist", tmp_path)
    assert recallk("data", "check", "inaturalist", "--data", root) == 0
    printed = capsys.readouterr().out
    assert "325,846" in printed
    assert printed.count("differs, unconfirmed figure") == 2
    assert "other counts: 2" in printed
    assert printed.rstrip().endswith("60 of 60 images opened")
    path = root / "Inat_dataset_splits/Inaturalist_test_set1.txt"
    path.write_text(path.read_text() + "".join(f"train_val2018/Aves/21/{i}.jpg\n" for i in range(30)))
    assert recallk("data", "check", "inaturalist", "--data", root, "--all") == 2
    printed = capsys.readouterr().out
    assert "missing image: 30" in printed
    assert f"{path}, line 31: " in printed
    assert "  and 25 more" in printed
    assert "30 errors" in printed.splitlines()[-1]


def test_mistakes_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("data", "check", "cup", "--data", tmp_path) == 2
    names = ", ".join([*BENCHMARKS, *INSTANCE_BENCHMARKS])
    told = f"recallk: no data set 'cup': one of {names}; own data have neither --data nor --all\n"
    assert capfd.readouterr().err == told
    assert recallk("data", "check", "cub", "--data", tmp_path / "nowhere") == 2
    assert "wrong root folder: 1" in capfd.readouterr().out
