"""Comparisons: the same for all, what failed told, what is finished kept, the table from the folders alone."""

import csv
import dataclasses
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recallk import InputError, report
from recallk.comparison import jobs, worker
from recallk.comparison.compare import compare, minutes_of
from recallk.comparison.contenders import Contender, losses_as_contenders, sweep_as_contenders
from recallk.comparison.experiment import Comparison
from recallk.comparison.outcomes import interval, outcomes
from recallk.comparison.single_run import best_validation, steps_of, write_failure
from recallk.reporting.comparison import save_table, table_of, write_page
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.summary import summary_of
from recallk.training.plan import prepare
from tests.comparison import processes
from tests.rows import measured, steps, without_time
from tests.training.test_trainer import SMALL, save_patterns

SET_ASIDE = SMALL | {"chunk_size": 32, "validation_fraction": 0.65}  # images enough to choose a rate on
pytestmark = pytest.mark.xdist_group("compare")  # its fixtures are dear: one process makes them
CONTENDERS = [*losses_as_contenders(["recall@k", "contrastive"]), Contender("too hot", {"learning_rate": 1e9})]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=50, images=7)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("comparison")
    list(comparison(folder, pictures).run())
    return folder


def comparison(folder: Path, pictures: Path, **changes: Any) -> Comparison:
    values = SET_ASIDE | {"data": str(pictures)} | changes
    return Comparison(folder, values, CONTENDERS, factors=(0.5, 1), seeds=2, at_once=2)


def test_every_contender_has_a_row_and_a_failure_is_told(finished: Path) -> None:
    found = {outcome.name: outcome for outcome in outcomes([finished])}
    assert set(found) == {"recall@k", "contrastive", "too hot"}
    for name in ("recall@k", "contrastive"):
        assert found[name].failures == []
        assert len(found[name].results) == len(found[name].minutes) == 2
        assert min(found[name].peaks) > 1e8
        assert found[name].learning_rate in (1e-3, 2e-3)
    assert not found["too hot"].results
    assert {line.split(":")[0] for line in found["too hot"].failures} == {"rate-5e+08-1", "rate-1e+09-1"}
    assert all("nan" in line.lower() for line in found["too hot"].failures)


def test_the_rate_is_the_best_on_validation_classes(finished: Path) -> None:
    for name in ("recall@k", "contrastive"):
        best = {}
        for rate in (1e-3, 2e-3):
            rows = RunFolder(finished / name / f"rate-{rate:g}-1").history()
            best[rate] = max(row.metrics["map@r"] for row in measured(rows, "validation"))
        chosen = RunFolder(finished / name / "seed-1").read_config().learning_rate
        assert best[chosen] == max(best.values())


def test_the_test_items_are_not_measured_before_training(finished: Path) -> None:
    run = RunFolder(finished / "recall@k" / "seed-1")
    assert not measured(run.history(), "evaluation")
    assert not run.read_config().measure_before
    assert summary_of(run).before.metrics == {}
    assert report(run.path) == []
    assert ">–<" in run.report.read_text()


def test_searches_do_not_look_at_the_test_items(finished: Path) -> None:
    for run in (finished / "recall@k").glob("rate-*"):
        assert [row.metrics for row in measured(RunFolder(run).history(), "result")] == [{}]
        assert measured(RunFolder(run).history(), "validation")
        assert summary_of(RunFolder(run)).warnings == [
            "the test items were not measured after training (measure_after=False): recallk evaluate does it"
        ]


@pytest.mark.slow
def test_several_searches_are_averaged_and_one_that_failed_rules_a_rate_out(tmp_path: Path, pictures: Path) -> None:
    values = SET_ASIDE | {"data": str(pictures)}
    searching = Comparison(tmp_path, values, [Contender("one", {})], (0.5, 1), 1, searches=2)
    assert len(list(searching.run())) == 5
    best = {}
    for rate in (0.001, 0.002):
        runs = [RunFolder(tmp_path / "one" / f"rate-{rate:g}-{n}") for n in (1, 2)]
        assert runs[0].read_config().seed != runs[1].read_config().seed
        best[rate] = np.mean([best_validation(run) for run in runs])
    (outcome,) = outcomes([tmp_path])
    assert outcome.learning_rates == [0.001, 0.002]
    assert outcome.learning_rate == max(best, key=lambda rate: best[rate])
    write_failure(RunFolder(tmp_path / "one" / f"rate-{outcome.learning_rate:g}-2"), "by hand")
    shutil.rmtree(tmp_path / "one" / "seed-1")
    assert [job.name for job in searching.run()] == ["seed-1"]
    del best[outcome.learning_rate]
    assert outcomes([tmp_path])[0].learning_rate == max(best, key=lambda rate: best[rate])


