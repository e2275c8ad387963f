"""The sockets' folder is one in which their addresses fit; all other temporary files are made where they were."""

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import util
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from recallk.core.sockets import LONGEST_ADDRESS, make_socket_folder

IN_FOLDER = len("/pymp-12345678/listener-12345678")


@pytest.fixture
def root() -> Iterator[Path]:
    """Return a folder with a short name, which pytest's are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def parent_of_sockets(temporary: Path) -> Path:
    """Return where the folder of sockets is in a process of its own, with `temporary` as its TMPDIR."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
        return process.submit(_parent_of_sockets, temporary).result()


def _parent_of_sockets(temporary: Path) -> Path:
    multiprocessing.current_process()._config["tempdir"] = None  # type: ignore[attr-defined]
    tempfile.tempdir = str(temporary)
    for _ in range(2):
        make_socket_folder()
        assert tempfile.gettempdir() == str(temporary)
        with Listener(family="AF_UNIX") as listener:
            assert Path(str(listener.address)).is_socket()
        shutil.rmtree(util.get_temp_dir())  # as what tidies /tmp up may do: it is made again
    make_socket_folder()
    return Path(util.get_temp_dir()).parent


@pytest.mark.parametrize("beyond", [0, 1, 100])
def test_a_folder_that_is_too_long_is_not_used(root: Path, beyond: int) -> None:
    folder = root / ("x" * (LONGEST_ADDRESS - IN_FOLDER - len(str(root)) - 1 + beyond))
    folder.mkdir()
    assert parent_of_sockets(folder) == (Path("/tmp") if beyond else folder)


def test_the_limit_is_one_of_bytes(root: Path) -> None:
    folder = root / ("文" * 40)
    folder.mkdir()
    assert parent_of_sockets(folder) == Path("/tmp")


def test_a_folder_that_is_gone_is_told(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        parent_of_sockets(root / "gone")
