"""The size of an image, told by its header, is that of the image as it is read; so are the pixels of a part of it."""

import struct
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageFile

from recallk import InputError
from recallk.data import colour, images
from recallk.data.formats import FORMATS
from recallk.data.headers import box_of, upright_size
from recallk.data.images import read_image
from recallk.data.item import Region

FILES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "tif": "TIFF", "gif": "GIF", "bmp": "BMP"}
FILES |= {"jp2": "JPEG2000", "ppm": "PPM", "qoi": "QOI"}


def picture(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def saved(path: Path, orientation: int | None = None, **options: Any) -> Path:
    image = picture()
    if orientation is not None:
        exif = image.getexif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return path


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 1,000 pixels are read at half their size."""
    for module in (colour, images):
        monkeypatch.setattr(module, "HALVED_FROM", 1_000)


@pytest.mark.parametrize("suffix", [suffix for suffix, name in FILES.items() if name in FORMATS])
@pytest.mark.parametrize("large", [False, True])
def test_files_of_every_format(tmp_path: Path, suffix: str, large: bool, request: pytest.FixtureRequest) -> None:
    if large:
        request.getfixturevalue("halved")
    turned = (None, *range(1, 9)) if suffix in ("jpg", "png", "webp", "avif", "tif") else (None,)
    for orientation in turned:
        path = saved(tmp_path / f"{orientation}.{suffix}", orientation)
        expected = read_image(path).size
        with mock.patch.object(ImageFile.ImageFile, "load", side_effect=AssertionError("decoded")):
            assert upright_size(path) == expected, orientation
        assert sorted(expected) == ([15, 20] if large else [30, 40])
        assert (expected[0] < expected[1]) == ((orientation or 1) > 4)


def test_odd_sides_are_halved_as_they_are_read(tmp_path: Path, halved: None) -> None:
    for suffix in ("jpg", "png"):
        for size in ((41, 31), (101, 13), (13, 101)):
            path = tmp_path / f"{size}.{suffix}"
            picture(*size).save(path)
            assert upright_size(path) == read_image(path).size == (-(-size[0] // 2), -(-size[1] // 2))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_png_file_may_say_how_it_was_held_after_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = saved(tmp_path / "plain.png").read_bytes()
    end = plain.index(b"IEND") - 4
    late = tmp_path / "late.png"
    late.write_bytes(plain[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[end:])
    assert upright_size(late) == read_image(late).size == (30, 40)
    late.write_bytes(plain[:end] + chunk(b"tEXt", b"Title\0a picture") + plain[end:])
    assert upright_size(late) == read_image(late).size == (40, 30)


def test_corrupt_exif_data_is_as_upright(tmp_path: Path) -> None:
    picture().save(tmp_path / "corrupt.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert upright_size(tmp_path / "corrupt.jpg") == read_image(tmp_path / "corrupt.jpg").size == (40, 30)


def test_pixels_in_memory(halved: None) -> None:
    for shape in ((30, 40), (30, 40, 3), (900, 2)):
        pixels = np.zeros(shape, np.uint8)
        assert upright_size(pixels) == read_image(pixels).size == shape[1::-1]
    with pytest.raises(InputError, match="pixels are float32"):
        upright_size(np.zeros((3, 4), np.float32))


def test_what_is_no_image_is_the_line_of_reading_it(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(InputError) as read:
            read_image(tmp_path / name)
        with pytest.raises(InputError) as told:
            upright_size(tmp_path / name)
        assert str(told.value) == str(read.value)


# parts


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((3, 4, 20, 30), (3, 4, 20, 30)),
        ((2.5, 3.5, 19.6, 9.4), (2, 4, 20, 9)),  # as Pillow rounds
        ((-5, -1e9, 10, 12), (0, 0, 10, 12)),
        ((25, 20, 1e300, 50), (25, 20, 40, 30)),
        ((-1, -1, 99, 99), (0, 0, 40, 30)),
    ],
)
def test_a_part_is_the_box_of_the_upright_image(tmp_path: Path, box: Any, pixels: Any) -> None:
    upright = picture()
    turned = saved(tmp_path / "turned.png", 6)  # 30 x 40 once it is upright
    for image, whole in ((np.asarray(upright), upright), (turned, read_image(turned))):
        part = Region(image, box)
        left, top, right, bottom = map(round, box)  # as Pillow does
        expected = whole.crop((max(left, 0), max(top, 0), min(right, whole.width), min(bottom, whole.height)))
        assert np.array_equal(np.asarray(read_image(part)), np.asarray(expected))
        assert upright_size(part) == expected.size
    assert box_of(Region(np.asarray(upright), box)) == pixels


def test_the_box_of_an_image_read_at_half_its_size(tmp_path: Path, halved: None) -> None:
    path = saved(tmp_path / "large.png")
    part = Region(path, (10, 4, 31, 20))
    assert box_of(part) == (5, 2, 16, 10)
    assert upright_size(part) == (11, 8)
    assert np.array_equal(np.asarray(read_image(part)), np.asarray(read_image(path).crop((5, 2, 16, 10))))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 20), "holds no pixel"),
        ((20, 10, 10, 20), "holds no pixel"),
        ((40, 0, 50, 10), "holds no pixel of the image, which has 40 x 30"),
        ((-9, -9, 0, 0), "holds no pixel"),
        ((1.1, 0, 1.4, 9), "holds no pixel"),
        ((0, 0, float("nan"), 9), "give four numbers"),
        ((0, 0, float("inf"), 9), "give four numbers"),
        ((0, 0, 9), "give four numbers"),
        ((0, 0, "9", 9), "give four numbers"),
    ],
)
def test_a_box_that_holds_nothing(tmp_path: Path, box: Any, message: str) -> None:
    path = saved(tmp_path / "image.png")
    for part in (Region(path, box), Region(np.asarray(picture()), box)):
        for act in (upright_size, read_image):
            with pytest.raises(InputError, match=message) as caught:
                act(part)
            assert "\n" not in str(caught.value)
            assert isinstance(part.image, np.ndarray) or str(path) in str(caught.value)
