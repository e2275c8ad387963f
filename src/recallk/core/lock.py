"""One process at a time in a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from recallk.core.errors import InputError
from recallk.core.files import make_folder, writing

# the system's lock is the process's: it would let a second thread in
_held: set[tuple[int, int]] = set()
_holding = Lock()


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte, which no name has
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process, and every other caller in this one, out of a folder while the context lasts.

    The lock is the file `.lock` in it, made with the folder where need be, and gone afterwards. It ends with its
    process, whatever ends that. Raises InputError, saying who holds it, where it is held already.
    """
    path, there = folder.absolute() / ".lock", _is_there(folder)
    make_folder(folder)
    status = folder.stat()
    identity = status.st_dev, status.st_ino  # however it is spelt
    with _holding:
        if identity in _held:
            raise InputError(f"{folder}: in use by this very process; wait until that has ended")
        _held.add(identity)
    try:
        with _of_the_system(path, folder, there):
            yield
    finally:
        _held.discard(identity)


@contextmanager
def _of_the_system(path: Path, folder: Path, there: bool) -> Iterator[None]:
    try:
        with writing(path):
            descriptor = _open(path)
    except InputError:
        if not there:
            with suppress(OSError):
                folder.rmdir()
        raise
    try:
        yield
    finally:
        with suppress(OSError):  # what went wrong before is what is told
            path.unlink(missing_ok=True)  # while it is held: nobody else can be removing it
        os.close(descriptor)


def _open(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 200).decode("utf-8", "replace") or "another process"
            os.close(descriptor)
            if not isinstance(error, BlockingIOError | PermissionError):
                raise
            raise InputError(f"{path.parent}: in use by {holder}; wait until it ends, or choose another") from None
        try:
            still_there = os.path.samestat(os.fstat(descriptor), path.stat())
        except FileNotFoundError:
            still_there = False
        if still_there:
            _sign(descriptor, path)
            return descriptor
        os.close(descriptor)  # it was removed by its holder between our opening and our locking it


def _sign(descriptor: int, path: Path) -> None:
    """Say in the lock who holds it."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError:  # a full disk
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
