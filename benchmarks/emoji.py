"""Emoji as four houses draw them, as a table to train on: a class is an emoji, its images are the houses'.

    npm install emoji-datasource-apple emoji-datasource-google emoji-datasource-twitter emoji-datasource-facebook
    python -m benchmarks.emoji node_modules emoji.csv

What no default was chosen on: `python -m benchmarks.defaults emoji` shows how they do there.
"""

import csv
import re
from pathlib import Path
from typing import Annotated

import typer

HOUSES = ("apple", "google", "twitter", "facebook")
_SKIN = re.compile("1f3f[b-f]")  # one emoji in five tones of skin


def main(
    modules: Annotated[Path, typer.Argument(help="folder with the four packages")],
    out: Annotated[Path, typer.Argument(help="CSV file to write")],
) -> None:
    """Write the table: of every emoji that all houses draw."""
    folders = {house: modules / f"emoji-datasource-{house}" / "img" / house / "64" for house in HOUSES}
    names = set.intersection(*({file.name for file in folder.glob("*.png")} for folder in folders.values()))
    kept = sorted(name for name in names if not _SKIN.search(name))
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "label", "house"])
        for name in kept:
            for house, folder in folders.items():
                table.writerow([(folder / name).absolute(), name.removesuffix(".png"), house])
    print(f"{len(kept):,} emoji, {len(HOUSES)} images of each")


if __name__ == "__main__":
    typer.run(main)
