"""What the runs of a comparison reached, read from their folders alone: `FOLDER/CONTENDER/{rate-..., seed-...}`."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.errors import InputError
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
    peaks: Sequence[int]  # bytes of the whole process, 0 where unknown
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
    def at_the_edge(self) -> bool:
        """Whether the best rate was the lowest or highest that was tried: a further one may be better still."""
        return self.rate is not None and len(self.rates) > 2 and self.rate in (self.rates[0], self.rates[-1])


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
    return sorted(found, key=lambda outcome: -statistics.mean(outcome.recall) if outcome.results else math.inf)


def _outcome(path: Path) -> Outcome:
    runs = [RunFolder(run) for run in sorted(path.iterdir()) if run.is_dir()]
    measured = [run for run in runs if run.path.name.startswith("seed-") and result_of(run) is not None]
    steps = [[row for row in run.history() if row["kind"] == "step"] for run in measured]
    return Outcome(
        path.name,
        measured[0].read_config().learning_rate if measured else None,
        sorted({float(run.path.name[5:].rpartition("-")[0]) for run in runs if run.path.name.startswith("rate-")}),
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
    """Return why a run failed, in one line; None where it did not. Remove its folder to have it run again."""
    path = folder.path / "failure.txt"
    return path.read_text().strip() if path.is_file() else None


def fail(folder: RunFolder, message: str) -> None:
    """Leave word of why a run failed."""
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "failure.txt").write_text(" ".join(message.split()) + "\n")


def cost_of(folder: RunFolder) -> Path:
    """Return the file with what a run cost, beside time."""
    return folder.path / "cost.json"


def _peak(folder: RunFolder) -> int:
    file = cost_of(folder)
    return int(json.loads(file.read_text())["peak_bytes"]) if file.is_file() else 0


def best_validation(folder: RunFolder) -> float | None:
    """Return the highest recall, at the first k, on the classes set aside; None where the run has not finished."""
    if result_of(folder) is None or failure_of(folder) is not None:
        return None
    k = folder.read_config().evaluate_ks[0]
    found = [float(row[f"recall@{k}"]) for row in folder.history() if row["kind"] == "validation"]
    if not found:
        raise InputError(
            f"{folder.path}: too few training classes to choose a learning rate on validation classes; "
            "give a single one (--rates 1)"
        )
    return max(found)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half width of its 95% interval (Student's t); None for a single value."""
    if len(values) < 2:
        return values[0], None
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1)) * spread
