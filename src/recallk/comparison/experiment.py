"""Runs side by side: the same network, data, batches and budget for each, and the same search of the learning rate.

Everything is in the folders of the runs: what is finished is not run again, and what was interrupted goes on.
"""

import json
import math
import statistics
from collections.abc import Generator, Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from recallk.comparison.contenders import SET_BY_COMPARISONS, Contender
from recallk.comparison.folder import PLAN, TIMING, ComparisonFolder, search_name, seed_name
from recallk.comparison.jobs import Job, end_all, start, wait_for_one
from recallk.comparison.single_run import (
    REMEDY,
    best_validation,
    remove_failure,
    result_of,
    seconds_of,
    steps_of,
    write_failure,
)
from recallk.core.errors import InputError
from recallk.core.files import write_text
from recallk.core.group import place
from recallk.core.lock import locked
from recallk.core.text import shown
from recallk.data.dataset import Dataset, read_for_training
from recallk.runs.config import make_config, read_config, to_yaml
from recallk.runs.folder import RunFolder
from recallk.runs.recipes import unlike
from recallk.runs.train_config import TrainConfig
from recallk.training.choices import evaluations_of, warmup_of
from recallk.training.launch import require_devices
from recallk.training.plan import Plan, lay_out

OPEN_IN_EACH = ("items_per_class", "batch_size", "horizontal_flip", "mixup")
"""What a contender's plan may choose, whatever its length."""
SEARCH_SEED = 999  # and up, apart from the seeds that count: a rate is not chosen on the run that it is measured by
DIGITS = 6


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
        Each contender sees as many items as the common configuration in its epochs, or trains for about `minutes`.
        Raises InputError, naming the setting or the contender that is wrong.
        """
        self.folder, self.common, self.contenders = ComparisonFolder(folder), common, contenders
        self.factors, self.seeds, self.searches = factors, seeds, searches
        self.minutes, self.at_once = minutes, at_once
        if place() is not None:
            raise InputError("a comparison starts the processes of its runs itself: give devices=N, without torchrun")
        counts = {"contenders": len(contenders), "rates": len(factors), "seeds": seeds}
        for name, count in (counts | {"searches": searches, "at_once": at_once}).items():
            if count < 1:
                raise InputError(f"{name}: at least one is needed")
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise InputError(f"rates {', '.join(f'{factor:g}' for factor in factors)}: each is above 0")
        # some file systems take upper and lower case for the same
        folders = [contender.folder.casefold() for contender in contenders]
        for what, names in (("rate", [f"{f:g}" for f in factors]), ("contender", folders)):
            if len(set(names)) < len(names):
                twice = max(names, key=names.count)
                called = [shown(c.name) for c in contenders if what == "contender" and c.folder.casefold() == twice]
                meant = f" (one folder for {' and '.join(map(repr, called))})" if len(set(called)) > 1 else ""
                raise InputError(f"the {what} {twice} is there twice{meant}: name each once")
        for contender in contenders:
            for key in SET_BY_COMPARISONS.keys() & contender.changes.keys():
                raise InputError(f"{shown(contender.name)}: {key} is set by {SET_BY_COMPARISONS[key]}, for all alike")
            config = make_config(self._values(contender))
            require_devices(config)
            if config.nodes > 1:
                raise InputError(f"{shown(contender.name)}: nodes={config.nodes}: a comparison runs on one machine")
        self.how_chosen = ""
        """How the epoch is chosen whose model a run is measured by; known before the first job is yielded."""
        self.refused: list[str] = []
        """Contenders whose batches the data does not allow, and why; complete before the first job is yielded."""

    @property
    def most_runs(self) -> int:
        """How many runs there are where none is finished yet and none fails."""
        searches = self.searches * len(self.factors) if len(self.factors) > 1 else 0
        return len(self.contenders) * (self.seeds + searches + (self.minutes is not None))

    def run(self) -> Generator[Job, None, None]:
        """Run every job that is not finished; each is yielded when it is about to start. What failed is tried again.

        Whatever ends this process, or closes this generator before its end, ends the runs under way.
        Raises InputError for data that the common configuration could not train on, and where the folder holds
        another comparison, or another process runs one in it.
        """
        common = make_config(self.common, {"select": "validation"})
        data = read_for_training(common)
        _require_tests(data)
        self._planned = lay_out(common, data)
        self.how_chosen = self._planned.how_chosen
        if data.validation is None and len(self.factors) > 1:
            raise InputError(
                f"no rate can be chosen on validation classes, {data.why_no_validation}: raise --validation-fraction, "
                "or give a single rate (--rates 1)"
            )
        with locked(self.folder.path):
            self._claim(common)
            yield from self._run_all(self._plans(common, data))

    def _run_all(self, plans: list[tuple[Contender, Plan]]) -> Iterator[Job]:
        if self.minutes is not None:
            yield from self._run(
                self._job(plan, c, TIMING, 1, SEARCH_SEED, min(self._rates(c)), search=True) for c, plan in plans
            )
            plans = [(c, plan) for c, plan in plans if result_of(self._folder(c, TIMING)) is not None]
        epochs = {c.name: self._epochs(c, plan) for c, plan in plans}
        if len(self.factors) > 1:
            yield from self._run(
                self._job(plan, c, search_name(rate, search), epochs[c.name], SEARCH_SEED + search, rate, search=True)
                for c, plan in plans
                for rate in self._rates(c)
                for search in range(1, self.searches + 1)
            )
        chosen = {c.name: self._chosen_rate(c) for c, _ in plans}
        yield from self._run(
            self._job(plan, c, seed_name(seed), epochs[c.name], seed, rate)
            for c, plan in plans
            if (rate := chosen[c.name]) is not None  # every rate failed: the table says why
            for seed in range(1, self.seeds + 1)
        )

    def _plans(self, common: TrainConfig, data: Dataset) -> list[tuple[Contender, Plan]]:
        """Return the contenders whose batches the data allows; the others fail here."""
        able = []
        self.refused.clear()
        for contender in self.contenders:
            config, folder = make_config(self._values(contender)), self._folder(contender, PLAN)
            try:
                own = data if config.reads_as(common) else read_for_training(config)
                _require_tests(own)
                able.append((contender, lay_out(config, own)))
            except InputError as error:
                self.refused.append(f"{shown(contender.name)}: {error}")
                write_failure(folder, str(error))
            else:
                remove_failure(folder)
                folder.remove_if_empty()
        return able

    def _claim(self, common: TrainConfig) -> None:
        """Write what is common to all into the folder. Raises InputError where it is another comparison's."""
        for contender in self.contenders:
            self._folder(contender, PLAN)
        path = self.folder.settings
        budget = {"minutes": self.minutes}
        if path.is_file():
            there = read_config(path)
            if there.pop("budget", None) != budget:
                raise InputError(
                    f"{self.folder.path}: holds a comparison of another budget; choose another folder (--run)"
                )
            try:
                before = make_config(there)
            except InputError as error:
                raise InputError(
                    f"{path}: not a comparison of this version ({error}); choose another folder (--run)"
                ) from None
            _check_same(self.folder.path, common, before)
        write_text(path, f"{to_yaml(common)}budget: {json.dumps(budget)}\n")

    def _epochs(self, contender: Contender, plan: Plan) -> int:
        """Return how many epochs the budget is for a contender."""
        if self.minutes is None:
            return max(1, round(self._planned.items_seen * plan.epochs / plan.items_seen))
        timing = self._folder(contender, TIMING)
        seconds = seconds_of(steps_of(timing))
        if not seconds:
            raise InputError(f"{timing.metrics}: says nothing of time; {REMEDY}")
        return max(1, round(60 * self.minutes / seconds))

    def _folder(self, contender: Contender, name: str) -> RunFolder:
        return self.folder.run(contender.folder, name)

    def _values(self, contender: Contender, **further: Any) -> dict[str, Any]:
        # what there was before training is in no table: of many test items it would take longer than the training
        fixed = {"select": "validation", "measure_after": True}
        return {"measure_before": False} | self.common | contender.changes | fixed | further

    def _job(
        self, plan: Plan, contender: Contender, name: str, epochs: int, seed: int, rate: float, *, search: bool = False
    ) -> Job:
        """Return a run; the schedule keeps its shape, whatever the number of epochs and of steps.

        Runs of a search do not look at the test items.
        """
        planned, chosen = plan.config, {choice.key for choice in plan.choices}
        steps = plan.steps * epochs / plan.epochs
        factor = planned.epoch_factor
        if "warmup_steps" in chosen:
            warmup = warmup_of(planned, steps)
        else:  # as large a share of the steps as it is of the common configuration's
            warmup = round((planned.warmup_steps or 0) * steps / self._planned.steps)
        values = self._values(
            contender,
            epochs=epochs,
            milestones=sorted({max(1, round(m * epochs / plan.epochs)) for m in planned.milestones}),
            epoch_factor=None if factor is None else factor ** (plan.epochs / epochs),
            warmup_steps=warmup,
            seed=seed,
            learning_rate=rate,
            **{key: getattr(planned, key) for key in OPEN_IN_EACH if key in chosen},
            **({"evaluate_every": evaluations_of(epochs)} if "evaluate_every" in chosen else {}),
            **({"measure_after": False} if search else {}),
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
            runs = [self._folder(contender, search_name(rate, n)) for n in range(1, self.searches + 1)]
            best = [reached for run in runs if (reached := best_validation(run)) is not None]
            if len(best) == len(runs):  # a rate that fails in some searches is not chosen
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
                process = start(job, self.at_once)
                running[process.sentinel] = process, job
                if len(running) == self.at_once:
                    wait_for_one(running)
            while running:
                wait_for_one(running)
        finally:
            end_all([process for process, _ in running.values()])


def _require_tests(data: Dataset) -> None:
    if data.test.none:
        raise InputError("test_fraction=0 leaves nothing to compare on: give a share of the classes for testing")


def _is_missing(job: Job) -> bool:
    if job.folder.config.is_file():
        _check_same(job.folder.path, make_config(job.values), job.folder.read_config())
    return result_of(job.folder) is None


def _check_same(folder: Path, config: TrainConfig, there: TrainConfig) -> None:
    """Raise InputError where a folder's runs are not what they would be now."""
    if changed := unlike(config, there, counting=["data"]):
        raise InputError(f"{folder}: was run with other settings: {'; '.join(changed)}; choose another folder (--run)")
