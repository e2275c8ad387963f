from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data.images import check_image, read_image


def picture(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.linspace(0, 1, 64).reshape(8, 8)
    if mode == "I;16":
        image = Image.fromarray((grey * 65535).astype(np.uint16))
    elif mode == "I":
        image = Image.fromarray((grey * 65535).astype(np.int32))
    elif mode == "F":
        image = Image.fromarray((grey * 7).astype(np.float32))
    else:
        image = Image.fromarray((grey * 255).astype(np.uint8)).convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I", "F") else "image.png")
    image.save(path)
    read = read_image(path)
    assert read.mode == "RGB"
    tolerance = 255 if mode == "1" else 6  # one bit is dithered
    expected = np.repeat((grey * 255)[:, :, None], 3, 2)
    assert np.abs(np.asarray(read, dtype=float) - expected).max() <= tolerance
    assert np.abs(np.asarray(read, dtype=float).mean() - 127.5) < 12


def test_transparent_is_white_and_the_camera_is_turned_upright(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    image = Image.new("RGB", (40, 20), "blue")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (20, 40)


def broken_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("cut.jpg", "cut.png", "text.jpg", "missing.jpg", "empty.png")}
    picture(200, 200).save(files["cut.jpg"])
    picture(200, 200).save(files["cut.png"])
    for name in ("cut.jpg", "cut.png"):
        whole = files[name].read_bytes()
        files[name].write_bytes(whole[: len(whole) // 2])
    files["text.jpg"].write_text("no image at all")
    files["empty.png"].touch()
    return files


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "text.jpg", "missing.jpg", "empty.png"])
def test_broken_files_are_named_by_both_checks(tmp_path: Path, name: str) -> None:
    path = broken_files(tmp_path)[name]
    for read in (read_image, check_image):
        with pytest.raises(InputError, match=name):
            read(path)


def test_whole_files_pass_the_check(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "webp", "bmp", "gif", "tif"):
        path = tmp_path / f"whole.{suffix}"
        picture().save(path)
        check_image(path)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        "a.jpg",
    ],
)
def test_pixels_of_another_type_or_shape_are_one_line(pixels: Any) -> None:
    with pytest.raises(InputError, match=r"pixels are|an image is a str") as caught:
        read_image(pixels)
    assert "\n" not in str(caught.value)


def test_pixels_grey_and_in_colour() -> None:
    assert read_image(np.full((2, 3), 7, np.uint8)).getpixel((2, 1)) == (7, 7, 7)
    assert read_image(np.full((2, 3, 3), (1, 2, 3), np.uint8)).getpixel((2, 1)) == (1, 2, 3)
