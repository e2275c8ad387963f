"""A run's folder: what is in it, and how it is written so that an interruption leaves nothing half-done."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.files import write_file
from recallk.training.config import TrainConfig, make_config, read_config, to_yaml

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """`config.yaml`, `metrics.jsonl`, `checkpoint/`, `model.safetensors`, `report.html`."""

    path: Path

    @property
    def config(self) -> Path:
        """Everything needed to repeat the run."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """A line of JSON for each step and each evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state after the latest finished epoch."""
        return self.path / "checkpoint" / "latest.ckpt"

    def best(self, epoch: int) -> Path:
        """Return where the weights of a chosen epoch are kept."""
        return self.path / "checkpoint" / f"best-{epoch}.safetensors"

    def forget_best_but(self, epoch: int) -> None:
        """Remove the weights of epochs that were chosen before, once the checkpoint knows of a better one."""
        for path in self.checkpoint.parent.glob("best-*.safetensors"):
            if path != self.best(epoch):
                path.unlink()

    @property
    def model(self) -> Path:
        """The trained embedder's weights."""
        return self.path / "model.safetensors"

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.path / "report.html"

    def create(self, config: TrainConfig) -> None:
        """Begin a new run. Raises InputError where the folder is taken."""
        if self.path.exists() and any(self.path.iterdir()):
            raise InputError(f"{self.path}: exists already; continue it with --resume, or choose another --run")
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(to_yaml(config))
        self.metrics.touch()

    def remove_unless_started(self) -> None:
        """Remove a run that failed before its first checkpoint: there is nothing in it to come back to."""
        if not self.checkpoint.exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def read_config(self) -> TrainConfig:
        """Return the run's configuration. Raises InputError where there is none."""
        if not self.config.is_file():
            raise InputError(f"{self.path}: no config.yaml in this folder; is it the folder of a run?")
        return make_config(read_config(self.config))

    def history(self) -> list[Row]:
        """Return the rows of metrics.jsonl."""
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]

    def append(self, row: Row) -> None:
        """Add a row to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, epoch: int) -> None:
        """Drop the rows of epochs that were begun after the checkpoint of `epoch`, and of the run's end."""
        rows = [row for row in self.history() if row["epoch"] <= epoch and row["kind"] != "result"]
        write_file(self.metrics, lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows)))
