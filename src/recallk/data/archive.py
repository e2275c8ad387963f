"""The images inside of uncompressed `.tar` archives, such as the shards of large data sets: found without unpacking."""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from recallk.core.errors import InputError
from recallk.core.files import require_file, why
from recallk.data.formats import named_as_image
from recallk.data.item import ArchiveMember
from recallk.data.names import Names

_BLOCK = 512
_CHECKSUM = slice(148, 156)
_BASE_256 = 0x80  # in the first byte of a number: not octal digits, but bytes
_LONGEST = 1 << 20  # bytes of a name or of a table of extended facts
_WITHOUT_CONTENT = b"123456"  # links, devices, folders and pipes
_FILES = b"\0" + b"07"
_REMEDY = "get it again, or unpack it where it is compressed"


class ArchiveImages(Sequence[ArchiveMember]):
    """The images in some archives, in their order there; about 20 bytes for each, beside its name.

    Raises InputError for a file that is no uncompressed archive, and for a truncated one.
    """

    def __init__(self, archives: Sequence[Path]) -> None:
        self._archives = archives
        self._names, self._of = Names(), array("L")
        self._offsets, self._sizes = array("Q"), array("Q")
        for number, archive in enumerate(archives):
            for name, offset, size in files_in(archive):
                if named_as_image(name):
                    self._names.append(name)
                    self._of.append(number)
                    self._offsets.append(offset)
                    self._sizes.append(size)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, number: int) -> ArchiveMember: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[ArchiveMember]: ...
    def __getitem__(self, number: int | slice) -> ArchiveMember | Sequence[ArchiveMember]:
        numbers = range(len(self))[number]  # raises IndexError, and counts from the end
        return self._member(numbers) if isinstance(numbers, int) else [self._member(number) for number in numbers]

    def _member(self, number: int) -> ArchiveMember:
        archive = self._archives[self._of[number]]
        return ArchiveMember(archive, self._names[number], self._offsets[number], self._sizes[number])


def files_in(archive: Path) -> Iterator[tuple[str, int, int]]:
    """Yield for each regular file in an archive its name, where its content begins, and how many bytes it has.

    Reads the headers alone: https://www.gnu.org/software/tar/manual/html_node/Standard.html, with the long names of
    GNU and the extended facts of POSIX. Raises InputError, one line, for what is no archive, and for a truncated one.
    """
    require_file(archive)
    try:
        with archive.open("rb", buffering=0) as file:
            yield from _files_in(file.fileno(), archive.stat().st_size)
    except OSError as error:
        raise InputError(f"{archive}: cannot be read ({why(error)}); {_REMEDY}") from None
    except ValueError as error:
        raise InputError(f"{archive}: not an uncompressed .tar archive ({error}); {_REMEDY}") from None


def _files_in(file: int, end: int) -> Iterator[tuple[str, int, int]]:
    if end == 0:
        raise ValueError("empty")
    at, facts = 0, dict[str, bytes]()  # of the next file
    while at < end:
        header = os.pread(file, _BLOCK, at)
        if len(header) < _BLOCK:
            raise ValueError("truncated")
        if header[0] == 0 and not any(header):
            return
        if sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ") != _number(header[_CHECKSUM]):
            raise ValueError("a damaged header")
        kind, size, at = header[156:157], _number(header[124:136]), at + _BLOCK
        if kind in b"Lx" and size <= _LONGEST:
            table = os.pread(file, size, at)
            facts |= {"path": table.rstrip(b"\0")} if kind == b"L" else _extended(table)
        elif kind in _WITHOUT_CONTENT:
            size, facts = 0, {}
        elif kind not in b"gK":
            size = int(facts.get("size", size))
            if size < 0 or kind in b"LxS":
                raise ValueError("a damaged header, or a file with holes")
            if at + size > end:
                raise ValueError("truncated")
            if kind in _FILES:
                yield os.fsdecode(facts.get("path", _name(header))), at, size
            facts = {}
        at += -(-size // _BLOCK) * _BLOCK


def _number(field: bytes) -> int:
    if field[0] & _BASE_256:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if digits.strip(b"01234567"):
        raise ValueError("a damaged header")
    return int(digits, 8)


def _name(header: bytes) -> bytes:
    name, _, _ = header[:100].partition(b"\0")
    prefix, _, _ = header[345:500].partition(b"\0")
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _extended(table: bytes) -> dict[str, bytes]:
    """Return the facts of a POSIX header, "LENGTH KEY=VALUE" and a line end each, that matter here."""
    facts = {}
    while table:
        length, _, _ = table.partition(b" ")
        if not 0 < int(length) <= len(table):
            raise ValueError("a damaged header")
        key, _, value = table[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in (b"path", b"size"):
            facts[key.decode()] = value
        table = table[int(length) :]
    return facts
