"""TensorBoard and Weights & Biases: where a run's rows go besides metrics.jsonl, which has them all."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal, Protocol

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.files import writing
from recallk.core.text import one_line
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row, Start, Step
from recallk.runs.train_config import TrainConfig


class _Sink(Protocol):
    """Takes the numbers of rows, in their order."""

    def add(self, numbers: Mapping[str, float], step: int) -> None: ...

    def close(self, *, finished: bool) -> None: ...


class Logger:
    """Follows the rows that a run writes, from its first one on.

    It opens with the first row that this process writes, and gives what metrics.jsonl holds by then: after an
    interruption, the rows that count, and not those that the run has gone back behind. Used as a context, it closes at
    the end.
    """

    def __init__(self, open_sink: Callable[[], _Sink] | None, folder: RunFolder) -> None:
        self._open_sink, self._folder = open_sink, folder
        self._sink: _Sink | None = None

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._sink is not None:
            self._sink.close(finished=kind is None)
            self._sink = None

    def follow(self, row: Row) -> None:
        """Take a row that metrics.jsonl has just been given. Raises InputError where it cannot be written."""
        if self._open_sink is None:
            return
        rows = [row]
        if self._sink is None:
            self._sink, rows = self._open_sink(), self._folder.history()
        for each in rows:
            if not isinstance(each, Start):
                self._sink.add(numbers_of(each), each.step)


def logger_of(config: TrainConfig, folder: RunFolder) -> Logger:
    """Return the logger of a run; nothing is opened yet. Raises MissingExtraError where its package is missing."""
    if config.logger == "none":
        return Logger(None, folder)
    extra: Literal["tensorboard", "wandb"] = config.logger
    require(extra, f"logger={extra}")
    sinks: dict[str, Callable[[TrainConfig, RunFolder], _Sink]]
    sinks = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases}
    return Logger(lambda: sinks[extra](config, folder), folder)


def numbers_of(row: Row) -> dict[str, float]:
    """Return the numbers of a row by "KIND/NAME", its step left out.

    >>> numbers_of(Step(epoch=1, step=7, loss=0.5, learning_rate=0.1, items=8, seconds=2.0))["step/loss"]
    0.5

    """
    match row:
        case Start():
            return {}
        case Step():
            kind, named = "step", asdict(row)
        case _:
            kind, named = row.kind, {**row.metrics, "epoch": row.epoch, "seconds": row.seconds}
    return {
        f"{kind}/{name}": value for name, value in named.items() if name != "step" and isinstance(value, int | float)
    }


class _TensorBoard:
    """Writes event files into the run's folder; those of an earlier start are replaced, as the rows are given again."""

    def __init__(self, config: TrainConfig, folder: RunFolder) -> None:  # noqa: ARG002 (the folder holds it)
        from torch.utils.tensorboard.writer import SummaryWriter

        self._folder = folder.tensorboard
        folder.forget_events()
        with writing(self._folder):
            self._writer: Any = SummaryWriter(self._folder)

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        with writing(self._folder):
            for name, number in numbers.items():
                self._writer.add_scalar(name, number, step)
            self._writer.flush()

    def close(self, *, finished: bool) -> None:  # noqa: ARG002 (event files do not say)
        self._writer.close()


class _WeightsAndBiases:
    """Gives a run of Weights & Biases, a new one at every start, the numbers; what it prints is not sent.

    Its own settings count (WANDB_MODE, WANDB_DIR, WANDB_PROJECT, ...). Whoever is not logged in is not asked: the run
    stays on the disk then, and `wandb sync` sends it.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder) -> None:
        import wandb

        try:
            given = wandb.setup().settings
            unknown = given.mode == "online" and not wandb.login(prompt=False, verify=False)
            self._run: Any = wandb.init(
                project=given.project or "recallk",
                name=given.run_name or folder.path.absolute().name,
                config=config.model_dump(mode="json"),
                mode="offline" if unknown else given.mode,
                reinit="create_new",
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise InputError(f"logger=wandb: {one_line(error)}; WANDB_MODE=offline keeps the run on the disk") from None
        self._run.define_metric("*", step_metric="step")

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log({**numbers, "step": step})

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=int(not finished))
