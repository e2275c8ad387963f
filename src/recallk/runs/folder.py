"""A run's folder: what is in it, and how it is written so that an interruption leaves nothing half-done."""

import csv
import io
import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recallk.core.errors import InputError
from recallk.core.files import UNFINISHED, UNFINISHED_NAME, make_folder, write_text, writing
from recallk.core.lock import locked
from recallk.core.text import shown
from recallk.data.split import Split, load_split, save_split
from recallk.models import files as model_files
from recallk.models.settings import with_earlier_meaning
from recallk.runs.config import make_config, read_config, to_yaml
from recallk.runs.history import Measurement, Row, Start, Step, append_row, read_rows, write_rows
from recallk.runs.train_config import TrainConfig

_ANOTHER = "choose another folder (--run)"
_LOCK, _CHECKPOINTS, _DESCRIPTORS, _EVENTS = ".lock", "checkpoint", "descriptors", "tensorboard"
_FILES = r"config\.yaml|split\.json|skipped\.csv|metrics\.jsonl|report\.html|failure\.txt|cost\.json|" + re.escape(
    model_files.EARLIER_WEIGHTS
)
_INSIDE = {
    _CHECKPOINTS: r"latest\.ckpt|best-\d+\.safetensors",
    model_files.FOLDER: "|".join(map(re.escape, (model_files.SETTINGS, model_files.WEIGHTS, model_files.WHITENING))),
    _DESCRIPTORS: r"[\w.-]+\.(npy|json)",
    _EVENTS: r"events\.out\.tfevents\..+",
}
"""The folders in a run's, and the files in them."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of `config.yaml`, `split.json`, `metrics.jsonl`, `checkpoint/`, `model/`, `report.html`, and others.

    Every file is there as a whole or not at all, but for `metrics.jsonl` and event files, whose readers pass over what
    was cut, and descriptors, which say how many of them there are. Whatever cannot be read or written is InputError, in
    one line.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Everything needed to repeat the run; where it is, a run has begun."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """Which items are trained on, set aside and tested on."""
        return self.path / "split.json"

    @property
    def skipped(self) -> Path:
        """The files that were left out since they could not be read, with the reasons: what the split says of them."""
        return self.path / "skipped.csv"

    @property
    def metrics(self) -> Path:
        """A line of JSON for each step and each evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state after the latest epoch, or some minutes of one."""
        return self.path / _CHECKPOINTS / "latest.ckpt"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one, damaged or not; a run without one begins anew when it is resumed."""
        return os.path.lexists(self.checkpoint)

    def best(self, epoch: int) -> Path:
        """Return the file with the weights of a chosen epoch."""
        return self.path / _CHECKPOINTS / f"best-{epoch}.safetensors"

    def forget_best_but(self, epoch: int) -> None:
        """Remove the weights of epochs that were chosen before, once the checkpoint knows of a better one."""
        chosen = self.best(epoch)
        _unlink([path for path in self.checkpoint.parent.glob("best-*.safetensors") if path != chosen])

    @property
    def model(self) -> Path:
        """The trained embedder, a folder of its own: `models.saved`."""
        return self.path / model_files.FOLDER

    @property
    def is_model_alone(self) -> bool:
        """Whether it is the folder of a model that has no run: of `recallk compose`."""
        return os.path.lexists(self.path / model_files.SETTINGS) and not os.path.lexists(self.config)

    def descriptors(self, name: str) -> Path:
        """Return the file of the descriptors of a gallery, or of distractors: `runs.descriptors`."""
        return self.path / _DESCRIPTORS / f"{name}.npy"

    @property
    def tensorboard(self) -> Path:
        """The folder of the event files that TensorBoard reads: `training.loggers`."""
        return self.path / _EVENTS

    def forget_events(self) -> None:
        """Remove the event files of an earlier start."""
        _unlink(list(self.tensorboard.glob("events.out.tfevents.*")))

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.path / "report.html"

    @property
    def failure(self) -> Path:
        """Why the run failed, where a comparison ran it."""
        return self.path / "failure.txt"

    @property
    def cost(self) -> Path:
        """What the run took beside time, where a comparison ran it."""
        return self.path / "cost.json"

    @property
    def taken(self) -> bool:
        """Whether something is there already; half-written files of a run that was killed as it began do not count."""
        if not os.path.isdir(self.path):  # noqa: PTH112 (pathlib's raises where a name is too long)
            return os.path.lexists(self.path)
        own, others = self._sorted()
        return bool(others) or any(not path.name.endswith(UNFINISHED) for path in own)

    def require_free(self) -> None:
        """Raise InputError where the folder is taken."""
        if self.taken:
            again = shlex.quote(str(self.path))
            raise InputError(
                f"{self.path}: exists already; continue it with --resume {again}, or choose another folder (--run)"
            )

    def create(self, config: TrainConfig, split: Split) -> None:
        """Begin a new run. Raises InputError where the folder is taken."""
        self.require_free()
        self.begin(config, split)

    def begin(self, config: TrainConfig, split: Split) -> None:
        """Write the files that a run begins with; those of an earlier start without a checkpoint are replaced."""
        make_folder(self.checkpoint.parent)
        self.write_config(config)  # the first: from here on there is a run that can be continued
        save_split(split, self.split)
        if split.skipped:
            self._write_skipped(split)
        write_rows(self.metrics, [])

    def _write_skipped(self, split: Split) -> None:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("path", "reason"), *split.skipped.items()])
        write_text(self.skipped, table.getvalue())

    def clear(self, recipe: str | None = None) -> None:
        """Remove a run, and its folder: the files that a run writes, and never what a link leads to.

        Raises InputError, with nothing removed, where the folder holds anything else, is in use, or, with `recipe`, is
        not of a run that began from this recipe.
        """
        if not os.path.lexists(self.path):
            return
        if self.path.is_symlink() or not self.path.is_dir():
            raise InputError(f"{self.path}: not the folder of a run, and left as it is; {_ANOTHER}")
        with locked(self.path):
            own, others = self._sorted()
            if others:
                raise InputError(
                    f"{self.path}: holds {shown(others[0].name)}, which is no run's; move it, or {_ANOTHER}"
                )
            if recipe is not None and own and self.read_config().recipe != recipe:
                raise InputError(f"{self.path}: holds a run of another recipe than {recipe}; {_ANOTHER}")
            self._remove(own)
        self.remove_if_empty()

    def remove_unfinished(self) -> None:
        """Remove the files that an earlier process, which was killed, has left half-written."""
        self._remove([path for path in self._sorted()[0] if path.name.endswith(UNFINISHED)])

    def remove_unless_started(self) -> None:
        """Remove the files of a run that failed before its first checkpoint: there is nothing to come back to."""
        if not self.has_checkpoint:
            with suppress(InputError):  # what went wrong before is what is told
                self._remove(self._sorted()[0])

    def remove_if_empty(self) -> None:
        """Remove the folder where nothing is in it."""
        with suppress(OSError):
            self.path.rmdir()

    def read_config(self) -> TrainConfig:
        """Return the run's configuration. Raises InputError where there is none."""
        if not os.path.lexists(self.config):
            raise InputError(f"{self.path}: no config.yaml in this folder; is it the folder of a run?")
        values = with_earlier_meaning(read_config(self.config))
        try:
            return make_config(values)
        except InputError as error:
            raise InputError(f"{self.config}: {error}") from None

    def config_for(self, data: str | None) -> TrainConfig:
        """Return the run's configuration, or the defaults for given data, of a model alone: `recallk compose`.

        Raises InputError where there is neither, and of a model without data.
        """
        if not self.is_model_alone:
            return self.read_config()
        if data is None:
            raise InputError(f"{self.path}: a model without a run, which has no data of its own: give --data")
        # nobody asks what would be built or trained, and of texts it would be looked up on the hub
        return make_config({"data": data, "embedding_size": 1, "learning_rate": 1.0})

    def write_config(self, config: TrainConfig) -> None:
        """Write the run's configuration."""
        write_text(self.config, to_yaml(config))

    def read_split(self) -> Split | None:
        """Return the split that the run was made with; None for a run of an earlier version, which wrote none.

        Raises InputError where it is damaged.
        """
        return load_split(self.split) if os.path.lexists(self.split) else None

    def history(self) -> list[Row]:
        """Return the rows of metrics.jsonl; lines that were cut or damaged are passed over."""
        return read_rows(self.metrics)

    def append(self, row: Row) -> None:
        """Add a row to metrics.jsonl."""
        append_row(self.metrics, row)

    def forget_after(self, epoch: int, step: int) -> None:
        """Drop the rows of what came after a checkpoint: steps after `step`, measurements after `epoch`, the result."""
        write_rows(self.metrics, [row for row in self.history() if _stays(row, epoch, step)])

    def _sorted(self) -> tuple[list[Path], list[Path]]:
        """Return what is in the folder: a run's own files (its checkpoints among them), and everything else."""
        own, others = list[Path](), list[Path]()

        def sort(folder: Path, names: str) -> None:
            for entry in os.scandir(folder):
                mine = re.fullmatch(f"({names})({UNFINISHED_NAME})?", entry.name)
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and folder == self.path and entry.name in _INSIDE:
                    sort(Path(entry.path), _INSIDE[entry.name])
                elif entry.name != _LOCK:
                    (own if mine and not is_folder else others).append(Path(entry.path))

        with writing(self.path):
            sort(self.path, _FILES)
        return own, others

    def _remove(self, files: list[Path]) -> None:
        _unlink(files)
        for folder in (self.path / name for name in _INSIDE):
            if not folder.is_symlink():
                with suppress(OSError):
                    folder.rmdir()


def _stays(row: Row, epoch: int, step: int) -> bool:
    match row:
        case Step():
            return row.step <= step
        case Measurement():
            return row.epoch <= epoch and row.kind != "result"
        case Start():
            return row.epoch <= epoch


def _unlink(files: list[Path]) -> None:
    for path in files:
        with writing(path):
            path.unlink(missing_ok=True)
