"""Of which kind the items of data are, told before they are read."""

import csv
from collections.abc import Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from recallk.core.errors import InputError, RecallkError
from recallk.core.files import user_path

ItemKind = Literal["images", "vectors", "texts"]
EMBEDDING = "embedding"
"""The column, or the tensor, that holds vectors."""
MADE_BY = "recallk.made_by"
"""The entry of a file's metadata, as JSON, that says which embedder made its vectors (`models.made_by`)."""
ARRAYS = frozenset({".npy", ".safetensors"})
"""Files of vectors that have their labels in a table beside them."""
CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
"""What tells a folder of BEIR."""
VECTOR_FILES = ARRAYS | {".parquet"}
"""Files that may hold vectors."""
_AS_HERE: Mapping[str, str] = MappingProxyType({})


def kind_of(data: str, called: Mapping[str, str] = _AS_HERE) -> ItemKind:
    """Return what is in data, by the name of the file, and of a table by its columns, which may be `called` otherwise.

    A table with a column `text` holds texts, unless it has a `path` too: the text is then of an image.

    >>> kind_of("photos"), kind_of("vectors.npy")
    ('images', 'vectors')

    """
    try:
        path = user_path(data)
    except InputError:
        return "images"
    if path.suffix.lower() in ARRAYS:
        return "vectors"
    if is_beir(path):
        return "texts"
    columns = _columns(path)
    if EMBEDDING in columns and path.suffix.lower() == ".parquet":
        return "vectors"
    folded = {name.casefold() for name in columns}
    has = {name: called.get(name, name).casefold() in folded for name in ("path", "text")}
    return "texts" if has["text"] and not has["path"] and "path" not in called else "images"


def is_beir(path: Path) -> bool:
    """Whether a path is a folder of texts and judged pairs, as BEIR lays it out (`data.beir`)."""
    try:
        return (path / CORPUS).is_file() and (path / QUERIES).is_file()
    except OSError:  # a name that is too long
        return False


def holds_both(data: str) -> bool:
    """Return whether data are a table of images with a vector for each."""
    return {EMBEDDING, "path"} <= _columns(user_path(data))


def _columns(path: Path) -> Set[str]:
    """Return the columns of a table; none of anything else, and of what cannot be read."""
    of = {".parquet": _of_parquet, ".jsonl": _of_json_lines, ".csv": _of_csv, ".tsv": _of_csv}.get(path.suffix.lower())
    try:
        return of(path) if of is not None and path.is_file() else set()
    except (OSError, ValueError, RecursionError, csv.Error, RecallkError):
        return set()  # whoever reads the table says what is wrong with it


def _of_parquet(path: Path) -> Set[str]:
    from pyarrow import ArrowException, parquet

    try:
        return set(parquet.read_schema(path).names)
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _of_csv(path: Path) -> Set[str]:
    from recallk.data.columns import delimiter_of  # which imports PyArrow

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline(csv.field_size_limit())
    return {name.strip() for name in next(csv.reader([header], delimiter=delimiter_of(path, ["text"], ["label"])), [])}


def _of_json_lines(path: Path) -> Set[str]:
    from recallk.data.columns import of_json

    with path.open(encoding="utf-8-sig") as file:
        return set(of_json(next((line for line in file if line.strip()), "{}")))
