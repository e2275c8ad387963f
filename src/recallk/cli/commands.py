"""The commands, as a table: a command's module is imported when it is called, or when its own help is asked.

So `recallk --help` answers at once, and where an extra is not installed too.
"""

from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise, takewhile
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from recallk.core.errors import InputError
from recallk.core.extras import Extra, require


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    place: str
    """Of the function, or of the application of a command that has commands of its own: module.name."""
    help: str
    """What `recallk --help` says: the first line of what the command itself says."""
    extra: Extra = "train"


COMMANDS = {
    "demo": Line(
        "train.demo", "Train on characters in matplotlib's typefaces, without a download, in about three minutes."
    ),
    "train": Line(
        "train.train",
        "Train on a folder of images (a folder per class), or on a table (path,label[,split], or text,label).",
    ),
    "evaluate": Line(
        "evaluate.evaluate", "Measure a trained model: recall@k, precision@k, MAP@R, R-precision, MRR and NMI."
    ),
    "embed": Line(
        "embed.embed", "Write the vectors of images or texts, by any network or a run's model, into a file to train on."
    ),
    "compose": Line(
        "compose.compose",
        "Put a head that was trained on vectors after the network that made them, as one model in a folder.",
    ),
    "whiten": Line(
        "whiten.whiten", "Fit a whitening to a trained model's embeddings of given data, and store it with the model."
    ),
    "compare": Line(
        "compare.compare",
        "Train several losses, or several values of a setting, under one budget; print a table and write a page.",
        "compare",
    ),
    "report": Line(
        "report.report",
        "Make the page of a finished run anew: its numbers and curves, and queries where its data is still there.",
        "report",
    ),
    "recipes": Line(
        "recipes.app", "The recipes: one for each published row, and two on characters, which need no download."
    ),
    "search": Line(
        "search.search",
        "Find what is most like the queries, in a catalogue, a folder of images, or a file of vectors or texts.",
    ),
    "index": Line(
        "index.app",
        "Make a catalogue that is kept (`recallk index RUN SOURCE -o FOLDER`), change it, and look at it.",
    ),
    "serve": Line("serve.serve", "Serve a page to search a catalogue with images, and an API for programs.", "serve"),
    "data": Line("data.app", "The benchmarks of the field, and checks of data: a benchmark's, or your own."),
}
_TRUTH_VALUES = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})


class Command(TyperCommand):
    """A command that refuses a value typed after a flag, which would be taken for its argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse it before click sees what was typed."""
        flags = [[*option.opts, *option.secondary_opts] for option in self.params if getattr(option, "is_flag", False)]
        for word, value in pairwise(takewhile(lambda word: word != "--", args)):
            for ways in flags:
                if word in ways and value.lower() in _TRUTH_VALUES:
                    raise InputError(f"{word} {value}: a flag takes no value; type {' or '.join(ways)} alone")
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """The program: names and help lines come from the table, and the command that is called from its module."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, line in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Load the command that is called; click refuses one that the table does not have."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load_command(args[0]), rest


def load_command(name: str) -> Any:
    """Import a command.

    Raises MissingExtraError where what it needs is not installed.
    """
    line = COMMANDS[name]
    require(line.extra, f"recallk {name}")
    module, _, attribute = line.place.partition(".")
    command = getattr(import_module(f"recallk.cli.{module}"), attribute)
    alone = typer.Typer(callback=lambda: None)
    if isinstance(command, typer.Typer):
        alone.add_typer(command, name=name)
    else:
        alone.command(name, cls=Command)(command)
    return typer.main.get_command(alone).commands[name]  # type: ignore[attr-defined]
