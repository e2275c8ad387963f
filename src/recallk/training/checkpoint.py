"""The checkpoint of a run: written by the first process, read by all, and refused where the run cannot stand there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.core.text import shown
from recallk.models.made_by import are_alike, origin
from recallk.runs.folder import RunFolder
from recallk.runs.recipes import unlike
from recallk.runs.train_config import TrainConfig
from recallk.training.plan import Plan
from recallk.training.state import (
    REMEDY,
    State,
    load_state,
    optimizer_state,
    restore_module,
    restore_optimizer,
    restore_scaler,
    save_state,
)


@dataclass(frozen=True)
class Position:
    """Where a run stands: in an epoch, from 1, of which so many batches are done; its evaluation is not."""

    epoch: int
    batches: int


@dataclass(frozen=True)
class Standing:
    """What a checkpoint holds beside states: the position, the best epoch so far, and how batches are cut by now."""

    position: Position
    best: tuple[int, float] | None
    """The chosen epoch, and what it was chosen by."""
    chunk_size: int


class Checkpoint:
    """The states of network, optimiser, precision and loss (what it learns or remembers), in a run's folder.

    No random state: what is drawn follows from the seed, the epoch, the step and the chunk.
    """

    def __init__(
        self, folder: RunFolder, embedder: nn.Module, loss: nn.Module, optimizer: Optimizer, scaler: GradScaler | None
    ) -> None:
        self._folder, self._path, self._optimizer, self._scaler = folder, folder.checkpoint, optimizer, scaler
        self._embedder, self._loss = embedder, loss

    def save(self, standing: Standing, config: TrainConfig) -> None:
        """Write it; all processes call this. Raises InputError where that cannot be; the one before is then whole."""
        with processes.failing_together():
            if processes.is_first():
                state: State = {name: module.state_dict() for name, module in self._modules().items()}
                state |= {
                    "optimizer": optimizer_state(self._optimizer),
                    "scaler": self._scaler and self._scaler.state_dict(),
                    "epoch": standing.position.epoch,
                    "batches": standing.position.batches,
                    "best": standing.best,
                    "chunks": (config.chunk_size, standing.chunk_size),
                    "made_by": origin(self._embedder),
                }
                save_state(state, self._path)

    def load(self, plan: Plan) -> Standing | None:
        """Go back to it, in all processes; None where there is none yet.

        Raises InputError for one that is damaged, or at which the plan's run cannot stand.
        """
        if not processes.of_first(self._folder.has_checkpoint):
            return None
        found: Standing | None = None
        with processes.failing_together():
            found = self._load(plan)
        return found  # noqa: RET504 (mypy takes a context for one that may swallow errors)

    def _load(self, plan: Plan) -> Standing:
        path, config = self._path, plan.config
        state = load_state(path)
        for name, module in self._modules().items():
            restore_module(module, state.get(name), name, path)
        restore_optimizer(self._optimizer, state["optimizer"], path)
        restore_scaler(self._scaler, state.get("scaler"), path)
        if "made_by" in state and not are_alike(state["made_by"], origin(self._embedder)):  # earlier ones do not say
            told = "other vectors than the run was trained on so far (what made them differs)"
            raise InputError(f"{shown(str(config.data))}: {told}; put those back, or start a new run")
        position, best = Position(state["epoch"], state["batches"]), state["best"]
        chunk_size = _chunk_size(state.get("chunks"), config.chunk_size, path)
        begun = position.epoch if position.batches else position.epoch - 1
        if begun > plan.epochs:
            raise InputError(f"epochs={plan.epochs}: {begun} are done already; give {begun} or more")
        self._check(position, best, plan)
        return Standing(position, best, chunk_size)

    def _check(self, position: Position, best: tuple[int, float] | None, plan: Plan) -> None:
        """Raise InputError where the run cannot stand there, or what it had chosen by then is gone."""
        path, done = self._path, position.epoch - 1
        if position.batches > (batches := plan.steps_until(position.epoch) - plan.steps_until(done)):
            raise InputError(
                f"{path}: {position.batches} batches of epoch {position.epoch} are done, which has {batches}; {REMEDY}"
            )
        if best is None:
            chosen = not any(map(plan.evaluates_after, range(1, done + 1)))  # none had to be
        else:
            needed = plan.selection != "last" or done == plan.epochs
            chosen = 1 <= best[0] <= done and (not needed or os.path.lexists(self._folder.best(best[0])))
        if not chosen:
            raise InputError(f"{path}: the model of the epoch that was the best is not there; {REMEDY}")

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self._embedder} | ({"loss": self._loss} if self._loss.state_dict() else {})


def begin_again(folder: RunFolder, plan: Plan) -> None:
    """Check that the run in the folder is that of the plan; where it has no checkpoint yet, begin it anew."""
    if not folder.config.is_file():
        raise InputError(f"{folder.path}: no checkpoint and no config.yaml to resume from; is it a run's folder?")
    there, recorded = folder.read_config(), folder.read_split()
    if changed := unlike(plan.config, there, besides=["epochs"]):
        raise InputError(f"{folder.path}: resumed with {'; '.join(changed)}: leave it as it was")
    if recorded is not None and recorded != plan.data.split:
        raise InputError(f"{folder.path}: the data has changed since the run began: it must be read as split then")
    if not folder.has_checkpoint:
        folder.begin(plan.config, plan.data.split)
    elif recorded is None:
        raise InputError(f"{folder.path}: no split.json, and so no telling what to train on; start the run anew")


def _chunk_size(recorded: Any, configured: int | Literal["auto"], path: Path) -> int:
    """Return the size of chunks that the run had come to, unless another one is configured by now."""
    match recorded:
        case (int(given), int(size)) if 0 < size <= given:
            return configured if isinstance(configured, int) and given != configured else size
        case _:
            raise InputError(f"{path}: it does not say how the batches were cut; {REMEDY}")
