"""What is put into a catalogue: the items of a source, what is known of them, and what each is made from."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from recallk.core.cores import available_cores
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.progress import Advance, counting
from recallk.core.text import brief, shown
from recallk.data.findings import Finding
from recallk.data.formats import open_file
from recallk.data.further_columns import further_columns
from recallk.data.images import png_of
from recallk.data.item import Drawing, File, Item
from recallk.data.kind import kind_of
from recallk.data.layout import Layout
from recallk.data.opening import check_files
from recallk.data.records import labelled
from recallk.data.source import are_looked_for, read_texts, read_to_embed, root_of
from recallk.data.split import namer
from recallk.data.texts import Text
from recallk.data.vector_files import read_any_vectors
from recallk.data.vector_writer import Texts, columns_of
from recallk.data.vectors import VectorRows

Given = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A source as it is given: a path, or a list of image files or of texts."""
_Read = tuple[Sequence[Item], NDArray[np.int64], Texts, list[Finding]]
"""Items, their rows in the source, what is known of them, and notes."""
_ROWS = 2**13  # vectors that are read at a time
ID = "id"
OWN = (ID, "label", "split", "role", "image", "text")
"""The columns that say what an item is; all others are what a table says of it further."""
_OF_TABLES = frozenset({ID, "text"})
"""Of these, what a table of images may say, whose readers for training pass over them."""
_ANSWERED = ("similarity", "picture")  # beside the columns, where an item is found


@dataclass(frozen=True)
class Source:
    """Items to keep, and a row of `known` for each: its `id`, and whatever else there is of `OWN` and further."""

    items: Sequence[Item] = field(repr=False)
    known: pyarrow.Table = field(repr=False)
    of_images: bool = True
    notes: Sequence[Finding] = ()

    def pictures(self, numbers: NDArray[np.int64]) -> list[bytes | None] | None:
        """Return some images, as PNG, where they are drawn or pixels, and so are no files that could be named."""
        if "image" in self.known.column_names or not self.of_images:
            return None
        return [png_of(self.items[number]) for number in numbers.tolist()]


def read_source(given: Given, noun: str, folder: Path, layout: Layout) -> Source:
    """Read images (a folder, a table, a list of files, or "glyphs"), texts or vectors, for a catalogue in `folder`.

    `noun` is what its model embeds. Where the source says which items are queries and which the gallery, the gallery is
    taken alone. The paths of images are written from the folder. Raises InputError, one line, for whatever cannot be
    read, items of another kind, an id that stands there twice, and a further column that is called as one of ours.
    """
    if isinstance(given, str | os.PathLike):
        source, kind = os.fspath(given), kind_of(os.fspath(given), layout.columns)
    else:
        source, kind = ("the list", "texts") if noun == "texts" else ("the list of files", "images")
    if kind != noun:
        raise InputError(f"{shown(source)}: {kind}, and the model of the catalogue embeds {noun}")
    further = pyarrow.table({})
    if not isinstance(given, str | os.PathLike):
        items, rows, known, notes = _listed_texts(given) if kind == "texts" else _files(given, folder)
    else:
        if kind == "vectors":
            items, rows, known, notes = _vectors(source)
        elif kind == "texts":
            items, rows, known, notes = _texts(source, folder, layout)
        else:
            items, rows, known, notes = _images(source, folder, layout)
        further = further_columns(source, layout, kind)
        named = {name.casefold(): name for name in further.column_names}
        for own in _OF_TABLES & named.keys():  # of vectors and texts they have been read already
            cells = [None if cell is None else str(cell) for cell in further[named[own]].take(rows).to_pylist()]
            if own == ID and None in cells:
                raise InputError(f"{shown(source)}, row {rows[cells.index(None)] + 1}: empty id")
            known = {**known, own: cells}
            further = further.drop_columns(named[own])
    ids, counts = np.unique(np.array(known[ID], dtype=object), return_counts=True)
    if len(ids) < len(items):
        raise InputError(f"{shown(source)}: the id {brief(ids[counts > 1][0])} is there twice; ids are to differ")
    try:
        table = pyarrow.table({name: pyarrow.array(cells, pyarrow.string()) for name, cells in known.items()})
    except UnicodeEncodeError as error:
        told = f"the name {brief(error.object)} is no UTF-8, and cannot be written into a table; rename it"
        raise InputError(f"{shown(source)}: {told}") from None
    for name in further.column_names:
        if name.casefold() in (*OWN, *_ANSWERED):
            raise InputError(f"{source}: a column {shown(name)!r}, which says something else here; rename it")
        table = table.append_column(name, further[name].take(rows))
    return Source(items, table, kind == "images", notes)


