"""What the contenders of a comparison reached, read from the folders of their runs alone."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recallk.comparison.folder import ComparisonFolder, counts, rate_of
from recallk.comparison.single_run import REMEDY, failure_of, peak_of, result_of, seconds_of, steps_of
from recallk.core.errors import InputError
from recallk.core.text import shown
from recallk.runs.folder import RunFolder
from recallk.runs.train_config import TrainConfig


@dataclass(frozen=True)
class Estimate:
    """A percentage over the seeds: its mean and the half width of its 95% interval, None for a single seed."""

    mean: float
    half: float | None

    @property
    def low(self) -> float:
        """The lower end of the interval; 0 where nothing is known of it, as no percentage is below."""
        return 0.0 if self.half is None else max(0.0, self.mean - self.half)

    @property
    def high(self) -> float:
        """The upper end; 100 where nothing is known of it."""
        return 100.0 if self.half is None else min(100.0, self.mean + self.half)

    def __str__(self) -> str:
        """Return "45.3 ± 2.1", or "45.3 (0 to 97.2)" where that would leave 0 to 100.

        >>> print(Estimate(45.3, 2.1), Estimate(45.3, 51.9), Estimate(45.3, None), sep="; ")
        45.3 ± 2.1; 45.3 (0 to 97.2); 45.3
        """
        if self.half is None:
            return f"{self.mean:.1f}"
        if self.half <= min(self.mean, 100 - self.mean) + 1e-9:
            return f"{self.mean:.1f} ± {self.half:.1f}"
        low = "0" if self.low == 0 else f"{self.low:.1f}"
        return f"{self.mean:.1f} ({low} to {'100' if self.high == 100 else f'{self.high:.1f}'})"


@dataclass(frozen=True)
class Outcome:
    """What one contender reached: a run and a row of metrics for each seed, and why others have none."""

    name: str
    learning_rate: float | None
    learning_rates: Sequence[float]  # that were tried, rising
    runs: Sequence[RunFolder]
    results: Sequence[Mapping[str, float]]  # metrics by name, shares from 0 to 1
    items: Sequence[int]  # seen in training
    minutes: Sequence[float]
    peaks: Sequence[int]  # bytes, of a GPU or of the whole process; 0 where unknown
    failures: Sequence[str]  # "seed-2: why"
    notes: Sequence[str] = ()  # what else its folders say

    @property
    def recall(self) -> list[float]:
        """Recall at the first k that was evaluated, for each seed."""
        return [result[self.metrics[0]] for result in self.results]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that a comparison shows: recall at each k of the first test set, then MAP@R."""
        names = [n for n in self.results[0] if n.startswith("recall@") or n == "map@r"] if self.results else []
        return [name for name in names if all(name in result for result in self.results)]

    def percent(self, metric: str) -> Estimate:
        """Return a metric over the seeds."""
        return Estimate(*interval([100 * result[metric] for result in self.results]))

    @property
    def remarks(self) -> list[str]:
        """What is to be said beside the numbers, a sentence each."""
        remarks = [*self.failures, *self.notes] or ([] if self.results else ["not finished"])
        if self.at_the_edge:
            edge = "lowest" if self.learning_rate == self.learning_rates[0] else "highest"
            remarks.append(f"its best rate is the {edge} of those tried; one beyond may be better")
        return remarks

    @property
    def at_the_edge(self) -> bool:
        """Whether the best rate was the lowest or highest that was tried: a further one may be better still."""
        tried = self.learning_rates
        return self.learning_rate is not None and len(tried) > 2 and self.learning_rate in (tried[0], tried[-1])


def outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """Return what the contenders in the folders of comparisons reached, in the order of their recall; failures last.

    Of several folders, a contender's name begins with its folder's. A run whose folder is damaged is a remark.
    Raises InputError for a folder that holds no comparison.
    """
    found = []
    for folder in folders:
        inside = ComparisonFolder(folder).contenders()
        if not inside:
            raise InputError(f"{folder}: no comparison in this folder; give the --run of a recallk compare")
        before = f"{folder.name}: " if len(folders) > 1 else ""
        found += [_outcome(path, shown(before + path.name)) for path in inside]
    return sorted(found, key=lambda outcome: -statistics.mean(outcome.recall) if outcome.results else math.inf)


@dataclass(frozen=True)
class _Measured:
    """A finished run that counts."""

    run: RunFolder
    config: TrainConfig
    result: Mapping[str, float]
    items: int
    minutes: float
    peak: int
    batch: int  # items of a step
    notes: list[str]


def _outcome(path: Path, name: str) -> Outcome:
    runs = [RunFolder(run) for run in sorted(path.iterdir()) if run.is_dir()]
    measured: list[_Measured] = []
    failures, notes = [], []
    for run in runs:
        reason = failure_of(run)
        if reason is not None:
            failures.append(f"{run.path.name}: {reason}")
        if not counts(run):
            continue
        try:
            one = _measured(run)
        except InputError as error:
            failures.append(f"{run.path.name}: its folder is damaged: {shown(error)}")
            continue
        if one is not None:
            measured.append(one)
        elif reason is None:
            notes.append(f"{run.path.name}: not finished")
    notes += [note for one in measured for note in one.notes]
    if measured and measured[0].batch and measured[0].config.batch_size not in (None, "all", measured[0].batch):
        notes.append(f"its batches have {measured[0].batch:,} items: there are no more classes")
    return Outcome(
        name,
        measured[0].config.learning_rate if measured else None,
        sorted({rate for run in runs if (rate := rate_of(run)) is not None}),
        [one.run for one in measured],
        [one.result for one in measured],
        [one.items for one in measured],
        [one.minutes for one in measured],
        [one.peak for one in measured],
        failures,
        notes,
    )


def _measured(run: RunFolder) -> _Measured | None:
    """Read a finished run; None where it has not finished. Raises InputError for one that is damaged."""
    result = result_of(run)
    if result is None:
        return None
    config, notes, peak = run.read_config(), [], 0
    for name in (*(f"recall@{k}" for k in config.evaluate_ks), "map@r"):
        if not 0 <= result.metrics.get(name, math.nan) <= 1 + 1e-6:
            raise InputError(f"{run.metrics}: {name} of the result is {result.metrics.get(name)}; {REMEDY}")
    steps = steps_of(run)
    if len(steps) < max([1, *(step.step for step in steps)]):
        notes.append(f"{run.path.name}: rows are missing from its metrics.jsonl; it took more items and minutes")
    try:
        peak = peak_of(run)
    except InputError:
        notes.append(f"{run.path.name}: its {run.cost.name} is damaged: its memory is unknown")
    items = [step.items for step in steps]
    return _Measured(run, config, result.metrics, sum(items), seconds_of(steps) / 60, peak, sum(items[:1]), notes)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half width of its 95% interval (Student's t); None for a single value.

    >>> mean, half = interval([84.0, 85.0, 86.5])
    >>> f"{mean:.2f} ± {half:.2f}"
    '85.17 ± 3.13'
    >>> interval([85.0])
    (85.0, None)
    """
    if len(values) < 2:
        return values[0], None
    from scipy.stats import sem, t

    error = sem(values)
    high = t.interval(0.95, len(values) - 1, scale=error)[1] if error > 0 else 0.0  # equal values have no spread
    return statistics.mean(values), float(high)
