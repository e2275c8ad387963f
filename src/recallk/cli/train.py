"""`recallk demo` and `recallk train`: from a recipe and options to a finished run."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recallk.cli.console import ProgressShown, console, progress, say
from recallk.cli.options import Overrides, given, with_config_options
from recallk.cli.report import make_page
from recallk.core.errors import InputError, MissingExtraError
from recallk.core.extras import require
from recallk.runs.config import make_config
from recallk.runs.recipes import WHEN_RESUMED, find_recipe

if TYPE_CHECKING:
    from recallk.runs.history import Row
    from recallk.runs.summary import Summary
    from recallk.training.trainer import Trainer

    Training = Callable[["_TrainingShown"], Summary]

_READING = "reading the data", 0, 0


def demo(
    run: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier demo in this folder")] = False,
) -> None:
    """Train on characters in matplotlib's typefaces, without a download, in about three minutes."""
    if overwrite:
        from recallk.runs.folder import RunFolder

        RunFolder(run).clear(recipe="demo")
    _train(make_config(find_recipe("demo").values), run)


@with_config_options
def train(
    recipe: Annotated[str | None, typer.Argument(help="a shipped recipe's name, or a YAML file")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of the run  [runs/NAME]")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="continue the run in this folder, to its end or, with more --epochs, beyond")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, print the plan, train nothing")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="say why the plan chose what you left open")] = False,
    **overrides: Overrides,
) -> None:
    """Train on a folder of images (a folder per class), or on a table (path,label[,split], or text,label)."""
    if resume is not None:
        if recipe or run or dry_run or explain or given(overrides).keys() - WHEN_RESUMED:
            allowed = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(WHEN_RESUMED))
            raise InputError(f"--resume continues a run as it was configured: beside it only {allowed} may be given")
        _resume(resume, given(overrides))
        return
    config = make_config(find_recipe(recipe).values if recipe else {}, given(overrides))
    if run is None:
        from recallk.training.train import default_folder

        run = default_folder(config, recipe)
    if dry_run:
        _dry_run(config, run, explain)
    else:
        _train(config, run, explain)


def _train(config: Any, run: Path, explain: bool = False) -> None:
    from recallk.training.train import train

    def training(shown: "_TrainingShown") -> "Summary":
        shown.explain = explain
        return train(config, run, advance=shown.advance, planned=shown.planned, follow=shown.follow)

    _finish(training, run, resumed=False)


def _resume(run: Path, changes: dict[str, Any]) -> None:
    from recallk.training.train import resume

    _finish(lambda shown: resume(run, changes, planned=shown.planned, follow=shown.follow), run, resumed=True)


def _dry_run(config: Any, run: Path, explain: bool) -> None:
    import torch

    from recallk.cli import terminal
    from recallk.training.train import trainer_for

    with ProgressShown() as reading:
        reading.advance(*_READING)
        trainer = trainer_for(config, run, reading.advance)
    # what a step needs is that of the network as it is: a dry run waits for no compiler
    with torch.compiler.set_stance("force_eager") if getattr(config, "compile", False) else nullcontext():
        trainer.choose_chunk_size()
        terminal.show_plan(trainer, explain)
        terminal.show_memory(trainer)


def _finish(training: "Training", run: Path, resumed: bool) -> None:
    """Train, show how it goes and what was reached, and make the report."""
    from recallk.cli.terminal import show_result
    from recallk.runs.folder import RunFolder

    started = time.perf_counter()
    with _TrainingShown() as following, _told_how_to_go_on(run, following):
        summary = training(following)
    if console.quiet:  # one process prints; all that torchrun or srun have started make the report together
        _report(run)
        return
    if following.trainer is None:  # the first machine of several says what was reached
        return
    folder = RunFolder(run)
    show_result(summary, following.trainer.plan.data.test.searches)
    reported = _report(run)
    since = f", {_minutes(time.perf_counter() - started)} since it was resumed" if resumed else ""
    say(f"{_minutes(summary.seconds)} of training and evaluation in all{since}; the run is in {run}")
    if reported:
        say(f"look at   {folder.report}")
    where = {"images": "FOLDER IMAGE...", "texts": "TABLE TEXT..."}.get(following.trainer.config.items, "FILE ID...")
    say(f"search    recallk search {shlex.quote(str(run))} --gallery {where}")
    config = following.trainer.config
    source = shlex.quote(_from_here(config.data)) if config.dataset == "own" else "SOURCE"
    say(f"keep      recallk index {shlex.quote(str(run))} {source} -o CATALOGUE; a page: recallk serve CATALOGUE")


