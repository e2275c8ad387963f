"""`recallk evaluate`: measure a trained model."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from recallk.cli.console import console, counted, progress, say
from recallk.cli.options import whole_numbers
from recallk.core.errors import InputError

Protocol = Literal["benchmark", "re-identification"]


def evaluate(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    data: Annotated[
        str | None,
        typer.Option(help="other images, all of them queries and gallery; by default the run's test classes"),
    ] = None,
    ks: Annotated[str | None, typer.Option(help="the k's, with commas between; by default the run's")] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="the benchmark's own, or re-identification: one random gallery image of each class, 10 times over"
        ),
    ] = "benchmark",
) -> None:
    """Measure a trained model: recall@k, precision@k, MAP@R, R-precision, MRR and NMI."""
    from recallk.data.source import check_images
    from recallk.evaluation.clustering import nmi
    from recallk.evaluation.protocols import rate, re_identification, spoken
    from recallk.models.embedder import load
    from recallk.runs.folder import RunFolder
    from recallk.training.plan import all_of, read_run
    from recallk.training.trainer import workers_of

    asked = None if ks is None else whole_numbers("--ks", ks)
    embedder = load(run)
    folder = RunFolder(run)
    config = folder.read_config()
    depths = config.evaluate_ks if asked is None else asked
    with console.status("reading the data"):
        if data is None:
            of_run = read_run(folder)
            test, notes = of_run.test, of_run.notes
        else:
            test, notes = all_of(data)
        if protocol == "re-identification" and any(search.gallery is not None for search in test.searches):
            raise InputError("--protocol re-identification draws its own gallery: this benchmark comes with one")
        check_images(test.part.records)
    for note in notes:
        say(f"note      {note.message}")
    with progress("embedding", total=len(test.part.records)) as advance:
        embeddings = embedder.embed(
            test.part.images,
            chunk_size=config.chunk_size,
            workers=workers_of(config),
            advance=counted(advance),
        )
    title = f"{len(test.part.labels):,} images of {len(test.part.classes):,} classes"
    if protocol == "re-identification":
        table = Table(f"{title}: one gallery image each", "mean %", "spread")
        for search in test.searches:
            of_search = embeddings[search.queries], test.part.labels[search.queries]
            for name, (mean, spread) in re_identification(*of_search, depths).items():
                table.add_row(f"{search.name} {name}".strip(), f"{100 * mean:.2f}", f"{100 * spread:.2f}")
    else:
        with console.status("ranking and clustering"):
            metrics = rate(embeddings, test.part.labels, test.searches, depths)
            clusters = nmi(embeddings, test.part.labels)
        table = Table(title, "%")
        for name, value in metrics.items():
            table.add_row(spoken(name, test.searches), f"{100 * value:.2f}")
        table.add_row("nmi" if len(test.searches) == 1 else "nmi of all images", f"{100 * clusters:.2f}")
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
