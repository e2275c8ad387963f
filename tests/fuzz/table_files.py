"""Tables of the miniature's images as files, and what is right for them."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from recallk.data.sides import split_classes
from recallk.data.source import read_own
from tests.fuzz.case import FaultError, Place
from tests.fuzz.miniature import WORDS

Columns = dict[str, list[Any]]
LABELS = ("a", "b", "c", "007", "7", "1e3", "true", "null", "NA", "é", "名", "x y", "a/b", "..", "<b>", "[red]", "$x$")
HOSTILE = ("\x1b[31mred", "a\nb", "a\rb", "\u202eabc", "tab\there", "\x00", "z[/red]", "x" * 10_000)


def rows(place: Place, split: bool = False, names: tuple[str, ...] = LABELS[:6], roles: bool = False) -> Columns:
    """Return the columns of a good table of the miniature's images, two labels for training at least.

    With a split there may be `roles` in it: of what is tested, each third item is a query.
    """
    images = sorted((place.shared / "images").glob("*/*.png"))
    labels = [names[number // 3 % len(names)] for number in range(len(images))]
    columns: Columns = {"path": [str(path) for path in images], "label": list(labels)}
    if split:
        columns["split"] = ["train" if names.index(label) % 2 else "test" for label in labels]
    if split and roles:
        role = ("query", "gallery", "gallery")
        columns["role"] = [role[n % 3] if side == "test" else "" for n, side in enumerate(columns["split"])]
    return columns


def as_csv(columns: Columns, encoding: str = "utf-8", line: str = "\n", separator: str = ",") -> bytes:
    """Return a CSV table, every cell in quotes."""

    def cell(value: Any) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    lines = [separator.join(map(cell, row)) for row in (list(columns), *zip(*columns.values(), strict=True))]
    return line.join([*lines, ""]).encode(encoding, "replace")


def as_json_lines(columns: Columns) -> bytes:
    """Return a table with an object of JSON in each line."""
    cells = zip(*columns.values(), strict=True)
    return "".join(json.dumps(dict(zip(columns, row, strict=True)), default=str) + "\n" for row in cells).encode()


def as_file(columns: Columns, suffix: str, **options: Any) -> bytes:
    """Return a table as its suffix says, in any letter case; the options are those of text, or of Parquet."""
    match suffix.lower():
        case ".parquet":
            return as_parquet(columns, **{key: value for key, value in options.items() if key == "compression"})
        case ".jsonl":
            return as_json_lines(columns)
    of_text = {key: value for key, value in options.items() if key != "compression"}
    return as_csv(columns, **({"separator": "\t"} if suffix.lower() == ".tsv" else {}) | of_text)


def as_parquet(columns: Columns, **options: Any) -> bytes:
    """Return a Parquet table."""
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink, **options)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def check_records(path: Path, columns: Columns) -> None:
    """Raise FaultError unless the table's records are those of its rows."""
    found = [(str(r.item), r.label, r.split, r.role) for r in read_own(str(path))[0]]
    nothing = [None] * len(columns["path"])
    splits, roles = (columns.get(name, nothing) for name in ("split", "role"))
    right = [
        (os.path.normpath(path.parent / p), str(x), s, r or None)
        for p, x, s, r in zip(columns["path"], columns["label"], splits, roles, strict=True)
    ]
    if [(os.path.normpath(image), *rest) for image, *rest in found] != right:
        different = next(
            (pair for pair in zip(found, right, strict=False) if pair[0] != pair[1]), (len(found), len(right))
        )
        raise FaultError(f"records are not the rows: {different}")


def check_sound(path: Path) -> None:
    """Raise FaultError where what is accepted could not be right whatever the table says."""
    records = read_own(str(path))[0]
    if not records or any(not isinstance(r.label, str) or not r.label for r in records):
        raise FaultError("no records, or one without a label")
    if any(r.split not in (None, "train", "test", "validation") for r in records):
        raise FaultError("a split that there is not")
    split_classes(records, 0.5, 0)


def plan(place: Place, path: Path) -> None:
    """Give the table to the command."""
    place.command("train", "--data", path, *WORDS, "--run", "run", "--dry-run")


def twice(columns: Columns, column: str, suffix: str) -> bytes:
    """Return a table with a column that is there twice."""
    if suffix == ".csv":
        head, body = as_csv(columns).split(b"\n", 1)
        lines = [line + b',"x"' for line in body.splitlines()]
        return b"\n".join([head + f',"{column}"'.encode(), *lines, b""])
    names, values = [*columns, column], [*columns.values(), columns[column]]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(v) for v in values], names), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
