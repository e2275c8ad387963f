"""`recallk compare`: losses, or values of a setting, side by side."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from recallk.cli.console import console, say
from recallk.cli.options import Overrides, given, name_of, typed_options, with_config_options, with_whole_path
from recallk.comparison.contenders import (
    MIXUP,
    ablation_as_contenders,
    ablations,
    losses_as_contenders,
    sweep_as_contenders,
)
from recallk.core.errors import InputError
from recallk.core.files import make_folder
from recallk.losses.registry import OURS
from recallk.runs.config import make_config
from recallk.runs.recipes import find


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
        str, typer.Option(help="the same for each: images (as many as the recipe's epochs), or minutes, as 5min")
    ] = "images",
    at_once: Annotated[int, typer.Option(min=1, help="runs at a time; they share the processor's cores")] = 1,
    run: Annotated[
        Path | None, typer.Option(help="folder of the comparison; what is finished there is kept  [runs/compare-...]")
    ] = None,
    finished: Annotated[
        list[Path] | None,
        typer.Option("--from", help="only make the table and page of this folder; several: given again, into --run"),
    ] = None,
    **overrides: Overrides,
) -> None:
    """Train several losses, or several values of a setting, under one budget; print a table and write a page."""
    from recallk.comparison.experiment import Comparison, minutes_of

    if finished:
        for option in typed_options(context):
            if option not in ("finished", "run"):
                raise InputError(f"--from only makes the table again: --{option} has no effect on what was run")
        if run is None and len(finished) > 1:
            raise InputError("--from several folders: say with --run where their table and page should go")
        _show_comparison(finished, run or finished[0])
        return
    if sum(choice is not None for choice in (losses, sweep, ablation)) != 1:
        raise InputError("give --losses a,b,c, or --sweep KEY=VALUE,VALUE,..., or --ablation NAME: one of them")
    try:
        factors = [float(factor) for factor in rates.split(",")]
    except ValueError:
        raise InputError(f"--rates {rates}: numbers with commas between") from None
    if losses is not None:
        contenders = losses_as_contenders(losses.split(","))
    else:
        contenders = sweep_as_contenders(sweep) if sweep is not None else ablation_as_contenders(ablation or "")
    values = (find(recipe).values if recipe else {}) | given(overrides)
    config = with_whole_path(make_config(values))
    values["data"] = config.data
    what = "losses" if losses is not None else Path(ablation).stem if ablation else contenders[0].name.partition("=")[0]
    run = run or Path("runs") / f"compare-{name_of(recipe, config)}-{what}"
    comparison = Comparison(
        run, values, contenders, factors, seeds, searches=searches, minutes=minutes_of(budget), at_once=at_once
    )
    total = len(contenders) * (seeds + (searches * len(factors) if len(factors) > 1 else 0) + (budget != "images"))
    console.print(f"{len(contenders)} contenders, at most {total} runs, each with its best epoch on validation classes")
    say(f"interrupted, the same command goes on; all is in {run}")
    started = time.perf_counter()
    for number, job in enumerate(comparison.run(), 1):
        if number == 1:
            for refused in comparison.refused:
                say(f"cannot run  {refused}")
        minutes = (time.perf_counter() - started) / 60
        say(f"{minutes:5.1f} min  run {number}: {job.contender.name}, {job.name}")
    _show_comparison([run], run)


def _show_comparison(folders: Sequence[Path], into: Path) -> None:
    from recallk.cli.terminal import show_comparison
    from recallk.comparison.outcomes import outcomes
    from recallk.reporting.comparison import report_comparison, save_table

    found = outcomes(folders)
    show_comparison(console, found)
    make_folder(into)
    page, numbers = into / "comparison.html", into / "comparison.csv"
    save_table(found, numbers)
    with console.status("writing the page"):
        told = report_comparison(found, page)
    for line in told:
        say(line)
    say(f"look at   {page}")
    say(f"numbers   {numbers}")
