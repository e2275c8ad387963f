"""What is known of one run of a comparison, from its folder alone: its result, what it took, and why it failed."""

import json
from collections.abc import Sequence

from recallk.core.errors import InputError
from recallk.core.files import make_folder, read_file, write_text, writing
from recallk.core.text import shown
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, Step, columns

REMEDY = "remove that run's folder, and the same command runs it again"


def steps_of(run: RunFolder) -> list[Step]:
    """Return the steps of a run. Raises InputError where its metrics.jsonl cannot be read."""
    return [row for row in run.history() if isinstance(row, Step)]


def result_of(run: RunFolder) -> Measurement | None:
    """Return the result of a finished run; None where it has not finished."""
    return next((row for row in run.history() if isinstance(row, Measurement) and row.kind == "result"), None)


def best_validation(run: RunFolder) -> float | None:
    """Return the highest MAP@R, by which epochs are chosen too, on validation classes; None for an unfinished run."""
    if result_of(run) is None or failure_of(run) is not None:
        return None
    return max(columns(run.history(), "validation", "map@r")[0], default=None)


def seconds_of(steps: Sequence[Step]) -> float:
    """Return how long steps took."""
    return sum(step.seconds for step in steps)


def peak_of(run: RunFolder) -> int:
    """Return the most memory that a run took, in bytes; 0 where that is unknown.

    Raises InputError for a damaged file.
    """
    if not run.cost.is_file():
        return 0
    return read_file(run.cost, lambda file: int(json.loads(file.read_text())["peak_bytes"]), "a cost", REMEDY)


def write_cost(run: RunFolder, peak_bytes: int) -> None:
    """Write the most memory that a run took. Raises InputError where that cannot be."""
    write_text(run.cost, json.dumps({"peak_bytes": peak_bytes}))


def failure_of(run: RunFolder) -> str | None:
    """Return why a run failed, in one line; None where it did not."""
    if not run.failure.is_file():
        return None
    try:
        text = read_file(
            run.failure, lambda file: file.read_text(encoding="utf-8", errors="backslashreplace"), "text", REMEDY
        )
    except InputError as error:
        text = str(error)
    return shown(" ".join(text.split())) or "failed, and the reason is lost"


def write_failure(run: RunFolder, reason: str) -> None:
    """Write why a run failed, as one line. Raises InputError where that cannot be."""
    make_folder(run.path)
    write_text(run.failure, shown(" ".join(reason.split())) + "\n")


def remove_failure(run: RunFolder) -> None:
    """Let a run be tried again."""
    with writing(run.failure):
        run.failure.unlink(missing_ok=True)
