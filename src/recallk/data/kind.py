"""Of which kind the items of data are, told before they are read."""

from collections.abc import Set
from pathlib import Path
from typing import Literal

from recallk.core.errors import InputError
from recallk.core.files import user_path

ItemKind = Literal["images", "vectors"]
EMBEDDING = "embedding"
"""The column, or the tensor, that holds vectors."""
MADE_BY = "recallk.made_by"
"""The entry of a file's metadata, as JSON, that says which embedder made its vectors (`models.made_by`)."""
ARRAYS = frozenset({".npy", ".safetensors"})
"""Files of vectors that have their labels in a table beside them."""
VECTOR_FILES = ARRAYS | {".parquet"}
"""Files that may hold vectors."""


def kind_of(data: str) -> ItemKind:
    """Return what is in data, by the name of the file, and of a Parquet table by its columns.

    >>> kind_of("photos"), kind_of("vectors.npy")
    ('images', 'vectors')

    """
    try:
        path = user_path(data)
    except InputError:
        return "images"
    suffix = path.suffix.lower()
    return "vectors" if suffix in ARRAYS or EMBEDDING in _columns(path) else "images"


def holds_both(data: str) -> bool:
    """Return whether data are a table of images with a vector for each."""
    return {EMBEDDING, "path"} <= _columns(user_path(data))


def _columns(path: Path) -> Set[str]:
    """Return the columns of a Parquet table; none of anything else."""
    if path.suffix.lower() != ".parquet":
        return set()
    from pyarrow import ArrowException, parquet

    try:
        return set(parquet.read_schema(path).names) if path.is_file() else set()
    except (OSError, ValueError, ArrowException):
        return set()  # whoever reads the table says what is wrong with it
