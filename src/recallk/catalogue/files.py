"""A catalogue as one table that other programs read: of Parquet, or of Lance."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, parquet, types

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.files import UNFINISHED, UNFINISHED_NAME, sync, writing
from recallk.core.text import brief, one_line, shown
from recallk.data.kind import EMBEDDING


def write_table(kind: str, path: Path, columns: pyarrow.Table, vectors: NDArray[Any]) -> None:
    """Write what is known of items, and their vectors as the column `embedding`, whole or not at all; read it again.

    What one that was interrupted has left beside it is removed.
    Raises InputError where something is there already, for a column of that name, and for what cannot be written.
    """
    if not path.name or not path.parent.is_dir():
        raise InputError(f"{kind}:{path}: the name of what is to be written, in a folder that exists")
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already; choose another name")
    if (name := next((name for name in columns.column_names if name.casefold() == EMBEDDING), None)) is not None:
        raise InputError(f"{path}: the catalogue has a column {shown(name)}, as the vectors are called; rename it")
    flat = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
    table = columns.append_column(EMBEDDING, pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    write, read = FILES[kind]
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    left = re.compile(re.escape(path.name) + UNFINISHED_NAME)
    for other in [other for other in path.parent.iterdir() if left.fullmatch(other.name)]:
        _remove(other)
    try:
        with writing(path):
            write(table, unfinished)
            if unfinished.is_file():
                sync(unfinished)
            if not _same(read(unfinished), table):
                raise InputError(f"{path}: what was written reads otherwise; is the disk in order?")
            unfinished.rename(path)
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # of Lance it is a folder
    with suppress(OSError):
        path.unlink()


def _same(one: pyarrow.Table, other: pyarrow.Table) -> bool:
    """Whether two tables say the same; here NaN equals NaN."""
    if one.column_names != other.column_names or one.num_rows != other.num_rows:
        return False
    return all(_same_cells(one[name].combine_chunks(), other[name].combine_chunks()) for name in one.column_names)


def _same_cells(one: Any, other: Any) -> bool:
    if types.is_floating(one.type) and one.type == other.type:
        broken = compute.is_nan(one)
        if not broken.equals(compute.is_nan(other)):
            return False
        one, other = (compute.if_else(broken, pyarrow.scalar(0, one.type), each) for each in (one, other))
    return bool(one.equals(other))


def _write_parquet(table: pyarrow.Table, path: Path) -> None:
    parquet.write_table(table, path)


def _read_parquet(path: Path) -> pyarrow.Table:
    return parquet.read_table(path).combine_chunks()


def _write_lance(table: pyarrow.Table, path: Path) -> None:
    require("push", "lance:PATH")
    import lance

    try:
        lance.write_dataset(table, str(path), mode="create")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be written by Lance ({brief(one_line(error))})") from None


def _read_lance(path: Path) -> pyarrow.Table:
    import lance

    return lance.dataset(str(path)).to_table().combine_chunks()


FILES: Mapping[str, tuple[Callable[[pyarrow.Table, Path], None], Callable[[Path], pyarrow.Table]]] = {
    "parquet": (_write_parquet, _read_parquet),
    "lance": (_write_lance, _read_lance),
}
"""How a kind of table is written and read."""
