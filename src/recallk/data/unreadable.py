"""Which image files cannot be read: all are decoded, as training would, before it begins."""

import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from recallk.core import processes
from recallk.core.cores import own_cores
from recallk.core.errors import InputError
from recallk.core.parent import end_with_parent
from recallk.core.progress import Advance
from recallk.core.text import shown
from recallk.data.images import fault_of

NAMED = 3
"""Files that an error names."""
_BLOCK = 32  # files that a process is given at a time


def unreadable(files: Sequence[str], most: float, advance: Advance) -> dict[str, str]:
    """Return the files that cannot be read, each with the reason, in their order; several processes decode them.

    In a group each decodes a share, and all return the same. Raises InputError, with how many and the first of them,
    where they are more than the share `most` of all files.
    """
    share, allowed = processes.share(len(files)), most * len(files)
    with processes.failing_together():
        own = _unreadable(files[share.start : share.stop], allowed, advance)
    found = {file: why for each in processes.of_each(own) for file, why in each.items()}
    if len(found) > allowed:
        raise InputError(
            f"{len(found):,} of {len(files):,} images cannot be read, more than max_bad_images={most:g} allows: "
            f"mend or remove them, or raise it; {first_of(found)}"
        )
    return found


def _unreadable(files: Sequence[str], allowed: float, advance: Advance) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with ProcessPoolExecutor(own_cores(), initializer=begin_alone) as pool:
            for done, (file, why) in enumerate(zip(files, pool.map(_why_not, files, chunksize=_BLOCK), strict=True), 1):
                if why is not None:
                    found[file] = why
                if done % _BLOCK == 0 or done == len(files):
                    advance("opening images", done, len(files))
    except BrokenProcessPool:
        raise InputError(
            "a process that opens images ended; it may have run out of memory, or a file has broken it: "
            "--on-bad-image stop looks at a sample only"
        ) from None
    if len(found) <= allowed:  # once more, and alone: nothing is left out for a lack of memory
        found = {file: why for file in found if (why := _why_not(file)) is not None}
    return found


def first_of(found: Mapping[str, str]) -> str:
    """Return the first of some files, each with the reason, in one line."""
    named = [f"{file}: {why}" for file, why in islice(found.items(), NAMED)]
    return shown("; ".join([*named, "..."] if len(found) > NAMED else named))


def begin_alone() -> None:
    """Leave Ctrl-C to the main process, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _why_not(file: str) -> str | None:
    return fault_of(Path(file), decoded=True)
