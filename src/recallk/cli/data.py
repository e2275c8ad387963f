"""`recallk data`: the benchmarks of the field, and whether one on disk is whole."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from recallk.cli.console import console, progress, say
from recallk.core.files import user_path

FINDINGS_SHOWN = 5
app = typer.Typer(help="The benchmarks of the field: what they are, and whether yours is whole.", no_args_is_help=True)


@app.command("list")
def list_data() -> None:
    """List the benchmarks: what each is, its size and terms, and where its owners offer it."""
    from recallk.data.benchmarks.catalogue import BENCHMARKS

    table = Table("name", "what it is, size, terms, home", show_lines=True)
    table.columns[1].overflow = "fold"
    for benchmark in BENCHMARKS.values():
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
    """Check a benchmark on disk: what is missing or broken, and its counts beside the published ones."""
    from recallk.data.benchmarks.catalogue import benchmark_named
    from recallk.data.benchmarks.check import SAMPLE, check

    benchmark = benchmark_named(name)
    with progress("opening images", note="reading the lists") as advance:
        found = check(benchmark, user_path(data), None if every else SAMPLE, lambda _, done, of: advance(done, of, ""))
    table = Table("split", "images", "published", "classes", "published", "")
    for row in found.counts:
        figures = (row.images, row.published.images, row.classes, row.published.classes)
        table.add_row(row.split, *(f"{figure:,}" for figure in figures), row.verdict)
    for column in table.columns[1:5]:
        column.justify = "right"
    console.print(table)
    listed = found.findings.listed
    for kind, count in found.findings.met.items():
        say(f"{kind}: {count:,}", "bold")
        for finding in [finding for finding in listed if finding.kind == kind][:FINDINGS_SHOWN]:
            say(f"  {finding}")
        if count > FINDINGS_SHOWN:
            console.print(f"  and {count - FINDINGS_SHOWN:,} more")
    say(f"{benchmark.title}: {found.verdict}")
    if found.findings.errors:
        raise typer.Exit(2)
