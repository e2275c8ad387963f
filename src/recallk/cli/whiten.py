"""`recallk whiten`: a whitening for a trained model."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from recallk.cli.console import ProgressShown, say
from recallk.cli.options import numbers, typed_options
from recallk.core.errors import InputError


def whiten(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    data: Annotated[
        str | None,
        typer.Option(help="what to fit it to: as for recallk train; for pca also a folder of images without classes"),
    ] = None,
    method: Annotated[
        Literal["pca", "learned"],
        typer.Option(help="by the variances of all embeddings, or learned from pairs of items of one class"),
    ] = "pca",
    dimension: Annotated[int | None, typer.Option(help="what is kept; by default as many as there are")] = None,
    power: Annotated[float, typer.Option(help="with pca: of the variances; 0.25 evens them out less than 0.5")] = 0.5,
    scales: Annotated[
        str, typer.Option(help="of the images, with commas between; give the same to evaluate and search")
    ] = "1",
    remove: Annotated[bool, typer.Option("--remove", help="remove the whitening that the model has")] = False,
) -> None:
    """Fit a whitening to a trained model's embeddings of given data, and store it with the model."""
    from recallk.runs.whiten import remove_whitening
    from recallk.runs.whiten import whiten as whitened

    if remove:
        if others := [name for name in typed_options(context) if name not in ("run", "remove")]:
            raise InputError(f"--remove only removes the whitening: leave --{others[0]} out")
        remove_whitening(run)
        say(f"removed   the whitening of {run}")
        return
    if data is None:
        raise InputError("no data: give --data PATH, what to fit the whitening to, or --remove")
    at_scales = numbers("--scales", scales)
    with ProgressShown() as following:
        found = whitened(
            run,
            data,
            method=method,
            dimension=dimension,
            power=power,
            scales=at_scales,
            advance=following.advance,
        )
    for note in found.notes:
        say(f"note      {note.message}")
    say(f"whitening {method}, to {found.whitening.dimension:,} of {found.size:,} dimensions, fitted to {found.items}")
    again = "" if scales == "1" else f" --scales {shlex.quote(scales)}"
    say(f"evaluate  recallk evaluate {shlex.quote(str(run))}{again}")
