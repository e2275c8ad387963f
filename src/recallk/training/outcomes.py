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
from recallk.training.checkpoint import Row, RunFolder


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

    @property
    def recall(self) -> list[float]:
        """Recall at the first k that was evaluated, for each seed."""
        return [result[self.metrics[0]] for result in self.results]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that a comparison shows: recall at each k of the first test set, then MAP@R."""
        return [n for n in self.results[0] if n.startswith("recall@") or n == "map@r"] if self.results else []

    @property
    def remarks(self) -> list[str]:
        """What is to be said beside the numbers, a sentence each."""
        told = list(self.failures) or ([] if self.results else ["not finished"])
        if self.at_the_edge:
            edge = "lowest" if self.rate == self.rates[0] else "highest"
            told.append(f"its best rate is the {edge} of those tried; one beyond may be better")
        if self.runs:
            config = self.runs[0].read_config()
            batch = next(row["images"] for row in self.runs[0].history() if row["kind"] == "step")
            if config.batch_size not in (None, batch):
                told.append(f"its batches have {batch:,} images: there are no more classes")
        return told

    @property
    def at_the_edge(self) -> bool:
        """Whether the best rate was the lowest or highest that was tried: a further one may be better still."""
        return self.rate is not None and len(self.rates) > 2 and self.rate in (self.rates[0], self.rates[-1])


def outcomes(folders: Sequence[Path]) -> list[Outcome]:
    """Return what the contenders in the folders reached, in the order of their recall; failures last.

    Of several folders, a contender's name begins with its folder's.
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
        found += [_outcome(path, before + path.name) for path in dict.fromkeys(inside)]
    return sorted(found, key=lambda outcome: -statistics.mean(outcome.recall) if outcome.results else math.inf)


def _outcome(path: Path, name: str) -> Outcome:
    runs = [RunFolder(run) for run in sorted(path.iterdir()) if run.is_dir()]
    measured = [run for run in runs if run.path.name.startswith("seed-") and result_of(run) is not None]
    steps = [[row for row in run.history() if row["kind"] == "step"] for run in measured]
    return Outcome(
        name,
        measured[0].read_config().learning_rate if measured else None,
        sorted({float(found[1]) for run in runs if (found := re.fullmatch(r"rate-(.+)-\d+", run.path.name))}),
        measured,
        [result_of(run) or {} for run in measured],
        [sum(row["images"] for row in rows) for rows in steps],
        [sum(row["seconds"] for row in rows) / 60 for rows in steps],
        [_peak(run) for run in measured],
        [f"{run.path.name}: {reason}" for run in runs if (reason := failure_of(run)) is not None],
    )


def result_of(folder: RunFolder) -> Row | None:
    """Return the last row of a finished run; None where it has not finished."""
    if not folder.metrics.is_file():
        return None
    return next((row for row in folder.history() if row["kind"] == "result"), None)


def failure_of(folder: RunFolder) -> str | None:
    """Return why a run failed, in one line; None where it did not."""
    path = _failure(folder)
    return path.read_text().strip() if path.is_file() else None


def forget_failure(folder: RunFolder) -> None:
    """Let a run be tried again."""
    _failure(folder).unlink(missing_ok=True)


def fail(folder: RunFolder, message: str) -> None:
    """Leave word of why a run failed."""
    folder.path.mkdir(parents=True, exist_ok=True)
    _failure(folder).write_text(" ".join(message.split()) + "\n")


def _failure(folder: RunFolder) -> Path:
    return folder.path / "failure.txt"


def cost_of(folder: RunFolder) -> Path:
    """Return the file with what a finished run cost, beside time."""
    return folder.path / "cost.json"


def _peak(folder: RunFolder) -> int:
    file = cost_of(folder)
    return int(json.loads(file.read_text())["peak_bytes"]) if file.is_file() else 0


def best_validation(folder: RunFolder) -> float | None:
    """Return the highest recall, at the first k, on the classes set aside; None where the run has not finished."""
    if result_of(folder) is None or failure_of(folder) is not None:
        return None
    k = folder.read_config().evaluate_ks[0]
    return max(float(row[f"recall@{k}"]) for row in folder.history() if row["kind"] == "validation")


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half width of its 95% interval (Student's t); None for a single value."""
    if len(values) < 2:
        return values[0], None
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1)) * spread
