"""`recallk demo` and `recallk train`: from a recipe and options to a finished run."""

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recallk.cli.console import console, progress, say
from recallk.cli.options import Overrides, given, name_of, with_config_options, with_whole_path
from recallk.core.errors import InputError
from recallk.runs.config import TrainConfig, make_config
from recallk.runs.recipes import find

if TYPE_CHECKING:
    from recallk.runs.folder import RunFolder
    from recallk.runs.history import Row
    from recallk.training.trainer import Trainer

WHEN_RESUMED = frozenset({"epochs", "data", "workers", "host_memory_gb", "accelerator"})
"""Keys that may change when a run is continued: how long it is, and where and how fast it goes."""


def demo(
    run: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier demo in this folder")] = False,
) -> None:
    """Train on characters in matplotlib's typefaces, without a download, in about three minutes."""
    config = make_config(find("demo").values)
    if overwrite:
        from recallk.runs.folder import RunFolder

        RunFolder(run).clear(recipe="demo")
    _train(config, run)


@with_config_options
def train(
    recipe: Annotated[str | None, typer.Argument(help="a shipped recipe's name, or a YAML file")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of the run  [runs/NAME]")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="continue the run in this folder, to its end or, with more --epochs, beyond")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, print the plan, train nothing")] = False,
    **overrides: Overrides,
) -> None:
    """Train on a folder of images (a folder per class), or on a CSV or Parquet table (path,label[,split])."""
    if resume is not None:
        if recipe or run or dry_run or given(overrides).keys() - WHEN_RESUMED:
            allowed = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(WHEN_RESUMED))
            raise InputError(f"--resume continues a run as it was configured: beside it only {allowed} may be given")
        from recallk.runs.folder import RunFolder

        there = RunFolder(resume).read_config()
        changed = make_config(there.model_dump(), given(overrides))
        _train(with_whole_path(changed) if "data" in given(overrides) else changed, resume, resume=True)
        return
    config = with_whole_path(make_config(find(recipe).values if recipe else {}, given(overrides)))
    _train(config, run or Path("runs") / name_of(recipe, config), dry_run=dry_run)


def _train(config: TrainConfig, run: Path, resume: bool = False, dry_run: bool = False) -> None:
    from recallk.runs.folder import RunFolder

    folder = RunFolder(run)
    if not resume and not dry_run and folder.taken:
        raise InputError(f"{run}: exists already; continue it with --resume {_typed(run)}, or choose another --run")
    with console.status("reading the data"):
        from recallk.cli import terminal
        from recallk.training.plan import prepare
        from recallk.training.trainer import Trainer

        trainer = Trainer(prepare(config, folder.read_split() if resume else None), folder)
    terminal.show_plan(console, trainer)
    if dry_run:
        terminal.show_memory(console, trainer)
        return
    started = time.perf_counter()
    _follow(trainer, resume)
    terminal.show_result(console, trainer)
    with console.status("writing the report"):
        from recallk.reporting.run import report_run

        report_run(trainer)
    since = f", {_minutes(time.perf_counter() - started)} since it was resumed" if resume else ""
    say(f"{_minutes(_seconds(folder))} of training and evaluation in all{since}; the run is in {run}")
    say(f"look at   {run / 'report.html'}")
    say(f"search    recallk search {_typed(run)} --gallery FOLDER IMAGE...")


def _follow(trainer: "Trainer", resume: bool) -> None:
    """Train, and show how it goes."""
    config = trainer.config
    start = "untrained" if config.weights == "none" else "start"
    width = 9 if trainer.plan.validation is None else 21
    with progress("training", trainer.plan.steps, "evaluating the start") as advance:
        done = 0
        for row in _told_how_to_go_on(trainer.rows(resume=resume), trainer.folder):
            if row["kind"] == "step":
                done, rate = row["step"], row["images"] / row["seconds"]
                note = f"epoch {row['epoch']}/{config.epochs}  loss {row['loss']:.4f}  {rate:,.0f} images/s"
                advance(done, None, note)
            elif row["kind"] == "result":
                say(f"kept      epoch {row['epoch']}, {trainer.plan.how_chosen}")
            else:
                when = f"epoch {row['epoch']}" if row["epoch"] else start
                if trainer.plan.validation is not None:
                    when = f"{when:<9}  {'validation' if row['kind'] == 'validation' else 'test'}"
                recalls = "  ".join(f"{100 * row[f'recall@{k}']:4.1f}" for k in config.evaluate_ks)
                ks = ",".join(map(str, config.evaluate_ks))
                line = f"{when:<{width}}  recall@{ks}  {recalls}  map@r  {100 * row['map@r']:4.1f}"
                say(line)
                advance(done, None, "")


def _told_how_to_go_on(rows: "Iterator[Row]", folder: "RunFolder") -> "Iterator[Row]":
    """Whatever ends a run that has begun, say how it is continued, where it can be."""
    begun = False
    try:
        for row in rows:
            begun = True
            yield row
    except BaseException as error:
        if (begun or not isinstance(error, InputError)) and folder.config.is_file():
            say(f"continue with   recallk train --resume {_typed(folder.path)}")
        raise


def _seconds(folder: "RunFolder") -> float:
    """Return how long a run has trained and evaluated."""
    return float(sum(row.get("seconds", 0) for row in folder.history() if row["kind"] != "result"))


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _typed(path: Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))
