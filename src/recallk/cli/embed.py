"""`recallk embed`: from items to a file of vectors."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from recallk.cli.console import ProgressShown, say
from recallk.cli.options import Overrides, given, with_config_options
from recallk.runs.embed_keys import EMBED_KEYS


@partial(with_config_options, keys=EMBED_KEYS)
def embed(
    source: Annotated[str, typer.Argument(help="as --data of recallk train, or a folder of images without classes")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a .parquet, or a .npy or .safetensors with a table beside it")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="any timm model by name; its pooled features, of unit length; of texts any of sentence-transformers"
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="or the folder of a finished run, whose model embeds, whitening included")
    ] = None,
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="of the numbers in the file")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output where it is there")] = False,
    **overrides: Overrides,
) -> None:
    """Write the vectors of images or texts, by any network or a run's model, into a file to train on."""
    from recallk.runs.embed import embed as embedded

    with ProgressShown() as following:
        found = embedded(
            source,
            output,
            backbone=backbone,
            run=run,
            dtype=dtype,
            overwrite=overwrite,
            advance=following.advance,
            **given(overrides),
        )
    for note in found.notes:
        say(f"note      {note.message}")
    say(f"embedded  {found.items}, {found.size:,} dimensions, {dtype}; the vectors are in {found.path}")
    if found.labelled:
        say(f"train     recallk train --data {shlex.quote(str(output))}")
    else:
        say("note      without classes there are no labels: nothing can be trained on these vectors")
