"""Comparisons: the same for all, what failed told, what is finished kept, the table from the folders alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk import InputError
from recallk.report.comparison import report_comparison, table_of
from recallk.training import compare
from recallk.training.checkpoint import RunFolder
from recallk.training.compare import Comparison
from recallk.training.contenders import Contender, losses_as_contenders, sweep_as_contenders
from recallk.training.outcomes import interval, outcomes
from tests.training.test_trainer import SMALL, save_patterns

CONTENDERS = [*losses_as_contenders(["recall@k", "contrastive"]), Contender("too hot", {"learning_rate": 1e9})]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=40, images=4)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("comparison")
    list(comparison(folder, pictures).run())
    return folder


def comparison(folder: Path, pictures: Path, **changes: Any) -> Comparison:
    values = SMALL | {"data": str(pictures), "chunk_size": 32} | changes
    return Comparison(folder, values, CONTENDERS, factors=(0.5, 1), seeds=2)


def test_every_contender_has_a_row_and_a_failure_is_told(finished: Path) -> None:
    found = {outcome.name: outcome for outcome in outcomes([finished])}
    assert set(found) == {"recall@k", "contrastive", "too hot"}
    for name in ("recall@k", "contrastive"):
        assert found[name].failures == []
        assert len(found[name].results) == len(found[name].minutes) == 2
        assert found[name].peak_bytes > 1e8
        assert found[name].rate in (1e-3, 2e-3)
    assert not found["too hot"].results
    assert {line.split(":")[0] for line in found["too hot"].failures} == {"rate-5e+08", "rate-1e+09"}
    assert all("nan" in line.lower() for line in found["too hot"].failures)


def test_the_rate_is_the_best_on_validation_classes(finished: Path) -> None:
    for name in ("recall@k", "contrastive"):
        best = {}
        for rate in (1e-3, 2e-3):
            rows = RunFolder(finished / name / f"rate-{rate:g}").history()
            best[rate] = max(row["recall@1"] for row in rows if row["kind"] == "validation")
        chosen = RunFolder(finished / name / "seed-1").read_config().learning_rate
        assert best[chosen] == max(best.values())


def test_all_start_from_the_same_network(finished: Path) -> None:
    starts = [RunFolder(finished / name / "seed-1").history()[0] for name in ("recall@k", "contrastive")]
    assert [row["epoch"] for row in starts] == [0, 0]
    assert starts[0]["recall@1"] == starts[1]["recall@1"]
    assert starts[0]["map@r"] == starts[1]["map@r"]


def test_nothing_is_run_twice_and_what_is_missing_is(finished: Path, pictures: Path) -> None:
    assert list(comparison(finished, pictures).run()) == []
    seed = finished / "contrastive" / "seed-2"
    before = RunFolder(seed).history()[-1]
    moved = finished.parent / "moved"
    seed.rename(moved)
    assert [(job.contender.name, job.name) for job in comparison(finished, pictures).run()] == [
        ("contrastive", "seed-2")
    ]
    again = RunFolder(seed).history()[-1]
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}


def test_the_table_and_the_page(finished: Path) -> None:
    found = outcomes([finished])
    columns, rows = table_of(found)
    assert columns[:3] == ["", "recall@1", "recall@2"]
    assert rows[-1].cells == ["too hot"]
    assert not rows[-1].measured
    assert len(rows[-1].remarks) == 2
    values = [100 * row["recall@1"] for row in found[0].results]
    assert rows[0].cells[1] == "{:.1f} ± {:.1f}".format(*interval(values))
    report_comparison(found, finished / "comparison.html")
    page = (finished / "comparison.html").read_text()
    for word in ("contrastive", "recall@k", "too hot", "<svg", "first right one at"):
        assert word in page


def test_the_interval_is_that_of_students_t() -> None:
    values = [1.0, 2.0, 4.0]
    mean, half = interval(values)
    assert mean == pytest.approx(np.mean(values))
    assert half == pytest.approx(4.303 * np.std(values, ddof=1) / np.sqrt(3), rel=1e-3)
    assert interval([3.0]) == (3.0, None)


def test_a_sweep_takes_values_as_yaml() -> None:
    assert [c.changes for c in sweep_as_contenders("batch-size=64,256")] == [{"batch_size": 64}, {"batch_size": 256}]
    assert [c.changes for c in sweep_as_contenders("mixup=true,false")] == [{"mixup": True}, {"mixup": False}]
    assert [c.changes for c in sweep_as_contenders("ks=[1],[1,2,4]")] == [{"ks": [1]}, {"ks": [1, 2, 4]}]
    for wrong in ("batch_size", "batch_sise=3", "batch_size="):
        with pytest.raises(InputError, match=f"--sweep {wrong}"):
            sweep_as_contenders(wrong)


def test_a_wrong_contender_is_found_before_anything_runs(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures)}
    with pytest.raises(InputError, match="batch_size=3"):
        Comparison(tmp_path, values, sweep_as_contenders("batch_size=64,3"), (1,), 1)
    assert not list(tmp_path.iterdir())


def test_a_process_that_dies_leaves_a_row(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_work", _die)
    values = SMALL | {"data": str(pictures)}
    list(Comparison(tmp_path, values, [Contender("doomed", {})], (1,), 1).run())
    (outcome,) = outcomes([tmp_path])
    assert "seed-1: the process ended with" in outcome.failures[0]
    assert json.dumps(outcome.results) == "[]"


def _die(job: compare.Job, at_once: int) -> None:
    raise SystemExit(9)


def test_a_folder_that_holds_no_comparison(tmp_path: Path, finished: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", finished / "contrastive" / "seed-1"):
        with pytest.raises(InputError, match="no comparison in this folder"):
            outcomes([folder])


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_rate_is_above_zero(tmp_path: Path, pictures: Path, factor: float) -> None:
    with pytest.raises(InputError, match="each is above 0"):
        Comparison(tmp_path, SMALL | {"data": str(pictures)}, CONTENDERS, (1, factor), 1)


def test_a_first_seed_that_failed_leaves_the_others(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "contrastive", tmp_path / "contrastive")
    shutil.rmtree(tmp_path / "contrastive" / "seed-1")
    (tmp_path / "contrastive" / "seed-2" / "cost.json").unlink()
    found = outcomes([tmp_path])
    assert [len(outcome.results) for outcome in found] == [1]
    report_comparison(found, tmp_path / "comparison.html")
    assert "contrastive" in (tmp_path / "comparison.html").read_text()
