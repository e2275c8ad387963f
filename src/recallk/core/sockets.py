"""The folder in which multiprocessing makes the sockets that connect processes."""

import os
import tempfile
from multiprocessing import util
from pathlib import Path

LONGEST_ADDRESS = 103
"""Bytes that the address of a socket may have on macOS; on Linux 107."""

_IN_FOLDER = len("/pymp-12345678/listener-12345678")


def make_socket_folder() -> None:
    """Make the folder now, for this process and those that it starts later: in /tmp where TMPDIR is too long.

    Left to itself, multiprocessing makes it when it is first needed, in the temporary folder whatever the length
    (https://github.com/python/cpython/issues/132124). A reader then fails in a thread that tells nobody, and the
    process that it reads for waits for ever. Raises OSError where no folder can be made.
    """
    before, folder = tempfile.tempdir, tempfile.gettempdir()
    if len(os.fsencode(folder)) + _IN_FOLDER > LONGEST_ADDRESS:
        tempfile.tempdir = "/tmp"
    try:
        made = util.get_temp_dir()
    finally:
        tempfile.tempdir = before
    Path(made).mkdir(0o700, exist_ok=True)  # made long ago, perhaps by the parent process, it may have been tidied away