@pytest.mark.slow
def test_all_start_from_the_same_network(finished: Path) -> None:
    starts = [measured(RunFolder(finished / name / "seed-1").history())[0] for name in ("recall@k", "contrastive")]
    assert [row.epoch for row in starts] == [0, 0]
    assert starts[0].metrics["recall@1"] == starts[1].metrics["recall@1"]
    assert starts[0].metrics["map@r"] == starts[1].metrics["map@r"]


def test_what_nobody_said_is_chosen_for_each_and_goes_on(tmp_path: Path, pictures: Path) -> None:
    """Each has a twentieth of its own steps as warm-up, and what is finished is not run again."""
    values = SET_ASIDE | {"data": str(pictures), "batch_size": None, "epochs": 40}
    contenders = [Contender("open", {}), Contender("small", {"batch_size": 8})]

    def run() -> list[jobs.Job]:
        return list(Comparison(tmp_path, values, contenders, factors=(1,), seeds=1, at_once=2).run())

    begun = run()
    assert len(begun) == 2
    for job in begun:
        assert isinstance(job.values["horizontal_flip"], bool), "looked into once, and not in each run"
    found = {outcome.name: outcome.runs[0] for outcome in outcomes([tmp_path])}
    for name, folder in found.items():
        config, taken = folder.read_config(), len(steps_of(folder))
        assert config.warmup_steps == round(taken / 20), name
        assert config.evaluate_every == math.ceil((config.epochs or 0) / 30) == 2, name
    assert found["small"].read_config().batch_size == 8
    assert isinstance(found["open"].read_config().batch_size, int)
    assert len(steps_of(found["small"])) > len(steps_of(found["open"]))
    assert not run()


@pytest.mark.slow
def test_what_finished_is_not_run_twice_and_what_failed_or_is_missing_is(finished: Path, pictures: Path) -> None:
    assert {job.contender.name for job in comparison(finished, pictures).run()} == {"too hot"}
    seed = finished / "contrastive" / "seed-2"
    before = RunFolder(seed).history()[-1]
    moved = finished.parent / "moved"
    seed.rename(moved)
    again_run = [job for job in comparison(finished, pictures).run() if job.contender.name != "too hot"]
    assert [(job.contender.name, job.name) for job in again_run] == [("contrastive", "seed-2")]
    again = RunFolder(seed).history()[-1]
    assert without_time([again]) == without_time([before]) != []


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True], ids=["before the first checkpoint", "after it"])
def test_a_run_that_was_killed_goes_on(finished: Path, tmp_path: Path, pictures: Path, saved: bool) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    folder = RunFolder(tmp_path / "contrastive" / "seed-1")
    before = folder.history()[-1]
    folder.forget_after(*((2, 1_000) if saved else (0, 0)))
    shutil.rmtree(folder.model)
    write_failure(folder, "killed")
    if not saved:
        shutil.rmtree(folder.checkpoint.parent)
    again_run = [job.folder.path for job in comparison(tmp_path, pictures).run()]
    assert [path for path in again_run if path.parent.name != "too hot"] == [folder.path]
    again = folder.history()[-1]
    assert without_time([again]) == without_time([before]) != []
    assert not any(outcome.failures for outcome in outcomes([tmp_path]) if outcome.name != "too hot")


