"""`recallk data`: the benchmarks of the field, and whether one on disk is whole."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from recallk.cli.console import console, progress, say
from recallk.core.errors import InputError
from recallk.core.files import user_path

FINDINGS_SHOWN = 5
app = typer.Typer(help="The benchmarks of the field: what they are, and whether yours is whole.", no_args_is_help=True)


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
    name: Annotated[str, typer.Argument(help="a benchmark's name, as in `recallk data list`")],
    data: Annotated[Path, typer.Option(help="the folder that its archive unpacks to, or the one above")],
    every: Annotated[bool, typer.Option("--all", help="open every image, not a sample of 1,000")] = False,
) -> None:
    """Check a benchmark on disk: what is missing or broken, counts beside the published ones, licences if several."""
    from recallk.data.benchmarks.catalogue import BENCHMARKS
    from recallk.data.benchmarks.check import check
    from recallk.data.check import SAMPLE
    from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
    from recallk.data.instances.check import check_instances

    if name not in (names := [*BENCHMARKS, *INSTANCE_BENCHMARKS]):
        raise InputError(f"no data set {name!r}: one of {', '.join(names)}")
    root, sample = user_path(data), None if every else SAMPLE
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
