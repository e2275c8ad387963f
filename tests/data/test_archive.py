"""Images inside of .tar archives: found as Python's own module finds them, read in place; damaged ones in a line."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recallk import InputError
from recallk.data.archive import ArchiveImages, files_in
from recallk.data.headers import upright_size
from recallk.data.images import check_image, read_image
from recallk.data.item import ArchiveMember, Region
from tests.data import limits
from tests.data.instance_miniatures import encoded, shard

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["folder" * 8] * 6) + "/image.jpg"  # more than the 255 characters of a plain header


def written(path: Path, form: int, names: list[str], mtime: float = 0) -> Path:
    """Write an archive whose files have contents of various lengths, among them folders and links."""
    with tarfile.open(path, "w", format=form) as archive:
        for number, name in enumerate(names):
            folder = tarfile.TarInfo(f"folder{number}")
            folder.type = tarfile.DIRTYPE
            link = tarfile.TarInfo(f"link{number}.jpg")
            link.type, link.linkname = tarfile.LNKTYPE, name if form != tarfile.USTAR_FORMAT else "a"
            link.size = 600  # of the file that it is another name of; no content follows
            file = tarfile.TarInfo(name)
            file.size, file.mtime = 511 * number, mtime
            for info in (folder, link, file) if number % 2 == 0 else (file,):
                archive.addfile(info, io.BytesIO(bytes([number]) * info.size) if info is file else None)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_found_as_by_python(tmp_path: Path, form: str) -> None:
    names = ["a.jpg", "b/c.jpg", *([LONG] if form != "ustar" else []), "b/c.json", "é.jpg", ("x" * 90 + "/") * 2 + "y"]
    names += ["z.jpg"]
    path = written(tmp_path / "a.tar", FORMATS[form], names, 0.5 if form == "pax" else 7)
    with tarfile.open(path) as archive:
        expected = [(info.name, info.offset_data, info.size) for info in archive if info.isfile()]
    assert [name for name, _, _ in expected] == names
    assert list(files_in(path)) == expected


def test_sizes_beyond_octal_digits(tmp_path: Path) -> None:
    """More than 8 GB, which GNU writes in base 256: the archive is a file with a hole, and takes no room."""
    info = tarfile.TarInfo("large.jpg")
    info.size = 9 << 30
    path = tmp_path / "large.tar"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + info.size)
        file.write(tarfile.TarInfo("next.jpg").tobuf() + bytes(1024))
    assert list(files_in(path)) == [("large.jpg", 512, 9 << 30), ("next.jpg", 1024 + (9 << 30), 0)]


def test_images_of_several_archives(tmp_path: Path) -> None:
    first = shard(tmp_path / "0.tar", ["2.jpg", "readme.txt", ".hidden.jpg", "1.JPG", "a/._1.jpg"])
    second = shard(tmp_path / "1.tar", ["3.png"])
    images = ArchiveImages([first, second])
    assert [(member.archive, member.name) for member in images] == [
        (first, "2.jpg"),
        (first, "1.JPG"),
        (second, "3.png"),
    ]
    assert images[-1] == images[2]
    assert images[1:] == [images[1], images[2]]
    with pytest.raises(IndexError):
        images[3]
    for member in images:
        assert member.archive.read_bytes()[member.offset :][: member.size].startswith(b"\xff\xd8")


def test_an_image_is_read_in_its_place(tmp_path: Path) -> None:
    images = ArchiveImages([shard(tmp_path / "0.tar", ["0.jpg", "1.jpg", "2.jpg"])])
    for number, member in enumerate(images):
        alone = tmp_path / member.name
        alone.write_bytes(encoded(3, number))
        assert np.array_equal(np.asarray(read_image(member)), np.asarray(read_image(alone)))
        assert upright_size(member) == upright_size(alone) == (64, 48)
        part = Region(member, (4, 3, 20, 30))
        assert np.array_equal(np.asarray(read_image(part)), np.asarray(read_image(alone))[3:30, 4:20])
        check_image(member)


def test_a_broken_image_is_named_with_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in (("cut.jpg", encoded(0)[:-300]), ("text.jpg", b"no image")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    cut, text = ArchiveImages([path])
    with pytest.raises(InputError, match=rf"^{path}, cut.jpg: truncated or broken image"):
        check_image(cut)
    with pytest.raises(InputError, match=rf"^{path}, cut.jpg: truncated or broken image"):
        read_image(cut)
    with pytest.raises(InputError, match=rf"^{path}, text.jpg: not an image"):
        read_image(text)
    path.unlink()
    with pytest.raises(InputError, match=rf"^{path}, cut.jpg: no such image"):
        read_image(cut)
    with pytest.raises(InputError, match="a folder, not a file"):
        read_image(ArchiveMember(tmp_path, "a.jpg", 0, 1))


def cut(count: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:count]


def changed(at: int, by: bytes) -> Callable[[bytes], bytes]:
    """Replace bytes of the first header, whose checksum is made to fit."""

    def change(content: bytes) -> bytes:
        header = bytearray(content[:512])
        header[at : at + len(by)] = by
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        return bytes(header) + content[512:]

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut(0), "(empty)"),
        (cut(100), "(truncated)"),
        (cut(700), "(truncated)"),
        (lambda content: b"\x1f\x8b" + content, "(a damaged header)"),
        (lambda content: content[:1024] + b"x" * 512 + content[1536:], "(a damaged header)"),
        (lambda content: content[:1024] + content[1024:1500], "(truncated)"),
        (changed(156, b"S"), "a file with holes"),
        (changed(124, b"-0000000001\0"), "(a damaged header)"),
        (changed(124, b"99999999999\0"), "(a damaged header)"),
        (changed(124, b"\xff" * 12), "(truncated)"),
        (changed(156, b"x"), "not an uncompressed .tar archive"),
    ],
)
def test_a_damaged_archive_is_one_line(tmp_path: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("0.jpg", "1.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 300
            archive.addfile(info, io.BytesIO(b"y" * 300))
    path.write_bytes(spoil(path.read_bytes()))
    with limits.seconds(5), pytest.raises(InputError) as caught:
        list(files_in(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("facts", [b"-9 size=-5\n", b"0 a\n", b"99 size=4\n", b"size", b"11 size=-99\n", b"9 size=x\n"])
def test_hostile_extended_facts_end(tmp_path: Path, facts: bytes) -> None:
    info = tarfile.TarInfo("facts")
    info.type, info.size = b"x", len(facts)
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(facts))
        archive.addfile(tarfile.TarInfo("a.jpg"))
    with limits.seconds(5), pytest.raises(InputError, match="not an uncompressed"):
        list(files_in(path))


def test_an_archive_without_its_empty_end(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", ["0.jpg"])
    (name, offset, size), *_ = files_in(path)
    path.write_bytes(path.read_bytes()[: offset + size])
    assert list(files_in(path)) == [(name, offset, size)]
