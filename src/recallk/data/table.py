"""A person's own images: a table with the columns path, label and, if wanted, split and role."""

import os
import re
import stat
from pathlib import Path

from recallk.core.errors import InputError
from recallk.core.files import why
from recallk.data.columns import cell, read_columns
from recallk.data.given_split import COLUMNS, given_by_columns
from recallk.data.identity import Identities
from recallk.data.item import Record
from recallk.data.layout import USUAL, Layout

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def table(path: Path, layout: Layout = USUAL) -> list[Record]:
    """Return a record for every row; relative paths start at the table's folder, or where the `layout` says.

    Raises InputError, with the row where there is one, as `read_columns`, and for an empty cell, a file twice (in
    whatever spelling), a path of a folder, a pipe or an address, and as `given_by_columns`.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such table")
    columns = read_columns(path, ("path", "label"), COLUMNS, layout)
    try:
        found, numbers = given_by_columns(columns, len(columns["path"]))
    except InputError as error:
        raise InputError(f"{path}, {error}") from None
    folder, records, rows, identities = layout.root_of(path), list[Record](), dict[str, int](), Identities()
    if layout.root is not None and not folder.is_dir():
        raise InputError(f"--root {folder}: no such folder")
    # a person counts rows from 1, after the header
    for row, (image, label, number) in enumerate(zip(columns["path"], columns["label"], numbers, strict=True), 1):
        if not image or label in (None, ""):
            raise InputError(f"{path}, row {row}: empty {'label' if image else 'path'}")
        if rows.setdefault(image, row) != row:
            raise InputError(f"{path}, row {row}: {cell(image)} stands in row {rows[image]} already")
        file = folder / image
        if (wrong := _identify(file, image, row, identities)) is not None:
            raise InputError(f"{path}, row {row}: {cell(image)} {wrong}")
        records.append(Record(file, label, found[number].split, found[number].role))
    if not records:
        raise InputError(f"{path}: the table has no rows")
    for first, second, *_ in identities.repeated():
        name, other = (cell(columns["path"][row - 1] or "") for row in (second, first))
        raise InputError(f"{path}, row {second}: {name} stands in row {first} already, as {other}: they are one file")
    return records


def _identify(file: Path, written: str, row: int, identities: Identities) -> str | None:
    """Note which file it is, or say what else it is; a missing one is told before the training, with the images."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is an address; download the images, and give their paths" if _ADDRESS.match(written) else None
    except (OSError, ValueError) as error:
        return f"cannot be read ({why(error)})"
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        return f"is {kind}; give the path of an image file"
    identities.add(row, status.st_dev, status.st_ino)
    return None
