from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from recallk import InputError
from recallk.core.seeds import mixed_seed
from recallk.data.images import check_image, read_image
from recallk.data.item import Interpolation
from recallk.models.views import test_view, train_view


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


def test_a_test_view_is_the_centre() -> None:
    view = test_view(picture(), 24, 16, "bilinear")
    assert (view.shape, view.dtype) == ((3, 16, 16), torch.uint8)
    assert torch.equal(view, test_view(picture(), 24, 16, "bilinear"))


def test_a_train_view_is_a_function_of_seed_epoch_and_item() -> None:
    def view(seed: int, epoch: int, item: int) -> torch.Tensor:
        return train_view(picture(), 16, (0.1, 0.5), True, "bilinear", seed=seed, epoch=epoch, item=item)

    first = view(1, 2, 3)
    torch.manual_seed(99)  # the state of the process does not matter
    before = torch.get_rng_state()
    assert torch.equal(first, view(1, 2, 3))
    assert torch.equal(before, torch.get_rng_state()), "and is left as it was"
    for other in (view(2, 2, 3), view(1, 3, 3), view(1, 2, 4), view(3, 2, 1)):
        assert not torch.equal(first, other)
    assert first.shape == (3, 16, 16)


def test_seeds_depend_on_the_order() -> None:
    assert len({mixed_seed(*numbers) for numbers in [(1, 2), (2, 1), (1,), (1, 2, 0), (3,)]}) == 5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_thin_images_give_the_centre_of_the_resized_whole(interpolation: Interpolation) -> None:
    for width, height in ((400, 7), (7, 400), (1000, 3), (601, 2), (2, 333), (1, 90), (90, 1)):
        image = picture(width, height).point(lambda value: 96 + value // 4)  # nothing overshoots
        for resize, size in ((24, 16), (16, 16), (37, 32)):
            whole = functional.resize(image, [resize], InterpolationMode(interpolation))
            expected = np.asarray(functional.center_crop(whole, [size, size]), dtype=int)
            view = test_view(image, resize, size, interpolation).permute(1, 2, 0).numpy()
            assert np.abs(view - expected).max() <= 1, (width, height, resize)


def test_ordinary_images_are_resized_as_torchvision_does() -> None:
    for width, height in ((1, 1), (7, 5), (500, 375), (375, 500), (64, 64), (320, 10), (257, 223), (31, 992)):
        image = picture(width, height)
        for resize, size in ((256, 224), (37, 32), (16, 16)):
            whole = functional.resize(image, [resize], InterpolationMode.BILINEAR)
            expected = np.asarray(functional.center_crop(whole, [size, size]))
            assert np.array_equal(test_view(image, resize, size, "bilinear").permute(1, 2, 0), expected)


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
