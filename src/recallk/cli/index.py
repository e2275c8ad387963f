"""`recallk index`: a catalogue is made, changed, and looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from typer.core import TyperGroup

from recallk.cli.catalogues import is_remote
from recallk.cli.console import ProgressShown, console, say
from recallk.cli.options import layout_of
from recallk.core.csv_files import require_new, write_csv
from recallk.core.files import user_path
from recallk.core.text import shown

_SHOWN = 20  # groups and items that are printed


class _Group(TyperGroup):
    """Takes `recallk index RUN SOURCE` for `recallk index build RUN SOURCE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["build", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Make a catalogue that is kept (`recallk index RUN SOURCE -o FOLDER`), change it, and look at it.",
    no_args_is_help=True,
)
_Catalogue = Annotated[Path, typer.Argument(help="folder of the catalogue")]
_Source = Annotated[
    str, typer.Argument(help="folder of images, a table of them, or a file of vectors where the model is a head")
]
_Columns = Annotated[str | None, typer.Option(help="what a table calls its columns: path=image,label=class")]
_Root = Annotated[Path | None, typer.Option(help="folder that the paths in a table start from; by default its own")]
_Workers = Annotated[int | None, typer.Option(min=0, help="processes that read images (0: this one) [one per core]")]


@app.command("build")
def build(
    run: Annotated[Path, typer.Argument(help="folder of a finished run, or of recallk compose")],
    source: _Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to make")],
    dtype: Annotated[
        Literal["float16", "float32", "int8"],
        typer.Option(help="of the vectors; int8: searched in a quarter of the bytes, the best compared in float16"),
    ] = "float16",
    columns: _Columns = None,
    root: _Root = None,
    workers: _Workers = None,
) -> None:
    """Embed all items of a source with a run's model, and keep the vectors, what is known of them, and the model."""
    from recallk.catalogue.index import Index

    with ProgressShown() as following:
        index = Index.build(
            run,
            source,
            output,
            dtype=dtype,
            layout=layout_of(columns, root),
            workers=workers,
            advance=following.advance,
        )
    for note in index.notes:
        say(f"note      {note.message}")
    say(f"catalogue {len(index):,} {index.noun}, with {', '.join(index.columns)}; in {output}")
    say(f"search    recallk search {output} QUERY")


@app.command("add")
def add(
    catalogue: _Catalogue, source: _Source, columns: _Columns = None, root: _Root = None, workers: _Workers = None
) -> None:
    """Add the items of a source; one whose id is there already is refused."""
    from recallk.catalogue.index import Index

    with ProgressShown() as following:
        index = Index.open(catalogue)
        changed = index.add(source, layout=layout_of(columns, root), workers=workers, advance=following.advance)
    _say(changed)


@app.command("update")
def update(
    catalogue: _Catalogue,
    source: _Source,
    remove_missing: Annotated[
        bool, typer.Option("--remove-missing", help="remove what the source does not have")
    ] = False,
    columns: _Columns = None,
    root: _Root = None,
    workers: _Workers = None,
) -> None:
    """Bring it to what a source says: what is new is added, what has changed is replaced, the rest is left alone."""
    from recallk.catalogue.index import Index

    with ProgressShown() as following:
        index = Index.open(catalogue)
        changed = index.update(
            source,
            remove_missing=remove_missing,
            layout=layout_of(columns, root),
            workers=workers,
            advance=following.advance,
        )
    _say(changed)


@app.command("remove")
def remove(catalogue: _Catalogue, ids: Annotated[list[str], typer.Argument(help="of the items to remove")]) -> None:
    """Remove items by their ids."""
    from recallk.catalogue.index import Index

    _say(Index.open(catalogue).remove(ids))


@app.command("approximate")
def approximate(
    catalogue: _Catalogue,
    kind: Annotated[
        Literal["hnsw", "ivf"], typer.Option(help="a graph of neighbours, or lists: quicker to build, slower to search")
    ] = "hnsw",
    recall: Annotated[
        float, typer.Option(help="search as widely as finds this share of the k nearest of items held out")
    ] = 0.95,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="of that recall@k")] = 10,
) -> None:
    """Build an index of FAISS for approximate search of many items, and say how much of the exact results it finds."""
    from recallk.catalogue.index import Index

    with ProgressShown() as following:
        index = Index.open(catalogue)
        found = index.approximate(kind, recall=recall, k=k, advance=following.advance)
    say(f"built     {found.kind} over {len(index):,} {index.noun}, searched with a width of {found.width:,}")
    least = "" if found.recall >= recall else f"; {recall:g} was wanted"
    say(f"recall@{found.k} {found.recall:.3f} of what exact search finds, for {found.queries} items held out{least}")
    say(f"time      {1e3 * found.seconds:.2f} ms a query; exactly {1e3 * found.exact_seconds:.2f} ms")
    say(f"search    recallk search {catalogue} QUERY --approximate")


@app.command("check")
def check(catalogue: _Catalogue) -> None:
    """Read every file of a catalogue, and compare it with what was written."""
    from recallk.catalogue.state import check as checked
    from recallk.core.group import by_first

    def told() -> str:
        state = checked(catalogue)
        return f"{len(state):,} {state.manifest.items}"

    say(f"whole     {by_first(told)}, all files as they were written")


@app.command("push")
def push(
    catalogue: _Catalogue,
    to: Annotated[str, typer.Option(help="qdrant://HOST[:PORT]/COLLECTION, parquet:FILE or lance:FOLDER")],
) -> None:
    """Send a catalogue to a collection of Qdrant, or into a file; what is there already is not sent again."""
    from recallk.catalogue.index import Index

    with ProgressShown() as following:
        done = Index.open(catalogue).push(to, advance=following.advance)
    say(f"pushed    {done.sent:,} sent, {done.removed:,} removed; {done.items:,} items in {to}")
    if not is_remote(to):
        say("checked   read again: the same, number by number")
        return
    if done.recall is None:
        say("checked   it is empty, as the catalogue is")
        return
    said = f"{done.recall:.3f} where it searches exactly, {done.usual_recall:.3f} as it does by itself"
    say(f"checked   recall@{done.k} {said}, of what exact search finds here, for {done.queries} items")
    say(f"search    recallk search {to} QUERY --model {catalogue}")


@app.command("duplicates")
def duplicates(
    catalogue: _Catalogue,
    least: Annotated[float, typer.Option(help="similarity from which on two items are nearly the same")] = 0.98,
    csv: Annotated[Path | None, typer.Option(help="a file for all of them")] = None,
) -> None:
    """Find items that are nearly the same."""
    from recallk.catalogue.index import Index
    from recallk.catalogue.look import duplicates as found

    if csv is not None:
        require_new(user_path(csv))
    groups = found(Index.open(catalogue), least)
    rows = [(str(number), hit.id, f"{hit.similarity:.3f}") for number, group in enumerate(groups, 1) for hit in group]
    items = f"{len(rows):,} items in {len(groups):,} groups"
    _show(f"{items} are alike to {least:g} or more", ("group", "id", "similarity"), rows, csv)


@app.command("outliers")
def outliers(
    catalogue: _Catalogue,
    most: Annotated[int, typer.Option(min=1, help="how many")] = 20,
    csv: Annotated[Path | None, typer.Option(help="a file for all of them")] = None,
) -> None:
    """Find the items that are least like any other."""
    from recallk.catalogue.index import Index
    from recallk.catalogue.look import NEIGHBOURS
    from recallk.catalogue.look import outliers as found

    if csv is not None:
        require_new(user_path(csv))
    names = ("id", "mean similarity", "of another label")
    rows = [
        (each.hit.id, f"{each.hit.similarity:.3f}", f"{each.others} of {NEIGHBOURS}")
        for each in found(Index.open(catalogue), most)
    ]
    _show(f"the {len(rows):,} items that are least like their {NEIGHBOURS} nearest", names, rows, csv)


def _say(changed: Any) -> None:
    for note in changed.notes:
        say(f"note      {note.message}")
    done = {
        "added": changed.added,
        "embedded again": changed.embedded_again,
        "of other columns": changed.told_anew,
        "removed": changed.removed,
    }
    told = ", ".join(f"{count:,} {what}" for what, count in done.items() if count) or "nothing to change"
    say(f"done      {told}; {changed.items:,} items now")


def _show(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], csv: Path | None) -> None:
    say(title)
    if rows:
        table = Table(*names)
        for row in rows[:_SHOWN]:
            table.add_row(*map(shown, row))
        console.print(table)
    if csv is not None:
        write_csv(user_path(csv), names, rows)
        say(f"all of them are in {csv}")
    elif len(rows) > _SHOWN:
        say(f"the first {_SHOWN} are shown: --csv FILE writes all")
