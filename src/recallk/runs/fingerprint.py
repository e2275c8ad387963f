"""What tells whether descriptors that are there are still those of a model and of items."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recallk.data.item import ArchiveMember, Drawing, Item, Region
from recallk.data.vectors import Vector
from recallk.models.checksum import add_weights
from recallk.models.embedder import Embedder


def fingerprint(embedder: Embedder, items: Sequence[Item], scales: Sequence[float]) -> str:
    """Return a text that is another where descriptors would be: for other weights, settings, scales or items.

    Of files it takes place, size and time of change: a file that is replaced counts as another.
    """
    digest = hashlib.sha256(json.dumps([embedder.noun, embedder.settings.model_dump(), list(scales)]).encode())
    add_weights(digest, embedder)
    archives = dict[Path, bytes]()
    for item in items:
        digest.update(_identity(item, archives))
    return digest.hexdigest()


def _identity(item: Item, archives: dict[Path, bytes]) -> bytes:
    match item:
        case Region():
            return f"{item.box} of ".encode() + _identity(item.image, archives)
        case ArchiveMember():
            if item.archive not in archives:  # of many members, each archive is looked at once
                archives[item.archive] = _of_file(item.archive)
            return f"{item.offset} {item.size} in ".encode() + archives[item.archive]
        case Path():
            return _of_file(item)
        case Drawing():
            return f"{item.side} {item.box} {item.body!r}\n".encode()
        case str():
            return f"{item!r}\n".encode()
        case Vector():
            return _bytes_of(np.asarray(item))
        case _:
            return _bytes_of(item)


def _of_file(path: Path) -> bytes:
    try:
        status = path.stat()
        told = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:  # whoever embeds it says what is wrong
        told = "missing"
    return os.fsencode(f"{path.absolute()} {told}\n")


def _bytes_of(array: NDArray[Any]) -> bytes:
    return f"{array.dtype} {array.shape}\n".encode() + array.tobytes()
