"""Runs side by side: the same network, data, batches and budget for each, and the same search of the learning rate.

Everything is in the folders of the runs: what is finished is not run again, and what was interrupted goes on.
"""

import json
import math
import multiprocessing
import re
import resource
import shutil
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from recallk.errors import InputError, RecallkError
from recallk.training.checkpoint import RunFolder
from recallk.training.config import TrainConfig, make_config
from recallk.training.contenders import Contender
from recallk.training.outcomes import best_validation, cost_of, fail, failure_of, result_of
from recallk.training.plan import lay_out, read

SEARCH_SEED = 999  # and up, apart from the seeds that count: a rate is not chosen on the run that it is measured by
DIGITS = 6


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    contender: Contender
    values: dict[str, Any]
    folder: RunFolder

    @property
    def name(self) -> str:
        """Return "rate-0.001-1" of the search, "seed-1" of the measurement, or "pace"."""
        return self.folder.path.name


def minutes_of(budget: str) -> float | None:
    """Return the minutes of "5min"; None for "images". Raises InputError for anything else."""
    if budget == "images":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:m|min|minutes?)", budget.strip())
    if found is None or not float(found[1]):
        raise InputError(f"--budget {budget}: images (the same for each), or minutes of training such as 5min")
    return float(found[1])


class Comparison:
    """A comparison in a folder: `run()` runs what is missing."""

    def __init__(
        self,
        folder: Path,
        common: dict[str, Any],
        contenders: Sequence[Contender],
        factors: Sequence[float],
        seeds: int,
        *,
        searches: int = 1,
        minutes: float | None = None,
        at_once: int = 1,
    ) -> None:
        """Check every configuration before anything runs.

        `factors` times the common learning rate are tried for each contender, in so many `searches`, with seeds of
        their own; the best on validation classes counts.
        Each contender sees as many images as the common configuration in its epochs, or trains for about `minutes`.
        """
        self.folder, self.common, self.contenders, self.factors, self.seeds = folder, common, contenders, factors, seeds
        self.searches, self.minutes, self.at_once = searches, minutes, at_once
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise InputError(f"rates {', '.join(f'{factor:g}' for factor in factors)}: each is above 0")
        names = [contender.name for contender in contenders]
        if len(set(names)) < len(names):
            raise InputError(f"{max(names, key=names.count)} is there twice: name each once")
        for contender in contenders:
            make_config(self._values(contender))

    def run(self) -> Iterator[Job]:
        """Run every job that is not finished; each is yielded when it is about to start.

        Raises InputError for data that the common configuration could not train on, and where the folder holds runs
        of another configuration.
        """
        images_of_an_epoch = self._images_of_an_epoch()
        able = [contender for contender in self.contenders if contender.name in images_of_an_epoch]
        if self.minutes is not None:
            yield from self._run(
                Job(c, self._values(c, epochs=1, milestones=[]), self._folder(c, "pace")) for c in able
            )
        epochs = {c.name: self._epochs(c, images_of_an_epoch[c.name]) for c in able}
        if len(self.factors) > 1:
            yield from self._run(
                self._job(c, f"rate-{rate:g}-{search}", epochs[c.name], SEARCH_SEED + search, rate)
                for c in able
                for rate in self._rates(c)
                for search in range(1, self.searches + 1)
            )
        chosen = {c.name: self._chosen_rate(c) for c in able}
        yield from self._run(
            self._job(c, f"seed-{seed}", epochs[c.name], seed, rate)
            for c in able
            if (rate := chosen[c.name]) is not None  # no rate came through: the table says why
            for seed in range(1, self.seeds + 1)
        )

    def _images_of_an_epoch(self) -> dict[str, int]:
        """Return them for each contender by name whose batches the data allows; the others fail here."""
        common = make_config(self.common, {"select": "validation"})
        data = read(common)  # also: what is drawn in memory is drawn once, before the processes part
        self._images = lay_out(common, data).images
        found = {}
        for contender in self.contenders:
            config = make_config(self._values(contender))
            try:
                plan = lay_out(config, data if config.same_data(common) else read(config))
            except InputError as error:
                fail(self._folder(contender, "seed-1"), str(error))
            else:
                found[contender.name] = plan.images // config.epochs
        return found

    def _epochs(self, contender: Contender, images_per_epoch: int) -> int:
        """Return how many epochs the budget is for a contender."""
        if self.minutes is None:
            return max(1, round(self._images / images_per_epoch))
        pace = self._folder(contender, "pace")
        if result_of(pace) is None:
            return 1  # it failed, and will again
        steps = [row for row in pace.history() if row["kind"] == "step"]
        seconds = len(steps) * statistics.median(row["seconds"] for row in steps)
        return max(1, int(60 * self.minutes / seconds))

    def _folder(self, contender: Contender, name: str) -> RunFolder:
        return RunFolder(self.folder / contender.name / name)

    def _values(self, contender: Contender, **further: Any) -> dict[str, Any]:
        return self.common | contender.changes | {"select": "validation"} | further

    def _job(self, contender: Contender, name: str, epochs: int, seed: int, rate: float) -> Job:
        planned = make_config(self._values(contender))
        milestones = [max(1, round(m * epochs / planned.epochs)) for m in planned.milestones]
        values = self._values(
            contender, epochs=epochs, milestones=sorted(set(milestones)), seed=seed, learning_rate=rate
        )
        return Job(contender, values, self._folder(contender, name))

    def _rates(self, contender: Contender) -> list[float]:
        rate = make_config(self._values(contender)).learning_rate
        return [float(f"{rate * factor:.{DIGITS}g}") for factor in self.factors]

    def _chosen_rate(self, contender: Contender) -> float | None:
        rates = self._rates(contender)
        if len(rates) == 1:
            return rates[0]
        found = {}
        for rate in rates:
            runs = [self._folder(contender, f"rate-{rate:g}-{n}") for n in range(1, self.searches + 1)]
            best = [reached for run in runs if (reached := best_validation(run)) is not None]
            if len(best) == len(runs):  # a rate that fails now and then is none
                found[rate] = statistics.mean(best)
        return max(found, key=lambda rate: found[rate]) if found else None

    def _run(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Run what is not finished of the jobs, so many at once, each in a process of its own."""
        running: dict[int, tuple[BaseProcess, Job]] = {}
        try:
            for job in jobs:
                if not _is_missing(job):
                    continue
                yield job
                process = _start(job, self.at_once)
                running[process.sentinel] = process, job
                if len(running) == self.at_once:
                    _end_one(running)
            while running:
                _end_one(running)
        except KeyboardInterrupt:
            for process, _ in running.values():
                process.join()
            raise


def _is_missing(job: Job) -> bool:
    if failure_of(job.folder) is not None:
        return False
    if job.folder.config.is_file():
        config, there = make_config(job.values), job.folder.read_config()
        differs = [key for key in TrainConfig.model_fields if getattr(config, key) != getattr(there, key)]
        if differs:
            key = differs[0]
            raise InputError(
                f"{job.folder.path}: was run with {key}={getattr(there, key)}, now it is {getattr(config, key)}: "
                f"choose another --run"
            )
    return result_of(job.folder) is None


def _start(job: Job, at_once: int) -> BaseProcess:
    """Start a job by itself: what it breaks, and the memory that it takes, are its own."""
    # a fork need not import everything again
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(job, at_once))
    process.start()
    return process


def _end_one(running: dict[int, tuple[BaseProcess, Job]]) -> None:
    """Wait until a process ends."""
    for sentinel in running.keys() & set(wait(list(running))):
        process, job = running.pop(sentinel)
        process.join()
        if process.exitcode and failure_of(job.folder) is None:
            fail(job.folder, f"the process ended with {process.exitcode}; it may have run out of memory")


def _work(job: Job, at_once: int) -> None:
    import torch

    from recallk.training.plan import prepare
    from recallk.training.trainer import Trainer

    torch.set_num_threads(max(1, torch.get_num_threads() // at_once))
    begun = job.folder.checkpoint.is_file()
    if not begun:  # killed before its first checkpoint
        shutil.rmtree(job.folder.path, ignore_errors=True)
    try:
        trainer = Trainer(prepare(make_config(job.values)), job.folder)
        for _ in trainer.rows(resume=begun):
            pass
    except KeyboardInterrupt:
        return
    except RecallkError as error:
        fail(job.folder, str(error))
    except Exception as error:  # one contender's failure is a row of the table, and the others go on
        fail(job.folder, f"{type(error).__name__}: {error}")
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cost_of(job.folder).write_text(json.dumps({"peak_bytes": peak}))
