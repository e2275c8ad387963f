"""`recallk search`: what is most like the queries, in a catalogue, a folder of images, a file of vectors or texts."""

from itertools import chain, islice
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from recallk.catalogue.manifest import is_catalogue
from recallk.cli.catalogues import CATALOGUE, MODEL, is_remote, opened
from recallk.cli.console import ProgressShown, console, say
from recallk.cli.options import numbers
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import shown
from recallk.data.columns import cell
from recallk.data.texts import Text
from recallk.data.vectors import Vector

_COLUMNS = ("label", "text")  # of a catalogue that are printed; --json has all
SHOWN = 20
"""Queries that are printed and drawn: of a file of thousands, the first ones."""


def search(
    catalogue: Annotated[str, typer.Argument(help=f"{CATALOGUE}, or of a finished run")],
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...",
            help="images to look for, texts, or ids of the catalogue; of vectors, files, each row a query, or ids",
        ),
    ],
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="of a run: folder of images to search, with all its subfolders, or a file of vectors or texts"
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="results for each query")] = 8,
    where: Annotated[
        str | None,
        typer.Option(help="of a catalogue: a condition on its columns, as \"colour = 'red' and price < 20\""),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="of a catalogue: one search for the mean of all queries")
    ] = False,
    approximate: Annotated[
        bool,
        typer.Option("--approximate", help="of a catalogue: by the index that recallk index approximate has built"),
    ] = False,
    model: Annotated[Path | None, typer.Option(help=MODEL)] = None,
    json: Annotated[
        bool, typer.Option("--json", help="of a catalogue: a line of JSON for each query, and no picture")
    ] = False,
    scales: Annotated[
        str, typer.Option(help="of a run's images, with commas between; their embeddings are averaged")
    ] = "1",
    picture: Annotated[Path, typer.Option(help="where to draw the results")] = Path("search.png"),
) -> None:
    """Find what is most like the queries, in a catalogue, a folder of images, or a file of vectors or texts."""
    if not json and (picture.suffix.lower() != ".png" or not picture.parent.is_dir()):
        raise InputError(f"--picture {picture}: the name of a .png file in a folder that exists")
    if is_remote(catalogue) or is_catalogue(user_path(catalogue)):
        if gallery is not None or scales != "1":
            raise InputError(f"{catalogue} is a catalogue, which --gallery and --scales are not for: leave them out")
        asked = {"k": k, "where": where, "together": together, "approximate": approximate}
        _search_catalogue(opened(catalogue, model), queries, asked, json, picture)
        return
    if gallery is None:
        raise InputError(
            f"{catalogue}: no catalogue; of a run, say what to search with --gallery, or make a catalogue first: "
            f"recallk index {catalogue} GALLERY -o CATALOGUE"
        )
    if where is not None or together or approximate or json or model is not None:
        options = "--where, --together, --approximate, --model and --json"
        raise InputError(f"{options} are for a catalogue: recallk index makes one")
    _search_gallery(user_path(catalogue), queries, gallery, k, scales, picture)


def _search_catalogue(index: Any, queries: list[str], asked: dict[str, Any], json: bool, picture: Path) -> None:
    from recallk.reporting.pictures import draw_found

    found = index.search(queries, **asked)
    if console.quiet:  # one process of several prints, and draws
        return
    if json:
        for query, hits in zip(found.queries, found.hits, strict=True):
            listed = [{"similarity": round(hit.similarity, 6), **hit.known} for hit in hits]
            print(dumps({"query": query, "results": listed}, ensure_ascii=False, default=str))
        return
    if len(found.queries) > SHOWN:
        say(f"note      {len(found.queries):,} queries, of which the first {SHOWN} are shown: --json has all")
    names = [name for name in _COLUMNS if any(name in hit.known for hits in found.hits for hit in hits)]
    table = Table("query", "rank", "similarity", "id", *names)
    for query, hits in islice(zip(found.queries, found.hits, strict=True), SHOWN):
        for rank, hit in enumerate(hits, 1):
            cells = [cell(str(hit.known.get(name, ""))) for name in names]
            table.add_row(shown(query) if rank == 1 else "", str(rank), f"{hit.similarity:.3f}", shown(hit.id), *cells)
    console.print(table)
    if draw_found(found, picture, SHOWN):
        say(f"drawn in {picture}")


def _search_gallery(run: Path, queries: list[str], gallery: Path, k: int, scales: str, picture: Path) -> None:
    from recallk.reporting.pictures import draw_results
    from recallk.retrieval.search import search as searched

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
    noun = "text" if isinstance(found.queries[0], Text) else "image" if isinstance(found.queries[0], Path) else "vector"
    table = Table("query", "rank", "similarity", noun, *(name for _, name in words))
    rows = zip(found.queries, found.similarities.tolist(), found.items, strict=True)
    for query, similarities, items in islice(rows, SHOWN):
        for rank, (similarity, item) in enumerate(zip(similarities, items, strict=True), 1):
            first = _name(query, query.name) if rank == 1 else ""
            name = _name(item, item.relative_to(found.gallery).as_posix() if isinstance(item, Path) else item.name)
            table.add_row(first, str(rank), f"{similarity:.3f}", name, *(word(item) for word, _ in words))
    console.print(table)
    if draw_results(found, picture, SHOWN):
        say(f"drawn in {picture}")


def _name(item: Path | Vector | Text, name: str) -> str:
    """Return what an item is called, a text by its beginning."""
    return cell(item) if isinstance(item, Text) else shown(name)


def _label(item: Path | Vector | Text) -> str:
    return shown(item.label) if isinstance(item, Vector) else ""


def _text(item: Path | Vector | Text) -> str:
    text = item.shown if isinstance(item, Vector) else None
    return cell(text) if isinstance(text, str) else ""
