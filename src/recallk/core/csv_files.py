"""What was found, as a CSV file that is not there yet."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from recallk.core.errors import InputError
from recallk.core.files import write_text


def require_new(path: Path) -> None:
    """Raise InputError where a file cannot be made: nothing that is there is written over."""
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already; choose another name")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}; make it, or choose another place")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a new file. Raises InputError where that cannot be, as `require_new`."""
    require_new(path)
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows([header, *rows])
    write_text(path, lines.getvalue())
