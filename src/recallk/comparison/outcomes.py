"""What the runs of a comparison reached, read from their folders alone: `FOLDER/CONTENDER/{rate-..., seed-...}`."""

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.files import load, make_folder, write_text, writing
from recallk.core.text import shown
from recallk.runs.config import TrainConfig
from recallk.runs.folder import Row, RunFolder

REMEDY = "remove that run's folder, and the same command runs it again"


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
        """Return "45.3 ± 2.1", or "45.3 (0 to 97.2)" where that would leave 0 to 100."""
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
    rate: float | None
    rates: Sequence[float]  # that were tried, rising
    runs: Sequence[RunFolder]
    results: Sequence[dict[str, Any]]
    images: Sequence[int]
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
        told = [*self.failures, *self.notes] or ([] if self.results else ["not finished"])
        if self.at_the_edge:
            edge = "lowest" if self.rate == self.rates[0] else "highest"
            told.append(f"its best rate is the {edge} of those tried; one beyond may be better")
        return told

    @property
    def at_the_edge(self) -> bool:
        """Whether the best rate was the lowest or highest that was tried: a further one may be better still."""
        return self.rate is not None and len(self.rates) > 2 and self.rate in (self.rates[0], self.rates[-1])


def outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """Return what the contenders in the folders reached, in the order of their recall; failures last.

    Of several folders, a contender's name begins with its folder's. A run whose folder is damaged is a remark.
    Raises InputError for a folder that holds no comparison.
    """
    found = []
    for folder in folders:
        inside = sorted(
            run.parent for run in folder.glob("*/*") if re.fullmatch(r"rate-.*|seed-\d+|plan|pace", run.name)
        )
        if not inside:
            raise InputError(f"{folder}: no comparison in this folder; give the --run of a recallk compare")
        before = f"{folder.name}: " if len(folders) > 1 else ""
        found += [_outcome(path, shown(before + path.name)) for path in dict.fromkeys(inside)]
    return sorted(found, key=lambda outcome: -statistics.mean(outcome.recall) if outcome.results else math.inf)


@dataclass(frozen=True)
class _Measured:
    """A run that counts."""

    run: RunFolder
    config: TrainConfig
    result: Row
    images: int
    minutes: float
    peak: int
    batch: int  # images of a step
    notes: list[str]


def _outcome(path: Path, name: str) -> Outcome:
    runs = [RunFolder(run) for run in sorted(path.iterdir()) if run.is_dir()]
    measured: list[_Measured] = []
    failures, notes = [], []
    for run in runs:
        reason = failure_of(run)
        if reason is not None:
            failures.append(f"{run.path.name}: {reason}")
        if not re.fullmatch(r"seed-\d+", run.path.name):
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
    if measured and measured[0].batch and measured[0].config.batch_size not in (None, measured[0].batch):
        notes.append(f"its batches have {measured[0].batch:,} images: there are no more classes")
    return Outcome(
        name,
        measured[0].config.learning_rate if measured else None,
        sorted({rate for run in runs if (rate := _rate_of(run)) is not None}),
        [one.run for one in measured],
        [one.result for one in measured],
        [one.images for one in measured],
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
        if not 0 <= result.get(name, math.nan) <= 1 + 1e-6:
            raise InputError(f"{run.metrics}: {name} of the result is {shown(result.get(name))}; {REMEDY}")
    steps = rows_of(run, "step")
    if len(steps) < max([1, *(row.get("step", 0) for row in steps)]):
        notes.append(f"{run.path.name}: rows are missing from its metrics.jsonl; it took more images and minutes")
    if cost_of(run).is_file():
        try:
            peak = load(cost_of(run), lambda file: int(json.loads(file.read_text())["peak_bytes"]), "a cost", REMEDY)
        except InputError:
            notes.append(f"{run.path.name}: its {cost_of(run).name} is damaged: its memory is unknown")
    images = [row.get("images", 0) for row in steps]
    return _Measured(
        run,
        config,
        result,
        int(sum(images)),
        _seconds(steps) / 60,
        peak,
        int(sum(images[:1])),
        notes,
    )


def _rate_of(run: RunFolder) -> float | None:
    """Return the rate that a run of the search tried; None for other runs."""
    found = re.fullmatch(r"rate-(\d[\d.]*(?:e[+-]?\d+)?)-\d+", run.path.name)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def _seconds(rows: Sequence[Row]) -> float:
    return float(sum(row.get("seconds", 0) for row in rows))


def rows_of(folder: RunFolder, kind: str) -> list[Row]:
    """Return the rows of one kind of a run's metrics.jsonl. Raises InputError where that cannot be read."""
    return [row for row in folder.history() if row["kind"] == kind]


def result_of(folder: RunFolder) -> Row | None:
    """Return the last row of a finished run; None where it has not finished."""
    return next(iter(rows_of(folder, "result")), None) if folder.metrics.is_file() else None


def seconds_of(folder: RunFolder) -> float:
    """Return how long the steps of a run took."""
    return _seconds(rows_of(folder, "step"))


def failure_of(folder: RunFolder) -> str | None:
    """Return why a run failed, in one line; None where it did not."""
    path = failure_file(folder)
    if not path.is_file():
        return None
    try:
        text = load(path, lambda file: file.read_text(encoding="utf-8", errors="backslashreplace"), "text", REMEDY)
    except InputError as error:
        text = str(error)
    return shown(" ".join(text.split())) or "failed, and why is lost"


def forget_failure(folder: RunFolder) -> None:
    """Let a run be tried again."""
    with writing(failure_file(folder)):
        failure_file(folder).unlink(missing_ok=True)


def fail(folder: RunFolder, message: str) -> None:
    """Leave word of why a run failed."""
    make_folder(folder.path)
    write_text(failure_file(folder), shown(" ".join(message.split())) + "\n")


def failure_file(folder: RunFolder) -> Path:
    """Return the file with the reason of a run that failed."""
    return folder.path / "failure.txt"


def cost_of(folder: RunFolder) -> Path:
    """Return the file with what a finished run cost, beside time."""
    return folder.path / "cost.json"


def best_validation(folder: RunFolder) -> float | None:
    """Return the highest MAP@R, by which epochs are chosen too, on classes set aside; None for an unfinished run."""
    if result_of(folder) is None or failure_of(folder) is not None:
        return None
    return max((row["map@r"] for row in rows_of(folder, "validation") if "map@r" in row), default=None)


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
