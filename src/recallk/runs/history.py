"""The rows of metrics.jsonl: written one by one, read back whatever an interruption has left of the file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recallk.core.files import load, write_text, writing

Row = dict[str, Any]
"""The `kind`, the `epoch` from 0, and further finite numbers by their names."""

_LARGEST = 1e100  # beyond whatever a run writes; sums and percentages of numbers below it are still finite


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; none where there is no file.

    Lines that are no rows, whole and of finite numbers, are passed over: the last may be cut, and a disk that was full
    leaves others.
    Raises InputError, one line, where the file cannot be read.
    """
    if not os.path.lexists(path):
        return []
    lines = load(path, Path.read_bytes, "rows of metrics", "remove it").splitlines()
    return [row for line in lines if (row := _row(line)) is not None]


def append_row(path: Path, row: Row) -> None:
    """Add a row, on a line of its own even where the last one was cut. Raises InputError where that cannot be."""
    line = f"{json.dumps(row)}\n".encode()
    with writing(path), path.open("ab+", buffering=0) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace all rows in one step. Raises InputError where that cannot be."""
    write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        return None
    numbers = [value for name, value in row.items() if name != "kind"]
    if not all(type(number) in (int, float) and abs(number) < _LARGEST for number in numbers):  # NaN is not below
        return None
    epoch = row.get("epoch")
    return row if type(epoch) is int and epoch >= 0 else None