def test_the_table_and_the_page(finished: Path) -> None:
    found = outcomes([finished])
    columns, rows = table_of(found)
    assert columns[:3] == ["", "recall@1", "recall@2"]
    assert rows[-1].cells == ["too hot"]
    assert not rows[-1].measured
    assert len(rows[-1].remarks) == 2
    values = [100 * row["recall@1"] for row in found[0].results]
    mean, half = interval(values)
    assert half is not None
    fits = half <= min(mean, 100 - mean)
    assert rows[0].cells[1].startswith(f"{mean:.1f} ± {half:.1f}" if fits else f"{mean:.1f} (")
    save_table(found, finished / "comparison.csv")
    lines = list(csv.DictReader((finished / "comparison.csv").open()))
    assert [(line["contender"], line["run"]) for line in lines] == [
        (outcome.name, f"seed-{seed}") for outcome in found[:2] for seed in (1, 2)
    ]
    assert [float(line["recall@1"]) for line in lines[:2]] == pytest.approx(found[0].recall, abs=1e-6)
    write_page(found, finished / "comparison.html")
    page = (finished / "comparison.html").read_text()
    assert all(remark in page for outcome in found for remark in outcome.remarks)
    assert "Queries that the loss reaches" in page
    for word in ("contrastive", "recall@k", "too hot", "<svg", "first right one at"):
        assert word in page
    assert 'class="best"' not in page  # of two seeds, whose intervals are as wide as this
    assert "no winner" in page
    assert "two seeds tell little" in page


def test_the_interval_is_that_of_students_t() -> None:
    values = [1.0, 2.0, 4.0]
    mean, half = interval(values)
    assert mean == pytest.approx(np.mean(values))
    assert half == pytest.approx(4.303 * np.std(values, ddof=1) / np.sqrt(3), rel=1e-3)
    assert interval([3.0]) == (3.0, None)


def test_a_wrong_contender_is_found_before_anything_runs(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures)}
    with pytest.raises(InputError, match="batch_size=3"):
        Comparison(tmp_path, values, sweep_as_contenders("batch_size=64,3"), (1,), 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("work", "word"), [(processes.exit_by_seed, "9"), (processes.be_killed_by_seed, "SIGKILL")], ids=["exit", "killed"]
)
def test_a_process_that_dies_leaves_a_row_and_the_others_go_on(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[..., None], word: str
) -> None:
    monkeypatch.setattr(worker, "work", work)
    values = SMALL | {"data": str(pictures)}
    list(Comparison(tmp_path, values, [Contender("doomed", {})], (1,), 2, at_once=2).run())
    (outcome,) = outcomes([tmp_path])
    assert outcome.failures == [f"seed-1: the process ended with {word}; it may have run out of memory"]
    assert (tmp_path / "doomed" / "seed-2" / "survived").is_file()
    assert json.dumps(outcome.results) == "[]"


def test_a_failure_that_could_not_be_written_is_told_as_that(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "work", processes.work_on_a_full_disk)
    list(Comparison(tmp_path, SMALL | {"data": str(pictures)}, [Contender("full", {})], (1,), 1).run())
    (outcome,) = outcomes([tmp_path])
    assert outcome.failures == [f"seed-1: {jobs._why_ended(worker.UNWRITTEN)}"]
    assert "why could not be written" in outcome.failures[0]


