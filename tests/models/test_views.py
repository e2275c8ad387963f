"""How an image is cut and scaled, at test and in training."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from recallk.core.seeds import mixed_seed
from recallk.models.preprocessing import Interpolation
from recallk.models.settings import Augmentation
from recallk.models.views import TestViews, TrainViews, test_view, train_view


def picture(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_test_view_is_the_centre() -> None:
    view = test_view(picture(), 24, 16, "bilinear")
    assert (view.shape, view.dtype) == ((3, 16, 16), torch.uint8)
    assert torch.equal(view, test_view(picture(), 24, 16, "bilinear"))


def test_a_train_view_is_a_function_of_seed_epoch_and_item() -> None:
    def view(seed: int, epoch: int, item: int) -> torch.Tensor:
        return train_view(
            picture(), 16, Augmentation(crop_scale=(0.1, 0.5)), "bilinear", seed=seed, epoch=epoch, item=item
        )

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


def test_views_are_put_together_as_the_network_takes_them() -> None:
    images = [np.asarray(picture(width, 30)) for width in (30, 40, 50)]
    settings: dict[str, Any] = {"size": 16, "interpolation": "bilinear"}
    test = TestViews(images, resize=24, **settings)
    train = TrainViews(images, augmentation=Augmentation(crop_scale=(0.2, 0.4)), seed=1, epoch=2, **settings)
    for views in (test, train):
        chunk = views.collate([views.prepare(number) for number in (2, 0)])
        assert (chunk.shape, chunk.dtype) == ((2, 3, 16, 16), torch.uint8)
    assert torch.equal(test.prepare(1), test_view(picture(40, 30), 24, 16, "bilinear"))
    cut = train_view(picture(40, 30), 16, Augmentation(crop_scale=(0.2, 0.4)), "bilinear", seed=1, epoch=2, item=1)
    assert torch.equal(train.prepare(1), cut)
    still = TrainViews(
        images, augmentation=Augmentation(crop_scale=(1, 1), horizontal_flip=False), seed=1, epoch=2, **settings
    )
    assert torch.equal(still.prepare(0), test_view(picture(30, 30), 16, 16, "bilinear"))
