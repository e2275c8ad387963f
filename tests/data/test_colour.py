"""Every kind of pixels beside the picture that a person would expect, and what it takes in memory."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from recallk.data.images import read_image
from recallk.models.settings import Augmentation
from recallk.models.views import test_view, train_view
from tests.data.limits import megabytes


def levels(path: Path) -> list[int]:
    """The grey levels of an image's first row."""
    read = np.asarray(read_image(path))
    assert (read[:, :, :1] == read).all()
    row: list[int] = read[0, :, 0].tolist()
    return row


def save(folder: Path, values: list[float], kind: str, suffix: str = "tif", **options: Any) -> Path:
    path = folder / f"image.{suffix}"
    Image.fromarray(np.array([values], dtype=kind)).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("kind", "suffix", "values", "expected"),
    [
        ("uint16", "png", [0, 255, 4095, 32768, 65535], [0, 1, 16, 128, 255]),  # 65,535 is white, whatever is there
        ("uint16", "png", [0, 1000, 4095], [0, 4, 16]),
        ("uint16", "tif", [0, 32768, 65535], [0, 128, 255]),
        ("int32", "tif", [0, 100, 255], [0, 100, 255]),
        ("int32", "tif", [0, 2048, 4095], [0, 128, 255]),
        ("int32", "tif", [-5, 32768, 65535], [0, 128, 255]),
        ("int32", "tif", [0, 500_000, 1_000_000], [0, 128, 255]),
        ("int32", "pgm", [0, 1000, 2000], [0, 4, 8]),
        ("float32", "tif", [0, 0.5, 1.0], [0, 128, 255]),
        ("float32", "tif", [0, 0.25, 0.5], [0, 64, 128]),
        ("float32", "tif", [-1, 3.5, 7], [0, 128, 255]),
        ("float32", "tif", [float("nan"), 5, 10], [0, 128, 255]),
        ("float32", "tif", [float("inf"), 0.5, float("-inf")], [255, 128, 0]),
    ],
)
def test_which_value_is_white(tmp_path: Path, kind: str, suffix: str, values: list[float], expected: list[int]) -> None:
    assert levels(save(tmp_path, values, kind, suffix)) == expected


def test_a_tiff_file_that_says_12_bits(tmp_path: Path) -> None:
    """Two samples in three bytes; Pillow gives them as they are."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    pixels = bytes([0xFF, 0xF8, 0x00])  # 4095, 2048
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    entries = entries.replace(struct.pack("<HHII", 258, 4, 1, 12), struct.pack("<HHIHH", 258, 3, 1, 12, 0))
    path = tmp_path / "twelve.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 12) + pixels + b"\0" + struct.pack("<H", 9) + entries + bytes(4))
    assert levels(path) == [255, 128]


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True, True, False]])).save(tmp_path / "bit.png")
    assert levels(tmp_path / "bit.png") == [0, 255, 255, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(read_image(tmp_path / f"moving.{suffix}"), dtype=int) - (255, 0, 0)).max() <= 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("damage", [b"II*", b"MM\0*\0\0\0\x08\xff", b"garbage", b"", b"II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_corrupt_exif_is_read_without_turning(tmp_path: Path, suffix: str, damage: bytes) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (40, 20), "white").save(path, exif=b"Exif\0\0" + damage)
    read = read_image(path)
    assert (read.size, read.getpixel((5, 5))) == ((40, 20), (255, 255, 255))


def test_corrupt_exif_is_not_told(tmp_path: Path) -> None:
    """Of a path or of an image that somebody opened; other warnings are."""
    path = tmp_path / "image.jpg"
    Image.new("RGB", (40, 20), "white").save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01")
    program = f"""
import warnings
from pathlib import Path
from PIL import Image
from recallk.data.images import check_image, read_image
check_image(Path({str(path)!r}))
read_image(Path({str(path)!r}))
from recallk.models.pictures import converted
converted(Image.open({str(path)!r}))
warnings.warn("another")
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "EXIF" not in ran.stderr
    assert "another" in ran.stderr


def noise(height: int, width: int, channels: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "CMYK", "P", "I;16", "F"])
def test_tiles_give_what_the_whole_gives(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.data import colour

    pixels = noise(37, 53)
    if mode == "I;16":
        image = Image.fromarray(pixels.view(np.uint16)[:, :, 0])
    elif mode == "F":
        image = Image.fromarray(pixels[:, :, 0].astype(np.float32))
    else:
        image = Image.fromarray(pixels).convert("RGB" if mode in ("CMYK", "P") else "RGBA").convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    whole = colour.rgb(image)
    monkeypatch.setattr(colour, "_TILE", 8)
    assert colour.rgb(image).tobytes() == whole.tobytes()
    monkeypatch.setattr(colour, "HALVED_FROM", 100)
    half = colour.rgb(image)
    assert half.tobytes() == whole.reduce(2).tobytes()
    assert half.size == (27, 19)


def test_large_images_are_read_at_half_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG file comes so from its decoder."""
    from recallk.data import colour, images

    for module in (colour, images):
        monkeypatch.setattr(module, "HALVED_FROM", 10_000)
    smooth = Image.fromarray(noise(3, 4, 3)).resize((161, 120), Image.Resampling.BICUBIC)
    small = np.asarray(smooth.reduce(2), dtype=int)
    for name in ("a.jpg", "a.png"):
        smooth.save(tmp_path / name, quality=95)
        read = read_image(tmp_path / name)
        assert read.size == (81, 60)
        assert np.abs(np.asarray(read, dtype=int) - small).max() <= 8


def test_sixteen_bits_take_no_copies_of_eight_bytes_a_pixel(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("I;16", (5000, 5000), 30_000).save(path, compress_level=1)
    assert megabytes(lambda: read_image(path)) < 350


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1)])
def test_a_thin_image_is_not_resized_as_a_whole(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "thin.png"
    Image.new("RGB", shape, "red").save(path)

    def view() -> None:
        image = read_image(path)
        for pixels in (
            test_view(image, 256, 224, "bilinear"),
            train_view(image, 224, Augmentation(), "bilinear", seed=0, epoch=1, item=0),
        ):
            assert (pixels.float().mean((1, 2)) - torch.tensor([255, 0, 0])).abs().max() < 1

    assert megabytes(view) < 100
