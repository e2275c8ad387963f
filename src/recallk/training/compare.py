"""Runs side by side: the same network, data, batches and budget for each, and the same search of the learning rate.

Everything is in the folders of the runs, `FOLDER/CONTENDER/{rate-..., seed-...}`: what is finished is not run again,
what was interrupted goes on, and the table is made from the folders alone.
"""

import json
import math
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recallk.errors import InputError, RecallkError
from recallk.training.checkpoint import RunFolder
from recallk.training.config import TrainConfig, make_config

SEARCH_SEED = 1000  # apart from the seeds that count: a rate is not chosen on the run that it is measured by
DIGITS = 6


@dataclass(frozen=True)
class Contender:
    """What differs from the common configuration, under a name."""

    name: str
    changes: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    contender: Contender
    name: str  # of its folder: "rate-0.001" of the search, "seed-1" of the measurement
    values: dict[str, Any]
    folder: RunFolder


@dataclass(frozen=True)
class Outcome:
    """What one contender reached: a run and a row of metrics for each seed, or the reason why there is none."""

    name: str
    rate: float | None
    runs: Sequence[RunFolder]
    results: Sequence[dict[str, Any]]
    minutes: Sequence[float]
    peak_bytes: int
    failure: str | None


def losses_as_contenders(names: Sequence[str]) -> list[Contender]:
    """Return a contender for each loss by name."""
    return [Contender(name, {"loss": name}) for name in names]


def sweep_as_contenders(sweep: str) -> list[Contender]:
    """Return a contender for each value of KEY=VALUE,VALUE,... Raises InputError for a key that does not exist."""
    key, separator, values = sweep.partition("=")
    key = key.strip().replace("-", "_")
    if not separator or not values:
        raise InputError(f"--sweep {sweep}: KEY=VALUE,VALUE,... is needed, such as batch_size=64,256,1024")
    if key not in TrainConfig.model_fields:
        raise InputError(f"--sweep {sweep}: no key {key!r}; recallk train --help lists them")
    return [Contender(f"{key}={value}", {key: yaml.safe_load(value)}) for value in _split(values)]


def _split(values: str) -> list[str]:
    """Split at commas, but not within brackets: ks=[1],[1,2,4] has two values."""
    parts, depth = [""], 0
    for character in values:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


class Comparison:
    """A comparison in a folder. `jobs()` runs what is missing; `outcomes()` reads what there is."""

    def __init__(
        self,
        folder: Path,
        common: dict[str, Any],
        contenders: Sequence[Contender],
        factors: Sequence[float],
        seeds: int,
    ) -> None:
        """Check every configuration before anything runs.

        `factors` times the common learning rate are tried for each contender; the best on validation classes counts.
        """
        self.folder, self.common, self.contenders, self.factors, self.seeds = folder, common, contenders, factors, seeds
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise InputError(f"rates {', '.join(f'{factor:g}' for factor in factors)}: each is above 0")
        for contender in contenders:
            make_config(common, contender.changes, {"select": "validation"})

    def run(self) -> Iterator[Job]:
        """Run every job that is not finished; each is yielded when it is about to start."""
        for contender in self.contenders:
            for factor in self.factors if len(self.factors) > 1 else ():
                rate = self._rate(contender, factor)
                yield from self._run(contender, f"rate-{rate:g}", SEARCH_SEED, rate)
            chosen = self._chosen_rate(contender)
            if chosen is None:  # no rate came through: the table says why
                continue
            for seed in range(1, self.seeds + 1):
                yield from self._run(contender, f"seed-{seed}", seed, chosen)

    def _rate(self, contender: Contender, factor: float) -> float:
        config = make_config(self.common, contender.changes)
        return float(f"{config.learning_rate * factor:.{DIGITS}g}")

    def _run(self, contender: Contender, name: str, seed: int, rate: float) -> Iterator[Job]:
        folder = RunFolder(self.folder / contender.name / name)
        values = self.common | contender.changes | {"seed": seed, "learning_rate": rate, "select": "validation"}
        if _result(folder) is None and failure_of(folder) is None:
            job = Job(contender, name, values, folder)
            yield job
            _in_a_process(job)

    def _chosen_rate(self, contender: Contender) -> float | None:
        if len(self.factors) == 1:
            return self._rate(contender, self.factors[0])
        found = {}
        for factor in self.factors:
            rate = self._rate(contender, factor)
            best = _best_validation(RunFolder(self.folder / contender.name / f"rate-{rate:g}"))
            if best is not None:
                found[rate] = best
        return max(found, key=lambda rate: found[rate]) if found else None


