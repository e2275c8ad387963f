import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from recallk import InputError
from recallk.core.text import shown
from recallk.data.images import check_image, read_image
from tests.data.limits import seconds


def picture(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def one_line(path: Path, *parts: str) -> None:
    """Both checks name the file in one line."""
    for read in (read_image, check_image):
        with pytest.raises(InputError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{shown(path)}: ")
        assert "\n" not in message
        for part in parts:
            assert part in message


def read_or_one_line(read: Callable[[Path], object], path: Path) -> None:
    message = f"{shown(path)}: "
    try:
        read(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{shown(path)}: ")
    assert "\n" not in message


def test_the_suffixes_are_those_of_the_formats() -> None:
    from recallk.data.formats import SUFFIXES

    usual = ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .tif .tiff .gif .ppm .pgm .pbm .pnm .jp2 .qoi .mpo"
    assert set(usual.split()) <= SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".psd", ".mpg", ".h5", ".fits", ".txt"} & SUFFIXES
    assert (".avif" in SUFFIXES) == features.check("avif")


@pytest.mark.parametrize("suffix", ["avif", "jfif", "jp2", "qoi", "tiff", "apng", "pnm", "mpo"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (32, 16), (200, 100, 50)).save(path)
    check_image(path)
    read = read_image(path)
    assert (read.size, read.mode) == ((32, 16), "RGB")
    assert np.abs(np.asarray(read, dtype=int) - (200, 100, 50)).max() <= 4


def test_an_image_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    picture().save(tmp_path / "image.eps")
    os.replace(tmp_path / "image.eps", tmp_path / "image.jpg")  # noqa: PTH105
    one_line(tmp_path / "image.jpg", "not an image, or of a format that is not read")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["avif", "blp", "webp", "tif"])
def test_broken_files_of_another_format_are_one_line(tmp_path: Path, suffix: str) -> None:
    """Each of Pillow's formats raises errors of its own for what it cannot decode."""
    image = picture(64, 64)
    (image.quantize(16) if suffix == "blp" else image).save(tmp_path / f"image.{suffix}")
    whole = (tmp_path / f"image.{suffix}").read_bytes()
    path = tmp_path / "image.jpg"
    for length in range(1, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        read_or_one_line(read_image, path)
    if suffix == "blp":
        path.write_bytes(whole)
        one_line(path, "not an image, or of a format that is not read")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "jp2", "ppm", "qoi", "avif"])
def test_mutated_files_are_read_or_one_line(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    dice = random.Random(suffix)
    picture(24, 24).save(tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"mutated.{suffix}"
    for _ in range(25):
        mutated = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            mutated[dice.randrange(min(len(mutated), 200))] = dice.randrange(256)
        path.write_bytes(mutated)
        for read in (check_image, read_image):
            read_or_one_line(read, path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "image.jpg"
    make(path)
    with seconds(10):
        one_line(path, "not a file")


def test_names_that_no_file_has(tmp_path: Path) -> None:
    one_line(tmp_path / "gone.jpg", "no such image")
    one_line(tmp_path / "zero\0byte.jpg", "cannot be read")
    one_line(tmp_path / f"{'long' * 100}.jpg", "cannot be read (File name too long)")


def png(path: Path, width: int, height: int) -> None:
    """Write a PNG file that says it is so large, and has no pixels."""
    Image.new("L", (1, 1)).save(path)
    whole = bytearray(path.read_bytes())
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    path.write_bytes(whole)


@pytest.mark.filterwarnings("ignore")
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    for width, height, told in ((13_300, 13_300, "13,300 x 13,300 pixels; at most 175"), (60_000, 60_000, "175 mega")):
        png(tmp_path / "large.png", width, height)
        one_line(tmp_path / "large.png", told, "scale it down")


def test_formats_that_take_more_memory_have_lower_limits(tmp_path: Path) -> None:
    path = tmp_path / "large.jp2"
    picture().save(path)
    whole = path.read_bytes()
    for old, new in (
        ((40).to_bytes(4, "big"), (8_000).to_bytes(4, "big")),
        ((30).to_bytes(4, "big"), bytes(2) + b"\x1f\x40"),
    ):
        whole = whole.replace(old, new)
    path.write_bytes(whole)
    one_line(path, "at most 32 megapixels of a JPEG2000 file are read")