def _files(files: Sequence[Any], folder: Path) -> _Read:
    """Return image files, whose ids are their paths as they are given."""
    items = [user_path(file) for file in files]
    check_files(items)
    names = [os.fspath(file) for file in files]
    beside = namer(folder.resolve())
    return items, np.arange(len(items)), {ID: names, "image": [beside(str(item.absolute())) for item in items]}, []


def _images(source: str, folder: Path, layout: Layout) -> _Read:
    """Read a folder, a table, or what is drawn."""
    records, notes = read_to_embed(source, "images", layout=layout)
    rows = np.flatnonzero([record.role != "query" for record in records])
    found = [records[row] for row in rows.tolist()]
    items = labelled(found).items
    check_files(items, looked_for=are_looked_for(source))
    notes = [*notes, *_left_out(len(records) - len(found), "images", source)]
    return items, rows, columns_of(found, root_of(source, layout), folder.resolve() / "_"), notes


def _texts(source: str, folder: Path, layout: Layout) -> _Read:
    """Read a table of texts; those without an id are called by their row."""
    records = read_texts(source, layout, labels_needed=False)
    found = [record for record in records if record.role != "query"]
    rows = np.array([record.item.row for record in found if isinstance(record.item, Text)], np.int64)
    known = columns_of(found, folder, folder / "_")
    return [record.item for record in found], rows, known, _left_out(len(records) - len(found), "texts", source)


def _listed_texts(given: Sequence[Any]) -> _Read:
    """Return texts of a list, called by their places."""
    texts = [Text(text, row) for row, text in enumerate(given) if isinstance(text, str) and text.strip()]
    if len(texts) < len(given):
        raise InputError("the list: texts are needed, and none of them empty")
    return texts, np.arange(len(texts)), {ID: [text.name for text in texts], "text": list(map(str, texts))}, []


def _vectors(source: str) -> _Read:
    """Read a file of vectors; those without an id are called by their row."""
    table, notes = read_any_vectors(user_path(source))
    rows = np.arange(len(table.array)) if table.gallery is None else table.gallery
    columns = {"label": table.labels, "image": table.images, "text": table.texts}
    known: dict[str, Sequence[str | None]] = {ID: [table.name(row) for row in rows.tolist()]}
    known |= {name: [cells[row] or None for row in rows.tolist()] for name, cells in columns.items() if cells}
    notes = [*notes, *_left_out(len(table.array) - len(rows), "vectors", source)]
    return VectorRows(table, rows), rows, known, notes


def _left_out(count: int, noun: str, source: str) -> list[Finding]:
    return [Finding("other counts", source, f"{count:,} {noun} outside its gallery left out")] if count else []


def contents_of(items: Sequence[Item], advance: Advance) -> NDArray[np.uint8]:
    """Return the SHA-256 `(N, 32)` of what items are made from: of files, of pixels, drawings, vectors, texts."""
    found = np.empty((len(items), 32), np.uint8)
    told = counting(advance, "looking for changes", len(items))
    if isinstance(items, VectorRows):  # many and small: threads would take longer
        for start in range(0, len(items), _ROWS):
            block = items.table.array[items.rows[start : start + _ROWS]]
            digests = b"".join(hashlib.sha256(row).digest() for row in np.ascontiguousarray(block))
            found[start : start + len(block)] = np.frombuffer(digests, np.uint8).reshape(-1, 32)
            told(len(block))
        return found
    with ThreadPoolExecutor(available_cores()) as pool:
        for number, digest in enumerate(pool.map(_content, items)):
            found[number] = np.frombuffer(digest, np.uint8)
            told(1)
    return found


def _content(item: Any) -> bytes:
    if isinstance(item, File):
        try:
            with open_file(item) as file:
                return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"{item}: cannot be read ({error.strerror})") from None
    if isinstance(item, str):
        return hashlib.sha256(item.encode(errors="surrogatepass")).digest()
    if isinstance(item, Drawing):
        return hashlib.sha256(repr(item).encode() + item.body.encode()).digest()
    return hashlib.sha256(np.ascontiguousarray(item).tobytes()).digest()