@pytest.mark.slow
def test_runs_start_whatever_the_length_of_the_temporary_folders_name(tmp_path: Path) -> None:
    """In a process of its own: the server that this one has may have been started long before."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    code = (
        "import sys; from pathlib import Path; from tests.comparison import processes;"
        "from recallk.comparison import jobs; from recallk.comparison.contenders import Contender;"
        "from recallk.runs.folder import RunFolder;"
        "jobs.worker.work = processes.exit_by_seed;"
        "job = jobs.Job(Contender('doomed', {}), {'seed': 1}, RunFolder(Path(sys.argv[1], 'seed-1')));"
        "process = jobs.start(job, 1); process.join(); print(process.exitcode)"
    )
    command = (sys.executable, "-c", code, tmp_path)
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(long)}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("9\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_memory_of_a_run_is_its_own() -> None:
    ballast = np.ones(2 * 10**8)  # 1.6 GB that the process which starts the runs holds
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        own = process.submit(worker._peak_bytes, torch.device("cpu")).result()
    assert 1e8 < own < ballast.nbytes  # it imports PyTorch


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
    write_page(found, tmp_path / "comparison.html")
    assert "contrastive" in (tmp_path / "comparison.html").read_text()


def test_a_failure_beside_results_is_told(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "contrastive", tmp_path / "contrastive")
    second = RunFolder(tmp_path / "contrastive" / "seed-2")
    shutil.rmtree(second.path)
    write_failure(second, "it broke\nin two")
    _, (row,) = table_of(outcomes([tmp_path]))
    assert row.measured
    assert row.cells[-5] == "1"  # seeds
    assert "seed-2: it broke in two" in row.remarks


def test_a_best_rate_at_the_edge_is_told(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "contrastive", tmp_path / "contrastive")
    (outcome,) = outcomes([tmp_path])
    assert not outcome.at_the_edge  # of two, each is at an edge
    for rate, edge in ((10.0, True), (1e-9, True)):
        moved = dataclasses.replace(outcome, learning_rate=rate, learning_rates=sorted([1e-9, 1e-3, 10.0]))
        assert moved.at_the_edge is edge
        assert "of those tried" in " ".join(table_of([moved])[1][0].remarks)
    assert not dataclasses.replace(outcome, learning_rate=1e-3, learning_rates=[1e-9, 1e-3, 10.0]).at_the_edge


@pytest.mark.slow
def test_the_same_images_for_each_whatever_an_epoch_holds(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "epochs": 6, "batch_size": 40, "chunk_size": 64, "milestones": [3]}
    values["limit_classes"] = 18  # whose epochs are 3 batches of 40, or 2 of 72
    contenders = [Contender("small", {}), Contender("large", {"batch_size": 72})]
    list(Comparison(tmp_path, values, contenders, (1,), 1).run())
    found = {outcome.name: outcome for outcome in outcomes([tmp_path])}
    configs = {name: outcome.runs[0].read_config() for name, outcome in found.items()}
    epoch = prepare(configs["small"]).batches[0] * 40
    assert found["small"].items == [6 * epoch]
    assert abs(found["large"].items[0] - found["small"].items[0]) <= prepare(configs["large"]).batches[0] * 72 / 2
    assert configs["large"].epochs != configs["small"].epochs == 6
    assert configs["large"].milestones == (round(3 * (configs["large"].epochs or 0) / 6),)


@pytest.mark.slow
def test_the_same_minutes_for_each(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "epochs": 1}
    list(Comparison(tmp_path, values, [Contender("one", {})], (1,), 1, minutes=0.02).run())
    an_epoch = sum(step.seconds for step in steps(RunFolder(tmp_path / "one" / "timing").history()))
    config = RunFolder(tmp_path / "one" / "seed-1").read_config()
    assert config.epochs == max(1, round(0.02 * 60 / an_epoch))
    assert [job.name for job in Comparison(tmp_path, values, [Contender("one", {})], (1,), 1, minutes=0.02).run()] == []


@pytest.mark.parametrize(("budget", "minutes"), [("items", None), ("5min", 5.0), ("0.5 min", 0.5), ("90 minutes", 90)])
def test_a_budget(budget: str, minutes: float | None) -> None:
    assert minutes_of(budget) == minutes


@pytest.mark.parametrize("budget", ["5", "0min", "5h", "-1min", "epochs", ""])
def test_a_budget_that_is_none(budget: str) -> None:
    with pytest.raises(InputError, match=r"items .* or minutes"):
        minutes_of(budget)


def test_other_settings_in_the_same_folder_are_refused(finished: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match=r"embedding_size 8 instead of 16; choose another folder \(--run\)"):
        list(comparison(finished, pictures, embedding_size=8).run())


def test_a_batch_that_the_data_does_not_allow_is_a_row(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "validation_fraction": 0.1}
    contenders = [Contender("able", {}), Contender("too short a memory", {"loss": "memory-contrastive"})]
    contenders[1].changes["loss"] = {"name": "memory-contrastive", "memory_size": 4}
    list(Comparison(tmp_path, values, contenders, (1,), 1).run())
    found = {outcome.name: outcome for outcome in outcomes([tmp_path])}
    assert len(found["able"].results) == 1
    assert "a memory of 4 is smaller than the batch" in found["too short a memory"].failures[0]


def test_data_that_cannot_be_read_is_told_before_anything_runs(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path, SMALL | {"data": str(tmp_path / "nothing")}, CONTENDERS, (1,), 1)
    with pytest.raises(InputError, match="nothing"):
        next(comparison.run())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failure_that_was_mended_leaves_nothing(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures)}
    broken = Contender("one", {"loss": {"name": "memory-contrastive", "memory_size": 4}})
    mended = Contender("one", {"loss": {"name": "memory-contrastive", "memory_size": 400}})
    assert list(Comparison(tmp_path, values, [broken], (1,), 2).run()) == []
    assert outcomes([tmp_path])[0].failures
    assert len(list(Comparison(tmp_path, values, [mended], (1,), 2).run())) == 2
    (outcome,) = outcomes([tmp_path])
    assert (len(outcome.results), outcome.failures) == (2, [])


@pytest.mark.slow
def test_a_timing_that_fails_leaves_a_row(tmp_path: Path, pictures: Path) -> None:
    contenders = [Contender("too hot", {"learning_rate": 1e9}), Contender("one", {})]
    values = SMALL | {"data": str(pictures), "epochs": 1, "batch_size": 24}  # steps enough to see that it diverges
    names = [(j.contender.name, j.name) for j in Comparison(tmp_path, values, contenders, (1,), 1, minutes=0.01).run()]
    assert names == [("too hot", "timing"), ("one", "timing"), ("one", "seed-1")]
    assert "timing: " in {outcome.name: outcome for outcome in outcomes([tmp_path])}["too hot"].failures[0]


def test_the_folder_belongs_to_one_comparison(finished: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "chunk_size": 32}
    with pytest.raises(InputError, match="another budget"):
        list(Comparison(finished, values, CONTENDERS, (1,), 1, minutes=1).run())
    # what changes no result may differ
    again = comparison(finished, pictures, host_memory_gb=1).run()
    assert {job.contender.name for job in again} == {"too hot"}


def test_what_counts_is_the_same_in_a_folder(finished: Path, pictures: Path, tmp_path: Path) -> None:
    other = shutil.copytree(pictures, tmp_path / "other")
    with pytest.raises(InputError, match=f"was run with other settings: data {other} instead of {pictures}; choose"):
        list(comparison(finished, other).run())
    with pytest.raises(InputError, match="chunk_size 7 instead of 32"):
        list(comparison(finished, pictures, chunk_size=7).run())


def test_few_classes_are_told_before_anything_runs(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "limit_classes": 6}
    with pytest.raises(InputError, match=r"no rate can be chosen on validation classes, .* too few"):
        next(Comparison(tmp_path, values, [Contender("one", {})], (0.5, 1), 1).run())


@pytest.mark.parametrize("changes", [{"epochs": 3}, {"seed": 2}, {"select": "test"}])
def test_what_a_comparison_sets_no_contender_changes(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is set by"):
        Comparison(tmp_path, SMALL | {"data": "x"}, [Contender("one", changes)], (1,), 1)


@pytest.mark.parametrize("name", ["contenders", "rates", "seeds", "searches", "at_once"])
def test_none_is_too_few(tmp_path: Path, name: str) -> None:
    few: dict[str, Any] = {"contenders": CONTENDERS, "rates": (1,), "seeds": 1, "searches": 1, "at_once": 1}
    few[name] = 0 if isinstance(few[name], int) else []
    with pytest.raises(InputError, match=f"{name}: at least one is needed"):
        compare(SMALL | {"data": "x"}, tmp_path, **few)


def test_equal_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the rate 1 is there twice"):
        Comparison(tmp_path, SMALL | {"data": "x"}, CONTENDERS, (1, 2, 1), 1)


@pytest.mark.slow
def test_the_schedule_keeps_its_shape(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "epochs": 4, "batch_size": 8, "chunk_size": 64, "warmup_steps": 9}
    contenders = [Contender("small", {}), Contender("large", {"batch_size": 72})]
    list(Comparison(tmp_path, values, contenders, (1,), 1).run())
    configs = {outcome.name: outcome.runs[0].read_config() for outcome in outcomes([tmp_path])}
    taken = {o.name: len(steps(o.runs[0].history())) for o in outcomes([tmp_path])}
    assert configs["small"].warmup_steps == 9
    assert configs["large"].warmup_steps == round(9 * taken["large"] / taken["small"]) == 1


@pytest.mark.slow
def test_an_exponential_schedule_ends_where_it_would_have(tmp_path: Path, pictures: Path) -> None:
    values = SMALL | {"data": str(pictures), "epochs": 6, "batch_size": 40, "chunk_size": 64, "limit_classes": 18}
    contenders = [Contender("small", {}), Contender("large", {"batch_size": 72})]  # 3 batches an epoch, or 2
    list(Comparison(tmp_path, values | {"schedule": "exponential", "epoch_factor": 0.8}, contenders, (1,), 1).run())
    configs = {outcome.name: outcome.runs[0].read_config() for outcome in outcomes([tmp_path])}
    small, large = configs["small"], configs["large"]
    assert large.epochs != small.epochs == 6
    assert small.epoch_factor == 0.8
    assert large.epoch_factor is not None
    assert large.epochs is not None
    assert large.epoch_factor**large.epochs == pytest.approx(0.8**6)


def test_a_batch_that_shrank_is_told(tmp_path: Path, pictures: Path) -> None:
    values = SET_ASIDE | {"data": str(pictures)}
    classes = len(prepare(make_config(values)).data.train.classes)
    contenders = [Contender("whole", {"batch_size": 4 * classes + 8}), Contender("few", {"batch_size": 8})]
    list(Comparison(tmp_path, values, contenders, (1,), 1).run())
    found = {outcome.name: outcome.remarks for outcome in outcomes([tmp_path])}
    assert found["whole"] == [f"its batches have {4 * classes} items: there are no more classes"]
    assert found["few"] == []


def test_a_name_twice_is_refused(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match="the contender contrastive is there twice"):
        Comparison(tmp_path, SMALL | {"data": str(pictures)}, losses_as_contenders(["contrastive"] * 2), (1,), 1)


@pytest.mark.parametrize("name", ["..", ".", "../..", "../victim", "/"])
def test_no_contender_reaches_beyond_the_folder(tmp_path: Path, pictures: Path, name: str) -> None:
    for victim in ("plan", "victim/plan"):
        (tmp_path / "runs" / victim).mkdir(parents=True)
        (tmp_path / "runs" / victim / "precious").touch()
    before = set(tmp_path.rglob("*"))
    mine = tmp_path / "runs" / "mine"
    begun = Comparison(mine, SMALL | {"data": str(pictures)}, [Contender(name, {})], (1,), 1).run()
    job = next(begun)
    begun.close()
    assert job.folder.path.resolve().parent.parent == mine.resolve()
    assert before <= set(tmp_path.rglob("*"))
    assert all("mine" in path.parts for path in set(tmp_path.rglob("*")) - before)


@pytest.mark.parametrize("link", ["one", "one/plan"])
def test_what_a_link_leads_to_stays(tmp_path: Path, pictures: Path, link: str) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other / "plan"):
        folder.mkdir(parents=True)
    for file in (other / "failure.txt", other / "plan" / "failure.txt"):
        file.write_text("of another")
    (mine / link).parent.mkdir(exist_ok=True)
    (mine / link).symlink_to(other)
    with pytest.raises(InputError, match="a link in the place"):
        next(Comparison(mine, SMALL | {"data": str(pictures)}, [Contender("one", {})], (1,), 1).run())
    for file in (other / "failure.txt", other / "plan" / "failure.txt"):
        assert file.read_text() == "of another"


def test_what_others_left_in_a_runs_folder_stays(tmp_path: Path, pictures: Path) -> None:
    plan = tmp_path / "one" / "plan"
    plan.mkdir(parents=True)
    (plan / "failure.txt").write_text("earlier")
    (plan / "notes.txt").write_text("mine")
    next(Comparison(tmp_path, SMALL | {"data": str(pictures)}, [Contender("one", {})], (1,), 1).run())
    assert [path.name for path in plan.iterdir()] == ["notes.txt"]


def test_two_in_one_folder_at_once_are_refused(tmp_path: Path, pictures: Path) -> None:
    one, other = (
        Comparison(tmp_path, SMALL | {"data": str(pictures)}, [Contender(name, {})], (1,), 1).run() for name in "ab"
    )
    next(one)
    with pytest.raises(InputError, match="in use by"):
        next(other)
    one.close()
    next(Comparison(tmp_path, SMALL | {"data": str(pictures)}, [Contender("b", {})], (1,), 1).run())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("names", [("a/b", "a\\b"), ("Mine", "mine"), ("a", " a\n"), ("caf\u00e9", "cafe\u0301")])
def test_two_names_of_one_folder_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    contenders = [Contender(names[0], {}), Contender(names[1], {"mixup": True})]
    with pytest.raises(InputError, match="is there twice"):
        Comparison(tmp_path, SMALL | {"data": "x"}, contenders, (1,), 1)


def test_what_cannot_run_is_known_before_the_first_run(tmp_path: Path, pictures: Path) -> None:
    broken = Contender("short\x1b[2J", {"loss": {"name": "memory-contrastive", "memory_size": 4}})
    comparison = Comparison(tmp_path, SMALL | {"data": str(pictures)}, [broken, Contender("able", {})], (1,), 1)
    assert next(comparison.run()).contender.name == "able"
    (line,) = comparison.refused
    assert line.startswith("short\\x1b[2J: ")
    assert "a memory of 4 is smaller than the batch" in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "budget: 5\n",
        "data: x\nof_an_older_version: 1\nbudget: {minutes: null}\n",
        "data: x\n",
        "\x00\x01",
    ],
)
def test_a_damaged_list_of_settings_is_one_line(tmp_path: Path, pictures: Path, text: str) -> None:
    (tmp_path / "comparison.yaml").write_text(text)
    with pytest.raises(InputError, match=str(tmp_path)) as caught:
        next(Comparison(tmp_path, SMALL | {"data": str(pictures)}, [Contender("one", {})], (1,), 1).run())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a file", "x" * 300])
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, pictures: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        next(Comparison(tmp_path / name, SMALL | {"data": str(pictures)}, CONTENDERS, (1,), 1).run())


def test_minutes_have_an_end() -> None:
    for budget in ("99999999min", f"1{'0' * 400}min"):
        with pytest.raises(InputError, match="or minutes"):
            minutes_of(budget)


def test_a_page_without_the_images(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "moved")
    for config in (tmp_path / "moved").glob("*/*/config.yaml"):
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join("data: nowhere\n" if line.startswith("data:") else line for line in lines))
    page = tmp_path / "comparison.html"
    write_page(outcomes([tmp_path / "moved"]), page)
    assert "no queries are shown: " in page.read_text()
    assert "<svg" in page.read_text()


def endless(pictures: Path) -> dict[str, Any]:
    return SMALL | {"data": str(pictures), "chunk_size": 32, "epochs": 5000}


def runs_of(parent: int | None) -> set[int]:
    """Processes of runs that have not ended: children of the server that the parent has started."""
    return {run for server in _forked_by(parent) for run in _forked_by(server)}


def _forked_by(parent: int | None) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, of = stat.read_text().rpartition(")")[2].split()[:2]
            if int(of) == parent and state != "Z" and b"forkserver" in stat.with_name("cmdline").read_bytes():
                found.add(int(stat.parent.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def soon(happens: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.05)
    return happens()


@pytest.fixture
def started() -> Iterator[set[int]]:
    pids: set[int] = set()
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("early", [False, True], ids=["in training", "as they start"])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_run_outlives_the_comparison(
    tmp_path: Path, pictures: Path, started: set[int], by: signal.Signals, early: bool
) -> None:
    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=processes.run_endless, args=(tmp_path, endless(pictures)))
    parent.start()
    assert parent.pid is not None
    started.add(parent.pid)
    assert soon(lambda: len(runs_of(parent.pid)) == 2, 60)
    assert early or soon(lambda: len(list(tmp_path.glob("*/seed-1/checkpoint/latest.ckpt"))) == 2, 120)
    children = runs_of(parent.pid)
    started |= children
    assert len(children) == 2
    os.kill(parent.pid, by)
    assert soon(lambda: not any(map(runs, children)))
    parent.join(15)
    assert parent.exitcode not in (None, 0)
    if not early:
        found = outcomes([tmp_path])
        assert not any(outcome.failures for outcome in found)  # it goes on with the same command


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_ctrl_c_is_told_by_one_process_alone(tmp_path: Path, pictures: Path, started: set[int]) -> None:
    """A terminal sends it to all of them, those still importing among them; the parent ends the others."""
    command = [sys.executable, "-m", "tests.comparison.processes", str(tmp_path), json.dumps(endless(pictures))]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    started.add(parent.pid)
    assert soon(lambda: len(runs_of(parent.pid)) == 2, 60)
    children = runs_of(parent.pid)
    started |= children
    for child in children:
        os.kill(child, signal.SIGINT)
    assert not soon(lambda: not all(map(runs, children)), 3)
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=20)
    assert said.count("Traceback") == 1, said
    assert not any(map(runs, children))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_error_of_the_caller_ends_the_runs(tmp_path: Path, pictures: Path, started: set[int]) -> None:
    begun = Comparison(tmp_path, endless(pictures), CONTENDERS[:2], (1,), 1, at_once=2).run()
    next(begun)
    before = runs_of(os.getpid())
    next(begun)  # and with this the first has started
    children = runs_of(os.getpid()) - before
    started |= children
    assert len(children) == 1
    begun.close()
    assert not any(map(runs, children))
    assert not list(tmp_path.glob(".*"))
