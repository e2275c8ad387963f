"""Files are opened before any work is done, all of them or a sample: what cannot be read is told at once."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from recallk.core.cores import available_cores
from recallk.core.errors import InputError
from recallk.core.progress import Advance, silent
from recallk.core.text import shown
from recallk.data.formats import require_image
from recallk.data.images import fault_of
from recallk.data.item import File, Files, Item, file_of
from recallk.data.unreadable import first_of
from recallk.data.vectors import VectorRows

SAMPLE = 2_000
"""Files that are opened in any case, if there are so many."""
MINUTE = 60.0
"""Seconds for which more of a person's own files are opened before training: longer would keep them waiting."""
_BLOCK = 250  # files between two looks at the clock


_OPENED = ContextVar("opened", default=False)


@contextmanager
def opened_before() -> Iterator[None]:
    """Within it no more than the sample is opened: who has started this process has opened them for a minute."""
    before = _OPENED.set(True)
    try:
        yield
    finally:
        _OPENED.reset(before)


def check_files(
    items: Iterable[Item], *, looked_for: bool = False, seconds: float = 0, advance: Advance = silent
) -> int:
    """Open the files among the items; return how many: all, or so many, in random order, as `seconds` allow.

    Raises InputError, one line, where some are missing, truncated or no images: how many, and the first of them. Among
    those not opened, missing ones are found too, unless they have been `looked_for`.
    """
    if isinstance(items, VectorRows):
        return 0
    files: Sequence[File]
    files = items if isinstance(items, Files) else [file for item in items if (file := file_of(item)) is not None]
    found = {} if looked_for else _missing(files)
    if len(found) == len(files) > 1:
        told = f"none of {len(files):,} images is there, the first of them {next(iter(found))}"
        raise InputError(f"{told}: of a table, --root FOLDER says where its paths start")
    _raise_if_any(found)
    end, opened = time.monotonic() + (0 if _OPENED.get() else seconds), 0
    order = np.random.default_rng(0).permutation(len(files)) if len(files) > SAMPLE else np.arange(len(files))
    with ThreadPoolExecutor(available_cores()) as pool:
        while opened < len(files) and (opened < SAMPLE or time.monotonic() < end):
            block = [files[place] for place in order[opened : opened + _BLOCK].tolist()]
            for file, why in zip(block, pool.map(fault_of, block), strict=True):
                if why is not None:
                    found[str(file)] = why
            opened += len(block)
            advance("opening images", opened, len(files))
    _raise_if_any(found, "" if opened == len(files) else f" of {opened:,} opened")
    return opened


def _raise_if_any(found: Mapping[str, str], among: str = "") -> None:
    if len(found) == 1:
        raise InputError(": ".join(*found.items()))
    if found:
        told = f"{len(found):,} images{among} cannot be read: {first_of(found)}"
        raise InputError(f"{told}; recallk data check PATH --csv FILE lists all")


def _missing(files: Sequence[File]) -> dict[str, str]:
    """Return the files that are not there, or are no files, each with the reason."""
    found = {}
    for file in files.names if isinstance(files, Files) else files:
        try:
            require_image(file)
        except InputError as error:
            found[str(file)] = str(error).removeprefix(f"{shown(file)}: ")
    return found
