"""`recallk data`: the benchmarks of the field, whether one on disk is whole, and what is to know of own data."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from recallk.cli.console import console, progress, say
from recallk.core.csv_files import require_new
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import shown

FINDINGS_SHOWN = 5
app = typer.Typer(
    help="The benchmarks of the field, and checks of data: a benchmark's, or your own.", no_args_is_help=True
)


@app.command("list")
def list_data() -> None:
    """List the benchmarks: what each is, its size and terms, and where its owners offer it."""
    from recallk.data.benchmarks.catalogue import BENCHMARKS
    from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS

    for title, benchmarks in (
        ("labelled classes: to train on, and to measure recall@k", BENCHMARKS.values()),
        ("the truth is given for each query: to evaluate with --benchmark", INSTANCE_BENCHMARKS.values()),
    ):
        table = Table("name", "what it is, size, terms, home", title=title, title_justify="left", show_lines=True)
        table.columns[1].overflow = "fold"
        for benchmark in benchmarks:
            home = benchmark.home.replace(", ", "\n")
            about = f"{benchmark.title}: {benchmark.what}\nsize: {benchmark.size}\nterms: {benchmark.terms}\n{home}"
            table.add_row(benchmark.name, about)
        console.print(table)
    console.print("is yours whole?   recallk data check NAME --data PATH")


@app.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="a benchmark's name, as in `recallk data list`; or a path of own data")],
    data: Annotated[
        Path | None, typer.Option(help="of a benchmark, the folder that its archive unpacks to, or the one above")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="open every image of a benchmark, not a sample of 1,000")
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="of own images: those with a shorter side are counted [default: 224]")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="of own data: a file for all that was found")] = None,
    columns: Annotated[str | None, typer.Option(help="of an own table, as for `recallk train`")] = None,
    root: Annotated[Path | None, typer.Option(help="of an own table, as for `recallk train`")] = None,
) -> None:
    """Check data before training.

    Of a benchmark: what is missing or broken, counts beside the published ones, licences if several. Of own data: how
    large splits and classes are, which files are broken, the same or look the same, and which images are small.
    """
    from recallk.data.benchmarks.catalogue import BENCHMARKS
    from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
    from recallk.data.source import DRAWN

    names = [*BENCHMARKS, *INSTANCE_BENCHMARKS]
    if name in names:
        if any(option is not None for option in (image_size, csv, columns, root)):
            told = "--image-size, --csv, --columns and --root are for own data"
            raise InputError(f"{told}, and {name} is a benchmark: leave them out")
        if data is None:
            raise InputError(f"{name} is read from the disk: say where with --data")
        _check_benchmark(name, user_path(data), every)
    elif data is not None or every:
        raise InputError(f"no data set {name!r}: one of {', '.join(names)}; own data have neither --data nor --all")
    elif name not in DRAWN and not os.path.lexists(user_path(name)):
        raise InputError(f"{name}: no such path, and no benchmark: these are {', '.join(names)}")
    else:
        _check_own(name, 224 if image_size is None else image_size, csv, columns, root)


def _check_own(data: str, image_size: int, csv: Path | None, columns: str | None, root: Path | None) -> None:
    from recallk.cli.options import layout_of
    from recallk.core.extras import require
    from recallk.data.own_check import check_own, write_remarks

    require("train", "recallk data check")
    layout = layout_of(columns, root)
    if csv is not None:
        require_new(user_path(csv))
    with progress("opening images", note="reading the data") as moves:
        found = check_own(data, image_size, layout, lambda what, done, of: moves(done, of, what))
    table = Table("", *(Column(name, justify="right") for name in ("items", "classes", "items a class", "of one item")))
    for side in found.sides:
        fewest, median, most = side.sizes
        figures = (
            f"{side.items:,}",
            f"{side.classes:,}",
            f"{fewest:,} to {most:,}, median {median:,}",
            f"{side.alone:,}",
        )
        table.add_row(side.name, *figures)
    console.print(table)
    for note in found.notes:
        say(f"note: {note}")
    for kind, count in found.counts.items():
        say(f"{kind}: {count:,}", "bold")
        for remark in [remark for remark in found.remarks if remark.kind == kind][:FINDINGS_SHOWN]:
            other = f" = {remark.other}" if remark.other else ""
            say(f"  {shown(remark.file)}{shown(other)}: {remark.message}")
        if count > FINDINGS_SHOWN:
            console.print(f"  and {count - FINDINGS_SHOWN:,} more" + ("" if csv else " (--csv FILE lists all)"))
    if csv is not None:
        write_remarks(found, user_path(csv))
    broken = found.counts["broken image"]
    ends = "training does not start until they are mended, or left out with --on-bad-image skip"
    verdict = f"all {found.files:,} images opened" if found.files else "no files to open"
    if broken:
        verdict = f"{broken:,} of {found.files:,} images are broken: {ends}"
    say(f"{shown(data)}: {verdict}")
    refused = None if broken else _why_not_trained(data, columns, root)
    if refused is not None:
        say(f"training would not start: {refused}")
    if broken or refused is not None:
        raise typer.Exit(2)


def _why_not_trained(data: str, columns: str | None, root: Path | None) -> str | None:
    """Return what `recallk train` would say against data whose files are whole; None where it would take them."""
    from recallk.cli.options import layout_of
    from recallk.data.kind import kind_of
    from recallk.data.opening import opened_before
    from recallk.runs.config import make_config
    from recallk.training.plan import prepare

    layout = {key: str(value) for key, value in {"columns": columns, "root": root}.items() if value is not None}
    items: dict[str, Any] = {"items": "images"}
    if kind_of(data, layout_of(columns, root).columns) == "texts":  # no model is fetched to see what follows from it
        items = {"items": "texts", "embedding_size": 1, "learning_rate": 1.0}
    try:
        with opened_before():
            prepare(make_config({"data": data, **items, **layout}))
    except InputError as error:
        return str(error)
    return None


def _check_benchmark(name: str, root: Path, every: bool) -> None:
    from recallk.data.benchmarks.catalogue import BENCHMARKS
    from recallk.data.benchmarks.check import check
    from recallk.data.check import SAMPLE
    from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
    from recallk.data.instances.check import check_instances

    sample = None if every else SAMPLE
    with progress("opening images", note="reading the lists") as moves:

        def advance(_: str, done: int, of: int) -> None:
            moves(done, of, "")

        if name in BENCHMARKS:
            found = check(BENCHMARKS[name], root, sample, advance)
        else:
            found = check_instances(INSTANCE_BENCHMARKS[name], root, sample, advance)
    table = Table("split")
    classes = ("classes", "published") if name in BENCHMARKS else ()
    for column in ("images", "published", *classes):
        table.add_column(column, justify="right")
    table.add_column()
    for row in found.counts:
        figures = (row.images, row.published.images, row.classes, row.published.classes)
        table.add_row(row.split, *(f"{figure:,}" for figure in figures if figure is not None), row.verdict)
    console.print(table)
    if found.licences:
        table = Table("licence", Column("sets", justify="right"), Column("images", justify="right"))
        for licence in found.licences:
            table.add_row(licence.licence, f"{licence.sets:,}", f"{licence.images:,}")
        console.print(table)
    listed = found.findings.listed
    for kind, count in found.findings.met.items():
        say(f"{kind}: {count:,}", "bold")
        for finding in [finding for finding in listed if finding.kind == kind][:FINDINGS_SHOWN]:
            say(f"  {finding}")
        if count > FINDINGS_SHOWN:
            console.print(f"  and {count - FINDINGS_SHOWN:,} more")
    say(f"{found.title}: {found.verdict}")
    if found.findings.errors:
        raise typer.Exit(2)
