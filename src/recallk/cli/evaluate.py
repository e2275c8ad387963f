"""`recallk evaluate`: measure a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from recallk.cli.console import ProgressShown, console, say
from recallk.cli.options import numbers, whole_numbers
from recallk.core.text import shown

if TYPE_CHECKING:
    from recallk.runs.evaluation import Evaluation


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="folder of a finished run; none with --descriptors")] = None,
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
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="an instance-level test set, such as roxford5k, below --data (recallk data list); "
            "or own: own images with their classes"
        ),
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option(help="with --benchmark: a folder of images that answer no query, searched as well")
    ] = None,
    descriptors: Annotated[
        Path | None,
        typer.Option(
            help="with --benchmark, instead of a run: a .safetensors or .npz file with queries (Q, D), gallery (G, D) "
            "and perhaps distractors (N, D), in the order of the test set's lists"
        ),
    ] = None,
    uncropped: Annotated[
        bool, typer.Option("--uncropped", help="with --benchmark: whole query images, in spite of their boxes")
    ] = False,
    qrels: Annotated[
        Path | None,
        typer.Option(help="judged pairs of ids in --data, as TREC or BEIR write them; a BEIR folder has its own"),
    ] = None,
    by_query: Annotated[
        Path | None, typer.Option(help="with judged pairs: write what each query reached, as trec_eval -q does")
    ] = None,
) -> None:
    """Measure a trained model: recall@k, precision@k, MAP@R, R-precision, MRR and NMI.

    Judged pairs (a BEIR folder, or --qrels) are measured as is usual there: hit rate, recall, nDCG, MAP and MRR.

    With --benchmark it is measured on an instance-level test set, such as revisited Oxford, as its authors define it.
    """
    from recallk.runs.evaluate import evaluate as evaluated

    asked = None if ks is None else whole_numbers("--ks", ks)
    at_scales = numbers("--scales", scales)
    with ProgressShown() as following:
        found = evaluated(
            run,
            data,
            asked,
            protocol,
            scales=at_scales,
            benchmark=benchmark,
            distractors=distractors,
            descriptors=descriptors,
            uncropped=uncropped,
            qrels=qrels,
            by_query=by_query,
            advance=following.advance,
        )
    for note in found.notes:
        say(f"note      {note.message}")
    if found.conditions:
        say(f"measured  {'; '.join(found.conditions)}")
    console.print(_table(found))
    if found.source:
        say(found.source)


def _table(found: "Evaluation") -> Table:
    if found.spread:
        table = Table(f"{shown(found.items)}: one gallery item each", "mean %", "spread")
        for name, mean in found.metrics.items():
            table.add_row(shown(name), f"{100 * mean:.2f}", f"{100 * found.spread[name]:.2f}")
    else:
        table = Table(shown(found.items), "%", *map(shown, found.published))
        for name, value in found.metrics.items():
            others = (f"{row[name]:.1f}" if name in row else "" for row in found.published.values())
            table.add_row(shown(name), f"{100 * value:.2f}", *others)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
