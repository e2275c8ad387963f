"""Images that were seen to go wrong, and things in an image's place; always among the first cases."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from recallk.data.images import read_image
from recallk.data.source import read_own
from tests.fuzz.case import Case, FaultError, Place, Refusal
from tests.fuzz.embedding import SIZE, embedder, pixels
from tests.fuzz.hostile import Touch, pickled
from tests.fuzz.miniature import WORDS, save_images


def png(width: int, height: int, bits: int, colour: int, rows: Iterable[bytes]) -> bytes:
    """Return a PNG of these rows of bytes, each made when it is asked for."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(1)
    body = b"".join([packer.compress(b"\0" + row) for row in rows] + [packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def flat(width: int, height: int, bits: int = 8, colour: int = 0, said: tuple[int, int] | None = None) -> bytes:
    """Return a grey PNG of one colour; `said` is the size that its header tells."""
    row = bytes([100]) * (width * bits // 8 * (3 if colour == 2 else 1))
    return png(*(said or (width, height)), bits, colour, (row for _ in range(height)))


def embedded(
    what: str, content: Callable[[], bytes], name: str = "image.png", refusal: Refusal = "may", size: int = SIZE
) -> Case:
    """Return an image that is embedded: an answer or a line, and neither time nor memory."""

    def act(place: Place) -> None:
        path = place.work / name
        path.write_bytes(content())
        with place.watched():
            found = embedder(size).embed([path])
        if not found.isfinite().all():
            raise FaultError("the embedding is not finite")

    return Case(f"image, {what}", act, refusal)


def instead(what: str, make: Callable[[Path], object], planned: bool) -> Case:
    """Return something else where an image should be: given by name, or found in a folder of classes."""

    def act(place: Place) -> None:
        images = save_images(place.work / "data")
        path = images / "class0" / "x.jpg"
        make(path)
        if planned:
            place.command("train", "--data", images, *WORDS, "--run", "run", "--dry-run")
        else:
            embedder().embed([path])

    return Case(f"{what} as image{', in a folder' if planned else ''}", act, "may" if planned else "must")


def _suffixes(place: Place) -> None:
    """Folders of one format each: none may be dropped."""
    formats = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".jfif": "JPEG", ".JPEG": "JPEG"}
    for number, (suffix, kind) in enumerate(formats.items()):
        for folder in (f"{number}a", f"{number}b"):
            (place.work / "data" / folder).mkdir(parents=True)
            for image in range(3):
                Image.fromarray(pixels(image)).save(place.work / "data" / folder / f"{image}{suffix}", format=kind)
    classes = {record.label for record in read_own(str(place.work / "data"))[0]}
    if len(classes) != 12:
        raise FaultError(f"12 folders, {len(classes)} classes")
    place.command("train", "--data", "data", *WORDS, "--run", "run", "--dry-run")


def _skipped(place: Place) -> None:
    """What is passed over is told, by suffix."""
    images = save_images(place.work / "data")
    for name in ("a.txt", "b.txt", "c.mp4"):
        (images / "class0" / name).write_text("x")
    out = place.command("train", "--data", "data", *WORDS, "--run", "run", "--dry-run")
    if ".txt" not in out or ".mp4" not in out:
        raise FaultError(f"nothing is said of 2 .txt and a .mp4: {out!r:.500}")


def _endless_links(place: Place) -> None:
    images = save_images(place.work / "data")
    (images / "class0" / "up").symlink_to(images)
    (images / "class1" / "up").symlink_to(images)
    place.command("train", "--data", "data", *WORDS, "--run", "run", "--dry-run")


def _linked_class(place: Place) -> None:
    """A class may be a link to a folder elsewhere."""
    images = save_images(place.work / "data")
    (images / "class0").rename(place.work / "elsewhere")
    (images / "class0").symlink_to(place.work / "elsewhere")
    found = {record.label for record in read_own(str(images))[0]}
    if len(found) != 6:
        raise FaultError(f"classes {sorted(found)}")


def _corrupt_exif(place: Place) -> None:
    """Where only the EXIF is broken, the pixels are still those of the image."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    whole = bytearray(exif.tobytes())
    whole[-12:-8] = b"\xff\xff\xff\x7f"
    Image.fromarray(pixels(0)).save(file, format="JPEG", exif=bytes(whole[:-7]), quality=95)
    (place.work / "image.jpg").write_bytes(file.getvalue())
    size = read_image(place.work / "image.jpg").size
    if size != (32, 32):
        raise FaultError(f"read as {size}")


def _saved(kind: str, **options: object) -> Callable[[], bytes]:
    def content() -> bytes:
        file = io.BytesIO()
        image = Image.fromarray(pixels(0))
        (image.convert("P") if kind == "BLP" else image).save(file, format=kind, **options)
        return file.getvalue()

    return content


def _avif_cut() -> bytes:
    whole = _saved("AVIF")()
    return whole[: len(whole) // 2]


def _blp_broken() -> bytes:
    return _saved("BLP")()[:60]


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(/tmp/x) (w) file closefile\nshowpage\n%%EOF\n"
)
MACHINES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to nowhere": lambda path: path.symlink_to("nowhere.jpg"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "the endless device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": lambda path: _socket(path),
    "an empty file": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("no image"),
}


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(before)


def _hostile(place: Place) -> None:
    path = place.work / "image.png"
    path.write_bytes(pickled(Touch(place.root / "marker")))
    with place.watched():
        embedder().embed([path])


def _grey_levels(place: Place) -> None:
    """A 16-bit grey image of half its range is half as bright, not black and not white."""
    Image.fromarray(np.full((32, 32), 32768, np.uint16)).save(place.work / "image.png")
    level = int(np.asarray(read_image(place.work / "image.png")).mean())
    if not 120 <= level <= 136:
        raise FaultError(f"half of 16 bits is read as {level} of 255")


FIRST = [
    embedded("1 x 60,000", lambda: flat(1, 60_000), size=256),
    embedded("60,000 x 1", lambda: flat(60_000, 1), size=256),
    embedded("1 x 500,000", lambda: flat(1, 500_000)),
    embedded("16 bits, 13,000 x 13,000", lambda: flat(13_000, 13_000, 16)),
    embedded("RGB, 9,000 x 9,000", lambda: flat(9_000, 9_000, 8, 2)),
    embedded("a header of 60,000 x 60,000", lambda: flat(32, 32, said=(60_000, 60_000))),
    embedded("a header of 2 billion pixels a side", lambda: flat(32, 32, said=(2**31 - 1, 2**31 - 1))),
    embedded("a header of 13,000 x 13,000", lambda: flat(32, 32, said=(13_000, 13_000))),
    embedded("EPS named .jpg", lambda: EPS, "image.jpg", "must"),
    embedded("EPS", lambda: EPS, "image.eps", "must"),
    embedded("AVIF named .jpg", _saved("AVIF"), "image.jpg"),
    embedded("half an AVIF named .jpg", _avif_cut, "image.jpg", "must"),
    embedded("BLP named .jpg", _saved("BLP"), "image.jpg"),
    embedded("a broken BLP named .jpg", _blp_broken, "image.jpg", "must"),
    Case("image, corrupt EXIF", _corrupt_exif),
    Case("image, half of 16 bits", _grey_levels, "must not"),
    Case("classes of .avif and .jfif", _suffixes, "must not"),
    Case("files that are no images are told", _skipped, "must not"),
    Case("two links to the folder above", _endless_links),
    Case("a class that is a link", _linked_class, "must not"),
    Case("a hostile pickle as image", _hostile, "must"),
    *(instead(what, make, planned) for what, make in MACHINES.items() for planned in (False, True)),
]
