"""From a configuration to a finished run: what `recallk train` calls."""

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.progress import Advance, silent
from recallk.core.text import brief
from recallk.data.source import is_there
from recallk.runs.config import given_keys, make_config, name_of, with_whole_path
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.runs.recipes import WHEN_RESUMED
from recallk.runs.summary import Summary, summary_of
from recallk.runs.train_config import TrainConfig
from recallk.training.launch import in_processes_of
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer

_OF_ONE_PROCESS = {"data", "workers", "host_memory_gb", "activation_memory_gb", "accelerator", "logger"}
"""Keys that processes may be given otherwise."""
Follow = Callable[[Row], None]
"""Told each step and each measurement as it is written into metrics.jsonl."""
Planned = Callable[[Trainer], None]
"""Told what is about to train, with its plan, before anything is written."""


def train(
    config: TrainConfig | Mapping[str, Any],
    run: str | os.PathLike[str] | None = None,
    *,
    advance: Advance = silent,
    planned: Planned = lambda _trainer: None,
    follow: Follow = lambda _row: None,
) -> Summary:
    """Train into the folder `run` (by default `runs/NAME`), and return what was reached.

    `recallk.load(run)` is then the model, and `recallk.report(run)` makes its page.

    `config` are the keys of `recallk train --help`, such as `{"data": "photos", "epochs": 10}`, or those of a recipe,
    `recallk.runs.recipes.find_recipe("sop-resnet50").values`, with some laid over. Raises InputError, one line, for
    whatever would not train, before anything is written; for a folder that holds something already; and where the
    training diverges.

    >>> small = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "embedding_size": 16}
    >>> summary = train({"data": "photos", **small, "epochs": 1, "workers": 0}, "runs/photos")
    >>> summary.metrics
    ['recall@1', 'recall@2', 'recall@4', 'recall@8', 'map@r']
    >>> 0 < summary.after.metrics["recall@1"] <= 1
    True

    """
    checked = config if isinstance(config, TrainConfig) else make_config(given_keys(config))
    folder = RunFolder(default_folder(checked) if run is None else user_path(run)).path
    task = {"config": checked.model_dump(mode="json"), "run": str(folder.absolute()), "resumed": False}
    with in_processes_of(checked, task):
        processes.from_first(partial(_require_data, checked))  # before a run of that name is told of
        processes.from_first(RunFolder(folder).require_free)
        with processes.failing_together():
            trainer = trainer_for(checked, folder, advance)
        _require_alike(trainer)
        return _trained(trainer, planned, follow, resumed=False)


def resume(
    run: str | os.PathLike[str],
    changes: Mapping[str, Any] | None = None,
    *,
    planned: Planned = lambda _trainer: None,
    follow: Follow = lambda _row: None,
) -> Summary:
    """Go on with the run in a folder to the end that it would have had, or, with more `epochs`, beyond.

    `changes` may also say where the data is by now, and how fast the run goes (`runs.recipes.WHEN_RESUMED`).

    >>> resume("runs/letters", {"epochs": 2}).after.epoch
    2

    """
    config = config_to_resume(run, changes)
    written = config.model_dump(mode="json")
    changed = {key: written[key] for key in given_keys(changes or {})}
    task = {"run": str(user_path(run).absolute()), "changes": changed, "resumed": True}
    with in_processes_of(config, task):
        with processes.failing_together():
            trainer = trainer_to_resume(run, changes)
        _require_alike(trainer)
        return _trained(trainer, planned, follow, resumed=True)


def trainer_for(config: TrainConfig, run: str | os.PathLike[str], advance: Advance = silent) -> Trainer:
    """Return what trains a new run; nothing is written yet. Raises as `train`."""
    return Trainer(prepare(with_whole_path(config), None, advance), RunFolder(user_path(run)))


def trainer_to_resume(run: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Trainer:
    """Return what goes on with a run. Raises InputError for changes that would make another run of it."""
    folder, config = RunFolder(user_path(run)), config_to_resume(run, changes)
    moved = "data" in given_keys(changes or {})
    return Trainer(prepare(with_whole_path(config) if moved else config, folder.read_split()), folder)


def config_to_resume(run: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return the configuration with which a run goes on. Raises as `trainer_to_resume`."""
    folder, given = RunFolder(user_path(run)), given_keys({} if changes is None else changes)
    if other := sorted(given.keys() - WHEN_RESUMED):
        raise InputError(f"{other[0]}: a run is resumed as it was configured; only {_in_words()} may be given")
    return make_config(folder.read_config().model_dump(), given)


def _require_data(config: TrainConfig) -> None:
    """Raise InputError where nothing is at the path of own data."""
    if config.dataset == "own" and not is_there(config.data):
        raise InputError(f"{config.data}: no such folder, and no such file")


def default_folder(config: TrainConfig, recipe: str | None = None) -> Path:
    """Return the folder of a run that was not given one: after its recipe, or its data."""
    return Path("runs") / name_of(config, recipe)


def _trained(trainer: Trainer, planned: Planned, follow: Follow, resumed: bool) -> Summary:
    """Train in all processes; the first one is asked for the plan and the rows."""
    trainer.choose_chunk_size()
    if processes.is_first():
        planned(trainer)
    for row in trainer.rows(resume=resumed):
        if processes.is_first():
            follow(row)
    return processes.from_first(lambda: summary_of(trainer.folder))


def _require_alike(trainer: Trainer) -> None:
    """Raise InputError where processes that were started one by one were given other settings, or find other data."""
    if processes.is_alone():
        return
    config = trainer.config.model_dump(mode="json", exclude=_OF_ONE_PROCESS)
    data = hashlib.blake2b(trainer.plan.data.split.in_words().encode()).hexdigest()
    told = processes.of_each((config, data))
    for process, (settings, found) in enumerate(told):
        if differing := sorted(key for key in config if settings[key] != told[0][0][key]):
            key = differing[0]
            values = f"{brief(settings[key])}, and process 0 {brief(told[0][0][key])}"
            raise processes.SharedError(f"process {process} was given {key}={values}: give all the same")
        if found != told[0][1]:
            raise processes.SharedError(f"process {process} finds other data than process 0: let all read the same")


def _in_words() -> str:
    return ", ".join(sorted(WHEN_RESUMED))
