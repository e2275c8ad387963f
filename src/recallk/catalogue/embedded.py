"""What an interrupted change has embedded: found by the content it was made of, and not embedded again."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recallk.catalogue.manifest import PARTS, Manifest
from recallk.catalogue.part import BLOCKS, CONTENTS, VECTORS, Block


class Embedded:
    """The vectors that unfinished parts of a catalogue hold, as they are stored, by the SHA-256 of their contents.

    Only whole blocks that are as they were written are taken, of the model that the manifest names.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._places = dict[bytes, tuple[NDArray[Any], int]]()
        used = {part.name for part in manifest.stored}
        for part in sorted((folder / PARTS).glob("*")):
            if part.name not in used:
                with suppress(OSError, ValueError, TypeError):  # there is nothing in it, or not what we have written
                    self._read(part, manifest)

    def has(self, contents: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return of which contents `(n, 32)` there is a vector."""
        return np.fromiter((row.tobytes() in self._places for row in contents), np.bool_, len(contents))

    def vectors(self, contents: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the vectors `(n, D)` of contents; of each there is one."""
        places = [self._places[row.tobytes()] for row in contents]
        return np.stack([vectors[number] for vectors, number in places])

    def _read(self, part: Path, manifest: Manifest) -> None:
        vectors, contents = _mapped(part / VECTORS), _mapped(part / CONTENTS)
        start = 0
        for line in (part / BLOCKS).read_bytes().splitlines():
            block = Block(**json.loads(line))
            rows = slice(start, start + block.rows)
            if block != Block.of(manifest, block.rows, vectors[rows].tobytes(), contents[rows].tobytes()):
                return
            start += block.rows
            for number in range(*rows.indices(len(contents))):
                self._places[contents[number].tobytes()] = vectors, number


def _mapped(path: Path) -> NDArray[Any]:
    """Map the rows that an array has by now, which are fewer than its head says."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        (_, *width), _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        rows = (file.seek(0, 2) - start) // (dtype.itemsize * int(np.prod(width)))
    return np.memmap(path, dtype, "r", start, (rows, *width))