def _from_here(data: str) -> str:
    """Return a path as a person would type it: from the folder that they are in, where it is below."""
    here = Path.cwd()
    return str(Path(data).relative_to(here)) if Path(data).is_relative_to(here) and Path(data) != here else data


def _report(run: Path) -> bool:
    """Write the page of a run, unless its extra is missing, which is said; return whether the page is there."""
    try:
        require("report", "the report")
    except MissingExtraError as missing:
        say(f"note      {missing}")
        return False
    make_page(run)
    return True


class _TrainingShown:
    """Shows the plan of a run, and then how its training goes."""

    def __init__(self) -> None:
        self.begun = self.explain = False
        self.trainer: Trainer | None = None
        self._shown = ExitStack()
        self._done = 0

    def __enter__(self) -> "_TrainingShown":
        self.advance = self._shown.enter_context(ProgressShown()).advance
        self.advance(*_READING)
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.close()

    def planned(self, trainer: "Trainer") -> None:
        """Show the plan of what is about to train."""
        from recallk.cli.terminal import show_plan

        self._shown.close()
        self.trainer = trainer
        show_plan(trainer, self.explain)
        self._advance = self._shown.enter_context(progress("training", trainer.plan.steps, "evaluating the start"))

    def follow(self, row: "Row") -> None:
        """Show a row of the run's history, as it is written."""
        from recallk.runs.history import Measurement, Step

        self.begun = True
        assert self.trainer is not None, "it has been planned"
        config, plan = self.trainer.config, self.trainer.plan
        if isinstance(row, Step):
            self._done, speed = row.step, row.items / row.seconds
            if row.note is not None:
                say(f"note      step {row.step:,}, learning rate {row.learning_rate:g}: {row.note}")
            loss = "skipped" if row.loss is None else f"loss {row.loss:.4f}"
            note = f"epoch {row.epoch}/{plan.epochs}  {loss}  {speed:,.0f} {plan.data.train.noun}/s"
            self._advance(self._done, None, note)
        elif isinstance(row, Measurement) and row.kind == "result":
            say(f"model     of epoch {row.epoch}, {plan.how_chosen}")
        elif isinstance(row, Measurement):
            when, width = f"epoch {row.epoch}" if row.epoch else config.before, 9
            if plan.data.validation is not None:
                when, width = f"{when:<9}  {'validation' if row.kind == 'validation' else 'test'}", 21
            recalls = "  ".join(f"{100 * row.metrics[f'recall@{k}']:4.1f}" for k in config.evaluate_ks)
            ks = ",".join(map(str, config.evaluate_ks))
            say(f"{when:<{width}}  recall@{ks}  {recalls}  map@r  {100 * row.metrics['map@r']:4.1f}")
            self._advance(self._done, None, "")


@contextmanager
def _told_how_to_go_on(run: Path, following: _TrainingShown) -> Iterator[None]:
    """When an error or an interruption ends a run that has begun, say how to continue it, where that can be."""
    try:
        yield
    except BaseException as error:
        from recallk.runs.folder import RunFolder

        if (following.begun or not isinstance(error, InputError)) and RunFolder(run).config.is_file():
            say(f"continue with   recallk train --resume {shlex.quote(str(run))}")
        raise


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
