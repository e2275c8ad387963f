"""What a run reached, read from its folder: before and after, and what is to be said of it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recallk.core.errors import InputError
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, Row, Start, Step
from recallk.runs.recipes import Recipe, beside_published, differences, origin
from recallk.runs.train_config import TrainConfig

_NOTHING = Measurement("evaluation", 0, 0)
_NO_START = Start(0, "unknown", "unknown", "", "")


@dataclass(frozen=True)
class Summary:
    """A finished run: its configuration, its rows, and the metrics of the untrained network and of the chosen model."""

    config: TrainConfig
    rows: Sequence[Row]
    before: Measurement  # without metrics where its row is lost
    after: Measurement
    start: Start = field(default=_NO_START)  # the latest, where it was resumed

    @property
    def steps(self) -> list[Step]:
        """The rows of its steps."""
        return [row for row in self.rows if isinstance(row, Step)]

    @property
    def training_seconds(self) -> float:
        """How long its steps took, evaluation not counted."""
        return sum(step.seconds for step in self.steps)

    @property
    def seconds(self) -> float:
        """How long it has trained and evaluated."""
        rows = (row for row in self.rows if isinstance(row, Step | Measurement))
        return sum(row.seconds for row in rows if not (isinstance(row, Measurement) and row.kind == "result"))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that tell how the run went: recall at each k, and MAP@R, of each test set."""
        return [name for name in self.after.metrics if re.search(r"(^|\s)(recall@\d+|map@r)$", name)]

    @property
    def published(self) -> Mapping[str, float]:
        """The numbers published for its recipe, in percent by the name of a metric; none without a recipe."""
        recipe = self._recipe
        return recipe.published if recipe else {}

    @property
    def beside_published(self) -> str | None:
        """Say where the published numbers are from, and where the run differs; None where there are no numbers."""
        recipe = self._recipe
        if recipe is None or not recipe.published:
            return None
        return beside_published(recipe, [*differences(self.config), *self.start.differences])

    @property
    def warnings(self) -> list[str]:
        """Say what went otherwise than planned in training, and what of the test metrics fell or is not there."""
        return [*self._left_out, *self._fell, *self._unmeasured]

    @property
    def _unmeasured(self) -> list[str]:
        if self.after.metrics:
            return []
        if self.config.test_fraction == 0:
            return [
                "no class was kept for testing (test_fraction=0): nothing tells how well it finds classes never seen"
            ]
        return ["the test items were not measured after training (measure_after=False): recallk evaluate does it"]

    @property
    def _left_out(self) -> list[str]:
        """Say how many steps were skipped."""
        skipped = [step for step in self.steps if step.skipped]
        if not skipped:
            return []
        first = skipped[0]
        return [
            f"{len(skipped):,} of {len(self.steps):,} steps were left out, first step {first.step:,}, at learning rate "
            f"{first.learning_rate:g} ({first.note}); try a lower --learning-rate"
        ]

    @property
    def _fell(self) -> list[str]:
        """Say where the test metrics, as they are shown, are below those before training, and what to try."""
        before, after = self.before.metrics, self.after.metrics
        fell = [
            f"{name} fell from {100 * before[name]:.1f} to {100 * after[name]:.1f}"
            for name in (f"recall@{self.config.evaluate_ks[0]}", "map@r")
            if name in before and name in after and round(100 * after[name], 1) < round(100 * before[name], 1)
        ]
        if not fell:
            return []
        other = "" if "last" in (self.config.select, self.start.selection) else ", --select last"
        remedy = (
            f"try a lower --learning-rate, more steps (a smaller --batch-size, more --epochs){other}, or more classes"
        )
        return [f"worse than before training on the test classes: {' and '.join(fell)}; {remedy}"]

    @property
    def _recipe(self) -> Recipe | None:
        return origin(self.config)


def percent(metrics: Mapping[str, float], name: str) -> str:
    """Return a metric in percent; a dash where it is not there.

    >>> percent({"recall@1": 0.875}, "recall@1"), percent({}, "recall@1")
    ('87.5', '–')

    """
    return f"{100 * metrics[name]:.1f}" if name in metrics else "–"


def summary_of(folder: RunFolder) -> Summary:
    """Read the summary of a run. Raises InputError for a folder that holds none, and for a run without a result."""
    if folder.is_model_alone:
        again = f"recallk evaluate {shlex.quote(str(folder.path))} --data PATH"
        raise InputError(f"{folder.path}: a model without a run, which has no result; measure it: {again}")
    config, rows = folder.read_config(), folder.history()
    measured = [row for row in rows if isinstance(row, Measurement)]
    after = next((row for row in measured if row.kind == "result"), None)
    if after is None:
        again = shlex.quote(str(folder.path))
        raise InputError(f"{folder.path}: no result in its metrics.jsonl; finish it: recallk train --resume {again}")
    before = next((row for row in measured if row.kind == "evaluation" and row.epoch == 0), _NOTHING)
    starts = [row for row in rows if isinstance(row, Start)]
    return Summary(config, rows, before, after, starts[-1] if starts else _NO_START)
