"""`recallk search`: the images of a folder that are most like the queries."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from recallk.cli.console import ProgressShown, console, say
from recallk.cli.options import numbers
from recallk.core.errors import InputError
from recallk.core.text import shown


def search(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="images to look for")],
    gallery: Annotated[Path, typer.Option(help="folder of images to search, with all its subfolders")],
    k: Annotated[int, typer.Option(min=1, help="results for each query")] = 8,
    scales: Annotated[
        str, typer.Option(help="of the images, with commas between; their embeddings are averaged")
    ] = "1",
    picture: Annotated[Path, typer.Option(help="where to draw the results")] = Path("search.png"),
) -> None:
    """Find the images of a folder that are most like the queries; print a table and draw a picture."""
    from recallk.reporting.pictures import draw_results
    from recallk.retrieval.search import search as searched

    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: the name of a .png file in a folder that exists")
    at_scales = numbers("--scales", scales)
    with ProgressShown() as following:
        found = searched(run, queries, gallery, k, scales=at_scales, advance=following.advance)
    if console.quiet:  # one process of several prints, and draws
        return
    for note in found.notes:
        say(f"note      {note.message}")
    table = Table("query", "rank", "similarity", "image")
    for query, similarities, files in zip(found.queries, found.similarities.tolist(), found.ids, strict=True):
        for rank, (similarity, file) in enumerate(zip(similarities, files, strict=True), 1):
            first = shown(query.name) if rank == 1 else ""
            table.add_row(first, str(rank), f"{similarity:.3f}", shown(file.relative_to(found.gallery).as_posix()))
    console.print(table)
    draw_results(found, picture)
    say(f"drawn in {picture}")