def _in_a_process(job: Job) -> None:
    """Run a job by itself: what it breaks, and the memory that it takes, are its own."""
    # a fork need not import everything again
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(job,))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.join()
        raise
    if process.exitcode and failure_of(job.folder) is None:
        _fail(job.folder, f"the process ended with {process.exitcode}; it may have run out of memory")


def _work(job: Job) -> None:
    from recallk.training.plan import prepare
    from recallk.training.trainer import Trainer

    try:
        trainer = Trainer(prepare(make_config(job.values)), job.folder)
        for _ in trainer.rows(resume=job.folder.checkpoint.is_file()):
            pass
    except KeyboardInterrupt:
        return
    except RecallkError as error:
        _fail(job.folder, str(error))
    except Exception as error:  # one contender's failure is a row of the table, and the others go on
        _fail(job.folder, f"{type(error).__name__}: {error}")
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _cost(job.folder).write_text(json.dumps({"peak_bytes": peak}))


def _cost(folder: RunFolder) -> Path:
    return folder.path / "cost.json"


def _fail(folder: RunFolder, message: str) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "failure.txt").write_text(" ".join(message.split()) + "\n")


def failure_of(folder: RunFolder) -> str | None:
    """Return why a run failed, in one line; None where it did not. Remove its folder to have it run again."""
    path = folder.path / "failure.txt"
    return path.read_text().strip() if path.is_file() else None


def _result(folder: RunFolder) -> dict[str, Any] | None:
    if not folder.metrics.is_file():
        return None
    return next((row for row in folder.history() if row["kind"] == "result"), None)


def _best_validation(folder: RunFolder) -> float | None:
    if _result(folder) is None:
        return None
    k = folder.read_config().evaluate_ks[0]
    found = [float(row[f"recall@{k}"]) for row in folder.history() if row["kind"] == "validation"]
    if not found:
        raise InputError(
            f"{folder.path}: too few training classes to choose a learning rate on validation classes; "
            "give a single one (--rates 1)"
        )
    return max(found)


def outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """Return what the contenders in the folders reached, in the order of their recall; failures last.

    Raises InputError for a folder that holds no comparison.
    """
    found = []
    for folder in folders:
        inside = sorted(run.parent for run in folder.glob("*/*") if run.name.startswith(("rate-", "seed-")))
        if not inside:
            raise InputError(f"{folder}: no comparison in this folder; give the --run of a recallk compare")
        found += [_outcome(path) for path in dict.fromkeys(inside)]
    return sorted(found, key=lambda o: -statistics.mean(r["recall@1"] for r in o.results) if o.results else math.inf)


def _outcome(path: Path) -> Outcome:
    runs = [RunFolder(run) for run in sorted(path.iterdir()) if run.is_dir()]
    measured = [run for run in runs if run.path.name.startswith("seed-") and _result(run) is not None]
    costs = [json.loads(file.read_text())["peak_bytes"] for run in measured if (file := _cost(run)).is_file()]
    failures = [reason for run in runs if (reason := failure_of(run)) is not None]
    return Outcome(
        path.name,
        measured[0].read_config().learning_rate if measured else None,
        measured,
        [_result(run) or {} for run in measured],
        [sum(row["seconds"] for row in run.history() if row["kind"] == "step") / 60 for run in measured],
        max(costs, default=0),
        failures[0] if failures and not measured else None,
    )


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half width of its 95% interval (Student's t); None for a single value."""
    if len(values) < 2:
        return values[0], None
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1)) * spread
