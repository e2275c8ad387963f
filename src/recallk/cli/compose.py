"""`recallk compose`: a head on vectors becomes a model of what the vectors were made of."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from recallk.cli.console import say


def compose(
    run: Annotated[Path, typer.Argument(help="folder of a finished run on vectors that recallk embed has made")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the model, a new one")],
) -> None:
    """Put a head that was trained on vectors after the network that made them, as one model in a folder."""
    from recallk.models.made_by import compose as composed

    embedder = composed(run, output)
    folder = shlex.quote(str(output))
    say(f"composed  {embedder.name}; it sees {embedder.settings.seen}, gives {embedder.embedding_size:,} dimensions")
    say(f"evaluate  recallk evaluate {folder} --data FOLDER")
    if embedder.noun == "images":
        say(f"search    recallk search {folder} --gallery FOLDER IMAGE...")
    elif embedder.noun == "texts":
        say(f"search    recallk search {folder} --gallery TABLE TEXT...")
