"""The manifest of a catalogue: what its folder holds, replaced in one step whenever that changes."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recallk.core.errors import InputError
from recallk.core.files import read_file, sync, write_text, writing
from recallk.core.text import brief, shown

FORMAT: Final = 1
MANIFEST = "manifest.json"
MODEL = "model"
PARTS = "parts"
APPROXIMATE = "approximate.faiss"
VectorDtype = Literal["float16", "float32", "int8"]
"""Of the numbers that are searched; of int8 the best are compared again in float16."""
_DAMAGED = "it is damaged: copy the catalogue again"
_BLOCK = 1 << 20


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(_Table):
    """A file that is never written again: its bytes, and their SHA-256 in hexadecimal."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class StoredPart(_Table):
    """A folder below `parts`, with a number of rows in each of its files."""

    name: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    rows: Annotated[int, Field(ge=1)]
    files: dict[Annotated[str, Field(pattern=r"^[a-z]+\.[a-z]+$")], StoredFile]


class StoredApproximate(_Table):
    """An index for approximate search: a folder below `parts`, of which parts it was built, and what it finds."""

    part: StoredPart
    of: tuple[str, ...]
    """Names of the first parts of the catalogue: their rows it knows, by their numbers."""
    kind: Literal["hnsw", "ivf"]
    width: Annotated[int, Field(ge=1)]
    """How far a graph is followed (efSearch), or how many lists are looked through (nprobe)."""
    k: Annotated[int, Field(ge=1)]
    recall: Annotated[float, Field(ge=0, le=1)]
    """The share of the k nearest that it found of items held out."""


class Manifest(_Table):
    """What a catalogue holds: rows of parts, one part after another, but for those that are removed."""

    format: Literal[1] = FORMAT
    change: Annotated[int, Field(ge=0)] = 0
    """Rises with every change."""
    items: Annotated[str, Field(pattern="^[a-z]+$")]
    """What its model embeds: "images", "vectors", ..."""
    embedder: str
    """The checksum of the model that embeds (`models.checksum`)."""
    dimensions: Annotated[int, Field(ge=1)]
    dtype: VectorDtype
    parts: tuple[StoredPart, ...] = ()
    removed: StoredPart | None = None
    """The numbers of rows that are no longer there."""
    approximate: StoredApproximate | None = None

    @property
    def stored(self) -> tuple[StoredPart, ...]:
        """All folders below `parts` that are in use."""
        further = (self.removed, None if self.approximate is None else self.approximate.part)
        return (*self.parts, *(part for part in further if part is not None))

    @property
    def rows(self) -> int:
        """How many items there are."""
        return sum(part.rows for part in self.parts) - (0 if self.removed is None else self.removed.rows)


def is_catalogue(folder: Path) -> bool:
    """Whether a folder is a catalogue, finished or damaged."""
    return os.path.lexists(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a catalogue. Raises InputError, one line, where there is none that can be read."""
    if not is_catalogue(folder):
        missing = "no such folder" if not os.path.lexists(folder) else f"no {MANIFEST} in it"
        raise InputError(f"{shown(folder)}: no catalogue ({missing}); make one: recallk index RUN SOURCE -o FOLDER")
    return read_file(folder / MANIFEST, _parse, "the manifest of a catalogue", _DAMAGED)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step: from then on the catalogue is what it says."""
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def stored(path: Path) -> StoredFile:
    """Return what is to be written of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        return StoredFile(bytes=file.tell(), sha256=digest.hexdigest())


def stored_folder(folder: Path, rows: int) -> StoredPart:
    """Have all files of a folder on the disk, and return what is to be written of it."""
    with writing(folder):
        for path in sorted(folder.iterdir()):
            sync(path)
        sync(folder)
        sync(folder.parent)
        files = {path.name: stored(path) for path in sorted(folder.iterdir())}
    return StoredPart(name=folder.name, rows=rows, files=files)


def check_size(path: Path, file: StoredFile) -> None:
    """Raise InputError where a file is not as long as the manifest says."""
    if (found := path.stat().st_size) != file.bytes:
        raise InputError(f"{path}: {found:,} bytes, and the manifest says {file.bytes:,}; {_DAMAGED}")


def check_content(path: Path, file: StoredFile) -> None:
    """Raise InputError where a file is not what the manifest says, or not there."""
    if read_file(path, stored, "readable", _DAMAGED) != file:
        raise InputError(f"{path}: other bytes than when it was written; {_DAMAGED}")


def _parse(path: Path) -> Manifest:
    written = json.loads(path.read_bytes())
    if not isinstance(written, dict):
        raise ValueError("no table of keys and values")
    if (number := written.get("format")) != FORMAT:
        raise InputError(f"{path}: written by another version of recallk (format {brief(number)}); use that one")
    try:
        return Manifest(**written)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(shown(f"{where}: {first['msg']}")) from None
