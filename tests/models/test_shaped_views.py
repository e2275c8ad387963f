"""What a network sees of images that keep their shape, against plain calls of Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from recallk.data.item import Depicted, Drawing, File, Region
from recallk.models.settings import Augmentation
from recallk.models.shaped_views import ShapedTestViews, ShapedTrainViews
from recallk.models.shapes import Shapes

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
SHAPES = Shapes(64)


def picture(width: int = 200, height: int = 150) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def shown(image: Depicted, shapes: Shapes = SHAPES, interpolation: Any = "bilinear") -> Tensor:
    views = ShapedTestViews([image], shapes, interpolation)
    view = views.prepare(0)
    assert tuple(view.shape[:0:-1]) == views.kind(0), "the header told another shape"
    assert view.nbytes == views.bytes_of(0)
    return view


def trained(
    image: Depicted, crop: tuple[float, float], flip: bool = False, seed: int = 1, epoch: int = 1, number: int = 0
) -> Tensor:
    augmentation = Augmentation(crop_scale=crop, horizontal_flip=flip)
    images = [image] * (number + 1)
    views = ShapedTrainViews(images, SHAPES, "bilinear", augmentation=augmentation, seed=seed, epoch=epoch)
    view = views.prepare(number)
    assert tuple(view.shape[:0:-1]) == views.kind(number)
    return view


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_image_is_shrunk_as_a_whole(tmp_path: Path, interpolation: str) -> None:
    image = picture()
    image.save(tmp_path / "image.png")
    expected = pixels(image.resize((64, 48), BILINEAR if interpolation == "bilinear" else BICUBIC))
    for source in (tmp_path / "image.png", np.asarray(image)):
        assert torch.equal(shown(source, interpolation=interpolation), expected)
    thumbnail = image.copy()
    thumbnail.thumbnail((64, 64), BILINEAR, reducing_gap=None)
    assert torch.equal(shown(np.asarray(image)), pixels(thumbnail)), "as Pillow's thumbnails"


def test_an_image_held_sideways_is_shrunk_upright(tmp_path: Path) -> None:
    image = picture()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(shown(tmp_path / "turned.png"), pixels(upright.resize((48, 64), BILINEAR)))


def test_a_drawing_is_as_large_as_it_says() -> None:
    drawing = Drawing("a:b", '<rect width="8" height="16"/>', (0, 0, 16, 16), 48)
    black = shown(drawing)[:, :, :24]
    assert black.shape == (3, 48, 24)
    assert not black.any()
    assert torch.equal(trained(drawing, (1, 1)), shown(drawing))


def test_a_small_image_stays_as_it_is() -> None:
    image = picture(50, 64)
    assert torch.equal(shown(np.asarray(image)), pixels(image))
    assert torch.equal(trained(np.asarray(image), (1, 1)), pixels(image))


def test_sides_are_multiples() -> None:
    shapes = Shapes(70, multiple=14, least=14)
    assert torch.equal(shown(np.asarray(picture()), shapes), pixels(picture().resize((70, 56), BILINEAR)))
    assert shown(np.asarray(picture(20, 20)), shapes).shape == (3, 14, 14)


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (1, 1), (3, 4_000)])
def test_very_long_images(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    for shapes in (SHAPES, Shapes(64, 16, 32)):
        view = shown(image, shapes)
        assert max(view.shape[1:]) <= 64
        assert min(view.shape[1:]) == shapes.least
        assert bool((view == 200).all())
    assert trained(image, (0.1, 0.5)).shape == shown(image).shape


def test_a_part_is_cropped_and_then_shrunk_as_the_whole_would_be(tmp_path: Path) -> None:
    """METHOD: its longer side becomes image_size * max(crop) / max(image)."""
    image, box = picture(), (20.4, 30, 120, 79.6)
    image.save(tmp_path / "image.png")
    crop = image.crop((20, 30, 120, 80))
    longer = round(64 * max(crop.size) / max(image.size))
    expected = pixels(crop.resize((longer, longer // 2), BILINEAR))
    assert expected.shape == (3, 16, 32)
    for source in (tmp_path / "image.png", np.asarray(image)):
        assert torch.equal(shown(Region(source, box)), expected)
        assert torch.equal(trained(Region(source, box), (1, 1)), expected)
    small = picture(60, 40)
    assert torch.equal(shown(Region(np.asarray(small), (5, 6, 25, 16))), pixels(small.crop((5, 6, 25, 16))))


# training


def test_a_crop_of_everything_is_the_whole_image() -> None:
    for size in ((200, 150), (150, 200), (97, 31), (1, 9), (333, 332)):
        image = np.asarray(picture(*size))
        assert torch.equal(trained(image, (1, 1)), shown(image)), size


@pytest.mark.parametrize("size", [(200, 150), (150, 200), (400, 100)])
def test_a_crop_has_the_shape_of_the_whole(size: tuple[int, int]) -> None:
    """Of a picture whose red grows from left to right and green from top to bottom, both spans tell the crop."""
    width, height = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).round()
    ramp[..., 1] = np.linspace(0, 255, height).round()[:, None]
    lefts = set()
    for number in range(20):
        view = trained(ramp, (0.25, 0.25), number=number).float()
        red, green = (view[channel].amax() - view[channel].amin() for channel in (0, 1))
        assert float(red) == pytest.approx(127, abs=12)  # half of either side
        assert float(green) == pytest.approx(127, abs=12)
        lefts.add(int(view[0].amin()))
    assert len(lefts) > 5


def test_half_of_the_views_are_mirrored() -> None:
    image = np.asarray(picture())
    plain = trained(image, (1, 1))
    views = [trained(image, (1, 1), flip=True, number=number) for number in range(40)]
    mirrored = [torch.equal(view, plain.flip(-1)) for view in views]
    assert all(torch.equal(view, plain) for view, other in zip(views, mirrored, strict=True) if not other)
    assert 8 < sum(mirrored) < 32


def test_a_view_is_a_function_of_seed_epoch_and_item() -> None:
    image = np.asarray(picture())
    first = trained(image, (0.2, 0.5), seed=1, epoch=2, number=3)
    state = torch.get_rng_state()
    assert torch.equal(first, trained(image, (0.2, 0.5), seed=1, epoch=2, number=3))
    assert torch.equal(torch.get_rng_state(), state)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(first, trained(image, (0.2, 0.5), seed=other[0], epoch=other[1], number=other[2]))


def test_headers_are_remembered(tmp_path: Path) -> None:
    picture().save(tmp_path / "image.png")
    known: dict[File, tuple[int, int]] = {}
    views = ShapedTestViews([tmp_path / "image.png", np.asarray(picture())], SHAPES, "bilinear", known)
    assert [views.kind(number) for number in (0, 1, 0)] == [(64, 48)] * 3
    (tmp_path / "image.png").unlink()
    assert views.kind(0) == (64, 48)
    assert list(known) == [tmp_path / "image.png"]
