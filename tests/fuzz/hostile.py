"""A pickle that runs code when it is loaded: it makes a file, which must never be there."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def pickled(thing: object) -> bytes:
    """Return a plain pickle."""
    return pickle.dumps(thing)


def as_checkpoint(thing: object) -> bytes:
    """Return a file as `torch.save` makes it, with the thing among a checkpoint's entries."""
    file = io.BytesIO()
    torch.save({"model": thing, "epoch": 1}, file)
    return file.getvalue()
