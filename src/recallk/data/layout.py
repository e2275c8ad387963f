"""How a person's table is laid out, where that is not as ours: names of its columns, and where its paths start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recallk.core.text import brief

NAMES = ("path", "label", "split", "role", "is_query", "is_gallery", "id", "image", "text")
"""The columns that a table may have, as they are called here."""


@dataclass(frozen=True)
class Layout:
    """By our name of a column the table's own, where that is another; and the folder that relative paths start from.

    Without a `root` they start from the table's folder.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None

    @property
    def usual(self) -> bool:
        """Whether nothing is other than usual."""
        return not self.columns and self.root is None

    def root_of(self, table: Path) -> Path:
        """Return the folder that relative paths in a table start from."""
        return table.parent if self.root is None else self.root


USUAL = Layout()


def parse_columns(text: str) -> dict[str, str]:
    """Return what is typed as "path=image,label=class". Raises ValueError, in words, for anything else.

    >>> parse_columns("path=image, label=class")
    {'path': 'image', 'label': 'class'}

    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        name, equals, own = (piece.strip() for piece in part.partition("="))
        if not equals or not own:
            raise ValueError(f"{brief(part)} names no column; write path=image,label=class")
        if name not in NAMES:
            raise ValueError(f"no column {brief(name)}: one of {', '.join(NAMES)}")
        if name in columns:
            raise ValueError(f"{name} is there twice")
        columns[name] = own
    if len({own.casefold() for own in columns.values()}) < len(columns):
        raise ValueError("two columns are one in the table")
    return columns
