"""Reading: one line for whatever goes wrong. Writing: all or nothing, as the file's own mode says."""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from recallk import InputError
from recallk.core.files import make_folder, read_file, user_path, write_file, write_text


def broken(error: BaseException) -> Callable[[Path], object]:
    def parse(path: Path) -> object:
        raise error

    return parse


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (struct.error("unpack requires 4 bytes"), "not a picture (unpack requires 4 bytes); get it again"),
        (RecursionError("too deep"), "not a picture (too deep)"),
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied); get it again"),
        (type("PanicException", (BaseException,), {})("index out of range"), "not a picture (index out of range)"),
        (ValueError("two\nlines"), "(two lines)"),
    ],
)
def test_whatever_a_parser_raises_is_one_line(tmp_path: Path, error: BaseException, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        read_file(tmp_path / "file", broken(error), "a picture", "get it again")
    assert str(caught.value).startswith(f"{tmp_path / 'file'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interruption_passes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyboardInterrupt):
        read_file(tmp_path / "file", broken(KeyboardInterrupt()), "a picture", "")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, message in (
        ("pipe", "a pipe or a device, not a file"),
        (".", "a folder, not a file"),
        ("nothing", "no such file"),
        ("loop", "cannot be read"),
        ("n" * 300, "File name too long"),
        ("zero\0byte", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_file(tmp_path / name, Path.read_bytes, "a file", "")


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(unfinished: Path) -> None:
        unfinished.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"file: cannot be written \(No space left on device\)"):
        write_file(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nothing_of_somebody_else_is_in_the_way(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "file.unfinished").symlink_to(precious)
    (tmp_path / "notes.unfinished").write_text("mine")
    write_text(tmp_path / "file", "new")
    write_text(tmp_path / "notes", "new")
    assert precious.read_text() == "keep"
    assert (tmp_path / "notes.unfinished").read_text() == "mine"
    assert (tmp_path / "file").read_text() == (tmp_path / "notes").read_text() == "new"


def test_two_may_write_at_a_time(tmp_path: Path) -> None:
    def write(unfinished: Path) -> None:
        unfinished.write_text("outer")
        write_text(tmp_path / "file", "inner")

    write_file(tmp_path / "file", write)
    assert (tmp_path / "file").read_text() == "outer"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 250), "x")
    assert (tmp_path / ("n" * 250)).read_text() == "x"


@pytest.mark.parametrize("error", [MemoryError(), NameError("a mistake of ours")])
def test_what_is_not_the_files_fault_is_not_said_of_it(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(type(error)):
        read_file(tmp_path / "file", broken(error), "a picture", "get it again")
    with pytest.raises(type(error)):
        write_file(tmp_path / "file", broken(error))


def test_the_mode_is_the_users_whatever_the_writer_does(tmp_path: Path) -> None:
    def write(unfinished: Path) -> None:
        unfinished.write_text("x")
        unfinished.chmod(0o600)

    write_file(tmp_path / "file", write)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for path in (tmp_path / ("n" * 300), tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match="cannot be written"):
            write_text(path, "x")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        make_folder(tmp_path / "file" / "below")


def test_a_text_with_bytes_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "a\udcff")
    assert (tmp_path / "file").read_text() == r"a\udcff"


def test_the_home_of_nobody() -> None:
    with pytest.raises(InputError, match="~no-such-user"):
        user_path("~no-such-user/data")
    assert user_path("~") == Path.home()
