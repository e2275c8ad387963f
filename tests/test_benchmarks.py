"""The benchmark: rows as promised, and none for a loss that is wrong."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from benchmarks import icons_names, landmarks_search, two_passes
from benchmarks import loss as command
from benchmarks.cases import Case, batch_of, pairs
from benchmarks.measure import measure
from benchmarks.picture import draw
from pyarrow import parquet
from torch import Tensor

import recallk
from recallk import recall_at_k_loss
from recallk.comparison.contenders import SET_BY_COMPARISONS, ablation_as_contenders
from recallk.runs.config import make_config
from tests.training.test_vectors import LABELS, SMALL, vectors


def slightly_wrong(embeddings: Tensor, labels: Tensor) -> Tensor:
    return recall_at_k_loss(embeddings, labels, rank_temperature=0.0101)


@pytest.mark.slow
def test_a_row_of_each_case_that_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [Case("tiled", 100, dimensions=16), Case("tests.test_benchmarks:slightly_wrong", 100, dimensions=16)]
    rows = command.run(cases, repeats=2, limit=10, checked_items=100)
    assert [row["implementation"] for row in rows] == ["tiled"]
    assert "slightly_wrong fails its accuracy check" in capsys.readouterr().err

    path = tmp_path / "results.csv"
    command.write(path, rows)
    (row,) = command.write(path, rows)  # measured again: replaced, not added
    (row,) = command.read(path)
    assert tuple(row) == command.COLUMNS
    assert row["outcome"] == "ok"
    assert float(row["min_s"]) <= float(row["median_s"]) <= float(row["max_s"])
    assert float(row["floor_ratio"]) == pytest.approx(float(row["median_s"]) / float(row["floor_median_s"]), rel=1e-3)
    assert 0 <= float(row["extra_mb"]) < 100
    assert float(row["loss_error"]) < 1e-5
    assert all(row[name] for name in command.COLUMNS)

    assert "| tiled |" in command.markdown([row])
    draw([row], tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_what_lasts_too_long_is_stopped() -> None:
    assert measure(Case("tiled", 4_000), repeats=1, limit=0.0) == {"outcome": "over 0 s"}


def test_zipf_classes_have_as_many_pairs_as_equal_ones() -> None:
    equal, zipf = batch_of(Case("tiled", 1_000, "25")), batch_of(Case("tiled", 1_000, "zipf"))
    assert len(zipf[0]) == len(equal[0]) == 1_000
    assert pairs(zipf[1]) == pytest.approx(pairs(equal[1]), rel=0.01)
    assert int(torch.bincount(zipf[1]).max()) > 25


@pytest.mark.parametrize("left", [0, 1, 100, 1024, 1500, 2528])
def test_vectors_are_written_on_where_an_earlier_process_was_killed(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("DIMENSIONS", 16), ("BLOCK", 32), ("LANDMARKS", 40), ("QUERIES", 3)):
        monkeypatch.setattr(landmarks_search, name, value)
    whole = landmarks_search.write_vectors(tmp_path, 79).read_bytes()
    assert len(whole) == 79 * 16 * 2
    path = landmarks_search.write_vectors(tmp_path, 79)
    path.write_bytes(whole[:left])
    made: list[int] = []
    original = landmarks_search.made_block

    def watched(first: int, count: int) -> Tensor:
        made.append(first)
        return original(first, count)

    monkeypatch.setattr(landmarks_search, "made_block", watched)
    assert landmarks_search.write_vectors(tmp_path, 79).read_bytes() == whole
    assert made == ([0, 32, 64] if left < 1024 else [32, 64] if left < 2048 else [])


@pytest.mark.slow
def test_a_row_of_each_search(tmp_path: Path) -> None:
    rows = landmarks_search.compared(landmarks_search.write_vectors(tmp_path, 6_000), 6_000, rounds=1)
    assert [row["search"] for row in rows] == ["recallk, mAP", "FAISS, 100 nearest"]
    for row in rows:
        assert tuple(row) == landmarks_search.COLUMNS
        assert float(row["median_s"]) > 0
        assert 0.1 < float(row["peak_gb"]) < 1.5
    assert float(rows[0]["ratio"]) > 0


@pytest.mark.slow
def test_what_a_gpu_is_to_show_runs_in_the_interpreter(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("`make gpu` runs it at full size here")
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--out", str(tmp_path)]
    subprocess.run(words, check=True, cwd=Path(__file__).parents[1], capture_output=True)
    with (tmp_path / "gpu_kernels.csv").open() as file:
        kernels = list(csv.DictReader(file))
    assert [(row["items"], row["mixup"]) for row in kernels] == [
        ("24", "False"),
        ("24", "True"),
        ("48", "False"),
        ("48", "True"),
    ]
    assert all(float(row["gradient_error"]) < 1e-5 and row["same_twice"] == "True" for row in kernels)
    with (tmp_path / "gpu_step.csv").open() as file:
        (step,) = csv.DictReader(file)
    assert 0 < float(step["loss_share"]) < 1
    assert float(step["images_per_s"]) > 0
    assert float(step["files_images_per_s"]) > 0


def test_steps_that_are_compared_leave_the_same_gradients() -> None:
    torch.manual_seed(0)
    chunks, found = two_passes.Chunks(128, 32), []
    model = two_passes.network()
    for way in (two_passes.ONE_GRAPH, two_passes.NOTHING, two_passes.EVERYTHING):
        two_passes.step(way, model, chunks, chunks.labels)
        found.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    for gradients in zip(*found, strict=True):
        assert gradients[0].norm() > 0
        assert torch.equal(gradients[1], gradients[2])
        assert (gradients[1] - gradients[0]).norm() <= 1e-4 * gradients[0].norm()


def test_bounds_of_steps() -> None:
    row = {"batch": 512, "ratio": "1.41", "peak_mb": "1000"}
    rows = [{**row, "way": way} for way in (two_passes.ONE_GRAPH, two_passes.NOTHING, two_passes.EVERYTHING)]
    rows.append({"batch": 4096, "ratio": "", "peak_mb": "1100", "way": two_passes.NOTHING})
    values = [(value, bound) for _, value, bound in two_passes.bounds(rows)]
    assert values == [(1.41, 1.40), (1.41, 1.05), (1.1, 1.15)]


@pytest.mark.slow
def test_vectors_are_planned_in_little_time_and_memory() -> None:
    words = [sys.executable, "-m", "benchmarks.vectors", "--quick"]
    done = subprocess.run(words, check=True, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["held", "held"]


CONTENDERS = Path(__file__).parents[1] / "benchmarks" / "icons"


@pytest.mark.parametrize("name", sorted(path.name for path in CONTENDERS.glob("*.yaml")))
def test_contenders_on_vectors_of_icons_are_configurations(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors())
    contenders = ablation_as_contenders(str(CONTENDERS / name))
    configs = [make_config({"data": str(tmp_path / "v.npy"), "batch_size": 1024}, one.changes) for one in contenders]
    assert len({one.folder for one in contenders}) == len(contenders) == len({str(config) for config in configs})
    assert not any(SET_BY_COMPARISONS.keys() & one.changes.keys() for one in contenders)


def test_what_a_head_gains_by_the_number_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ["train" if label % 2 else "test" for label in LABELS]
    columns = {"embedding": list(vectors()), "label": [f"class {label}" for label in LABELS], "split": sides}
    parquet.write_table(pyarrow.table(columns), data := tmp_path / "v.parquet")
    for seed in (1, 2):
        recallk.train(SMALL | {"data": str(data), "epochs": 1, "seed": seed}, tmp_path / "recall@k" / f"seed-{seed}")
    monkeypatch.setattr(icons_names, "NAMES", (5,))
    monkeypatch.setattr(sys, "argv", ["", str(data), str(tmp_path / "recall@k"), str(tmp_path / "names.csv")])
    icons_names.main()
    rows = list(csv.DictReader((tmp_path / "names.csv").open()))
    assert [row["run"] for row in rows] == ["seed-1", "seed-2"] * 2
    assert [row["contender"].split(" names, ")[1] for row in rows] == ["all", "all", "at random", "at random"]
    for row in rows:
        assert float(row["gain"]) == pytest.approx(float(row["after"]) - float(row["before"]), abs=2e-6)
    whole = recallk.evaluate(tmp_path / "recall@k" / "seed-1").metrics["recall@1"]
    assert float(rows[0]["after"]) == pytest.approx(whole, abs=1e-5)
    assert int(rows[2]["items"]) < int(rows[0]["items"])
