"""`recallk evaluate`: measure a trained model."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from recallk.cli.console import ProgressShown, console, say
from recallk.cli.options import numbers, whole_numbers
from recallk.core.text import shown


def evaluate(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    data: Annotated[
        str | None,
        typer.Option(help="other images, all of them queries and gallery; by default the run's test classes"),
    ] = None,
    ks: Annotated[str | None, typer.Option(help="the k's, with commas between; by default the run's")] = None,
    protocol: Annotated[
        Literal["benchmark", "re-identification"],
        typer.Option(
            help="the benchmark's own, or re-identification: one random gallery image of each class, 10 times over"
        ),
    ] = "benchmark",
    scales: Annotated[
        str, typer.Option(help="of the images, with commas between; their embeddings are averaged")
    ] = "1",
) -> None:
    """Measure a trained model: recall@k, precision@k, MAP@R, R-precision, MRR and NMI."""
    from recallk.runs.evaluate import evaluate as evaluated

    asked = None if ks is None else whole_numbers("--ks", ks)
    at_scales = numbers("--scales", scales)
    with ProgressShown() as following:
        found = evaluated(run, data, asked, protocol, scales=at_scales, advance=following.advance)
    for note in found.notes:
        say(f"note      {note.message}")
    if found.spread:
        table = Table(f"{shown(found.items)}: one gallery item each", "mean %", "spread")
        for name, mean in found.metrics.items():
            table.add_row(shown(name), f"{100 * mean:.2f}", f"{100 * found.spread[name]:.2f}")
    else:
        table = Table(shown(found.items), "%")
        for name, value in found.metrics.items():
            table.add_row(shown(name), f"{100 * value:.2f}")
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
