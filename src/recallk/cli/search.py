"""`recallk search`: the images of a folder, or the vectors of a file, that are most like the queries."""

from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from recallk.cli.console import ProgressShown, console, say
from recallk.cli.options import numbers
from recallk.core.errors import InputError
from recallk.core.text import shown
from recallk.data.columns import cell
from recallk.data.vectors import Vector

SHOWN = 20
"""Queries that are printed and drawn: of a file of thousands, the first ones."""


def search(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...", help="images to look for; of vectors, files, each row a query, or ids in the gallery"
        ),
    ],
    gallery: Annotated[
        Path, typer.Option(help="folder of images to search, with all its subfolders, or a file of vectors")
    ],
    k: Annotated[int, typer.Option(min=1, help="results for each query")] = 8,
    scales: Annotated[
        str, typer.Option(help="of the images, with commas between; their embeddings are averaged")
    ] = "1",
    picture: Annotated[Path, typer.Option(help="where to draw the results")] = Path("search.png"),
) -> None:
    """Find what is most like the queries, in a folder of images or a file of vectors; print it, and draw images."""
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
    if len(found.queries) > SHOWN:
        say(f"note      {len(found.queries):,} queries, of which the first {SHOWN} are shown: recallk.search has all")
    words = [(word, name) for name, word in (("label", _label), ("text", _text)) if any(map(word, chain(*found.items)))]
    of_images = not found.queries or isinstance(found.queries[0], Path)
    table = Table("query", "rank", "similarity", "image" if of_images else "vector", *(name for _, name in words))
    rows = zip(found.queries, found.similarities.tolist(), found.items, strict=True)
    for query, similarities, items in islice(rows, SHOWN):
        for rank, (similarity, item) in enumerate(zip(similarities, items, strict=True), 1):
            first = shown(query.name) if rank == 1 else ""
            name = item.name if isinstance(item, Vector) else item.relative_to(found.gallery).as_posix()
            table.add_row(first, str(rank), f"{similarity:.3f}", shown(name), *(word(item) for word, _ in words))
    console.print(table)
    if draw_results(found, picture, SHOWN):
        say(f"drawn in {picture}")


def _label(item: Path | Vector) -> str:
    return shown(item.label) if isinstance(item, Vector) else ""


def _text(item: Path | Vector) -> str:
    text = item.shown if isinstance(item, Vector) else None
    return cell(text) if isinstance(text, str) else ""
