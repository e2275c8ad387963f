"""Files: whatever goes wrong is one line, and what is written is there as a whole or not at all."""

import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from recallk.core.errors import InputError, RecallkError
from recallk.core.text import brief, one_line

T = TypeVar("T")
log = logging.getLogger("recallk")

UNFINISHED = ".unfinished"
"""At the end of a name: a file that is being written, or was when its process ended. Before it, the file's own name."""
UNFINISHED_NAME = rf"\.[0-9a-f]{{8}}{re.escape(UNFINISHED)}"
"""What follows a file's own name, as a pattern."""
_ROOM = 1 << 20  # bytes: a disk with less is as good as full
_LONGEST = 100  # characters of a name that go into that of the unfinished file


def user_path(text: str | os.PathLike[str]) -> Path:
    """Return a path as a person types it, `~` included. Raises InputError for no path, or where no such user is."""
    try:
        return Path(text).expanduser()
    except TypeError:
        raise InputError(f"a path is needed, not {brief(text)}") from None
    except RuntimeError as error:
        raise InputError(f"{text}: {one_line(error)}; write the path out") from None


def read_file(path: Path, parse: Callable[[Path], T], what: str, remedy: str) -> T:
    """Return what `parse` makes of a file.

    Raises InputError, one line, for whatever goes wrong: "PATH: no such file", or "PATH: not WHAT (why); REMEDY".
    Pipes, devices and folders are refused before they are opened.
    """
    with reading(path, what, remedy):
        require_file(path)
        started = time.perf_counter()
        parsed = parse(path)
        log.debug("read %s in %.2f s", path, time.perf_counter() - started)
        return parsed


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Raise InputError, as `read_file`, for whatever goes wrong while a file that may be open already is read."""
    try:
        yield
    except (RecallkError, KeyboardInterrupt, SystemExit, MemoryError, NameError):
        raise  # the last is a mistake of ours
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({why(error)}); {remedy}") from None
    except BaseException as error:  # libraries raise whatever their parts raise, a panic of Rust among it
        raise InputError(f"{path}: not {what} ({one_line(error)}); {remedy}") from None


def require_file(path: Path) -> None:
    """Raise InputError where there is no file, or what is there is no regular one (reading a pipe never ends)."""
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise InputError(f"{path}: {'no such file' if missing else f'cannot be read ({why(error)})'}") from None
    if not stat.S_ISREG(kind):
        raise InputError(f"{path}: {'a folder' if stat.S_ISDIR(kind) else 'a pipe or a device'}, not a file")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside its place, and move it there in one step, once it is on the disk.

    A power cut leaves the old file or the new one. Raises InputError, one line, where it cannot be written; the old
    file is then as it was.
    """
    unfinished = UnfinishedFile(path)
    try:
        with writing(path):
            write(unfinished.path)
        unfinished.finish()
    finally:
        unfinished.discard()


class UnfinishedFile:
    """A file that is written beside its place, at `path`, and moved there at the end.

    Every step raises InputError, one line, where it cannot be done.
    """

    def __init__(self, place: Path) -> None:
        self.place, self._started = place, time.perf_counter()
        # a name of its own: two may write at a time, and nobody's file is in the way
        self.path = place.with_name(f"{place.name[:_LONGEST]}.{secrets.token_hex(4)}{UNFINISHED}")
        with writing(place):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            self._mode = stat.S_IMODE(self.path.stat().st_mode)

    def finish(self) -> None:
        """Have it on the disk, and then in its place, in one step."""
        with writing(self.place):
            self.path.chmod(self._mode)  # some libraries make files that only their owner may read
            sync(self.path)
            size = self.path.stat().st_size
            self.path.replace(self.place)
            sync(self.place.parent)
        log.debug("wrote %s, %s bytes in %.2f s", self.place, f"{size:,}", time.perf_counter() - self._started)

    def discard(self) -> None:
        """Remove it, unless it is finished."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, as `write_file`."""
    write_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8", errors="backslashreplace"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn whatever keeps a file or folder from being written inside into InputError, one line."""
    try:
        yield
    except RecallkError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({why(error)}); choose another place, or make room") from None
    except Exception as error:
        if not isinstance(error, RuntimeError | ValueError) and type(error).__name__ != "SafetensorError":
            raise
        full = _is_full(path.parent)  # which PyTorch and safetensors say in words of their own
        reason = "No space left on device); choose another place, or make room" if full else f"{one_line(error)})"
        raise InputError(f"{path}: cannot be written ({reason}") from None


def _is_full(folder: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(folder).free < _ROOM
    return False


def make_folder(path: Path) -> None:
    """Make a folder, and those above it. Raises InputError, one line, where that cannot be."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def why(error: BaseException) -> str:
    """Return the system's own words for an error, such as "Permission denied"."""
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's entries, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
