"""`recallk compare`: losses, or values of a setting, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recallk.cli.console import console, say
from recallk.cli.options import Overrides, given, numbers, typed_options, with_config_options
from recallk.comparison.contenders import MIXUP, ablations
from recallk.core.errors import InputError
from recallk.losses.registry import OURS
from recallk.runs.config import make_config
from recallk.runs.recipes import find_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recallk.comparison.compare import Progress


@with_config_options
def compare(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="a shipped recipe's name, or a YAML file")] = None,
    losses: Annotated[
        str | None, typer.Option(help=f"losses by name, with commas between; {OURS}{MIXUP} is ours with mixup")
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="or values of a setting: batch_size=64,256,1024")] = None,
    ablation: Annotated[
        str | None, typer.Option(help=f"or an ablation: {', '.join(ablations())}, or a YAML file of contenders")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each that count")] = 3,
    rates: Annotated[
        str, typer.Option(help="multiples of the learning rate that are tried for each, on validation classes")
    ] = "0.3,1,3",
    searches: Annotated[int, typer.Option(min=1, help="runs of each of these rates, where one tells too little")] = 1,
    budget: Annotated[
        str, typer.Option(help="the same for each: items (as many as in the recipe's epochs), or minutes, as 5min")
    ] = "items",
    at_once: Annotated[int, typer.Option(min=1, help="runs at a time; they share the processor's cores")] = 1,
    run: Annotated[
        Path | None,
        typer.Option(help="folder of the comparison; what is finished there is not run again  [runs/compare-...]"),
    ] = None,
    finished: Annotated[
        list[Path] | None,
        typer.Option("--from", help="only make the table and page of this folder; several: given again, into --run"),
    ] = None,
    **overrides: Overrides,
) -> None:
    """Train several losses, or several values of a setting, under one budget; print a table and write a page."""
    if finished:
        for option in typed_options(context):
            if option not in ("finished", "run"):
                typed = "the recipe" if option == "recipe" else f"--{option.replace('_', '-')}"
                raise InputError(f"--from only makes the table again: {typed} has no effect on what was run")
        _report(finished, run)
        return
    from recallk.comparison.compare import compare as compare_contenders
    from recallk.comparison.compare import default_folder

    factors = list(numbers("--rates", rates))
    values = (find_recipe(recipe).values if recipe else {}) | given(overrides)
    names = None if losses is None else losses.split(",")
    run = run or default_folder(make_config(values), names, sweep, ablation, recipe)
    compare_contenders(
        values,
        run,
        losses=names,
        sweep=sweep,
        ablation=ablation,
        rates=factors,
        seeds=seeds,
        searches=searches,
        budget=budget,
        at_once=at_once,
        progress=lambda progress: _tell(progress, run),
    )
    _report([run], run)


def _tell(progress: "Progress", run: Path) -> None:
    if progress.job is None:
        say(f"{progress.contenders} contenders, at most {progress.most_runs} runs")
        say(f"interrupted, the same command goes on; all is in {run}")
        return
    if progress.number == 1:
        say(f"model     of each run: its epoch is {progress.how_chosen}")
        for refused in progress.refused:
            say(f"cannot run  {refused}")
    say(f"{progress.seconds / 60:5.1f} min  run {progress.number}: {progress.job.contender.name}, {progress.job.name}")


def _report(folders: "Sequence[Path]", into: Path | None) -> None:
    from recallk.cli.terminal import show_comparison
    from recallk.reporting.comparison import report_comparison

    with console.status("writing the page"):
        report = report_comparison(folders, into)
    show_comparison(report.outcomes)
    for note in report.notes:
        say(note)
    say(f"look at   {report.page}")
    say(f"numbers   {report.table}")
