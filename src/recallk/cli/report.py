"""`recallk report`: the page of a finished run, made anew."""

from pathlib import Path
from typing import Annotated

import typer

from recallk.cli.console import console, say


def report(run: Annotated[Path, typer.Argument(help="folder of a finished run")]) -> None:
    """Make the page of a finished run anew: its numbers and curves, and queries where its data is still there."""
    from recallk.runs.folder import RunFolder

    make_page(run)
    say(f"look at   {RunFolder(run).report}")


def make_page(run: Path) -> None:
    """Write the page of a run, and say what it could not show."""
    from recallk.reporting.run import report as reported

    with console.status("writing the report"):
        missing = reported(run)
    for sentence in missing:
        say(f"note      {sentence}")
