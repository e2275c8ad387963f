"""Data sets and transforms for a loop of one's own give what the trainer sees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import recallk
from recallk import InputError
from recallk.core.errors import RecallkError
from recallk.models.image_embedder import build_image_embedder
from recallk.runs.image_config import ImageTrainConfig
from tests.miniature_run import SMALL


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label in range(12):
        (root / f"kind{label}").mkdir()
        for number in range(4):
            pixels = noise.integers(0, 255, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"kind{label}" / f"{number}.png")
    return root


def test_a_loop_of_ones_own_sees_what_the_trainer_sees(photos: Path) -> None:
    """Split, batches and views, for one seed, of the trainer's first and second epoch."""
    from recallk.runs.config import make_config
    from recallk.training.plan import prepare

    keys = {"batch_size": 8, "items_per_class": 2, "image_size": 16, "resize": 20, "seed": 3, "select": "last"}
    keys |= {"crop_scale": (0.5, 1), "horizontal_flip": True, "augment": "strong"}
    plan = prepare(make_config(SMALL, {"data": str(photos)}, keys))
    images = recallk.read_images(str(photos), select="last")
    transform = recallk.TrainTransform(16, augment="strong", seed=3)
    sampler = recallk.ClassBatchSampler(images.train.labels, 8, 2, seed=3)
    train = images.train.with_transforms(transform)
    loader = DataLoader(train, batch_sampler=sampler, num_workers=1, persistent_workers=True)
    assert isinstance(plan.config, ImageTrainConfig)
    embedder = build_image_embedder(plan.config, "none")
    for epoch in range(2):
        train.set_epoch(epoch)
        sampler.set_epoch(epoch)
        views = embedder.training_preparation(plan.data.train.items, plan.config, seed=3, epoch=epoch + 1)
        expected = list(plan.sampler.epoch(epoch + 1))
        seen = list(loader)
        assert len(seen) == len(expected) > 0
        for (pixels, labels), numbers in zip(seen, expected, strict=True):
            assert labels.tolist() == plan.data.train.labels[numbers].tolist()
            assert torch.equal(pixels, views.collate([views.prepare(number) for number in numbers]))
    test = images.test.with_transforms(recallk.TestTransform(16, resize=20))
    shown = embedder.preparation(plan.data.test.labelled.items)
    assert all(torch.equal(test[number][0], shown.prepare(number)) for number in range(len(test)))
    assert [images.test.classes[label] for label in images.test.labels] == [
        Path(str(item)).parent.name for item in images.test.items
    ]


def test_transforms_follow_each_other(photos: Path) -> None:
    normalise = v2.Normalize([0.5] * 3, [0.5] * 3)
    test = recallk.read_images(str(photos)).test
    steps = (recallk.TestTransform(16), v2.ToDtype(torch.float32, scale=True), normalise)
    image, label = test.with_transforms(*steps)[2]
    assert (image.shape, image.dtype, label) == ((3, 16, 16), torch.float32, 0)
    plain, _ = test[2]
    assert isinstance(plain, Image.Image)
    assert plain.size == (40, 30)
    assert torch.allclose(image, normalise(recallk.TestTransform(16)(plain) / 255), atol=1e-6)
    assert torch.equal(image, test.with_transforms(*steps)[2 - len(test)][0])
    with pytest.raises(IndexError, match=rf"image {len(test)} of {len(test)}"):
        test[len(test)]
    assert len([label for _, label in iter(test)]) == len(test), "which an IndexError ends"


def test_a_given_split_validation_and_tables(photos: Path, tmp_path: Path) -> None:
    rows = []
    for number, side in enumerate(["train"] * 3 + ["val"] * 2 + ["test"] * 3):
        folder = photos / f"kind{number}"
        rows += [{"picture": str(file), "label": folder.name, "split": side} for file in sorted(folder.iterdir())]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    images = recallk.read_images(str(tmp_path / "list.jsonl"), columns="path=picture")
    assert images.validation is not None
    assert [side.classes for side in (images.train, images.validation, images.test)] == [
        ["kind0", "kind1", "kind2"],
        ["kind3", "kind4"],
        ["kind5", "kind6", "kind7"],
    ]
    alone = recallk.read_images(str(photos), test_fraction=0, select="last")
    assert (len(alone.train), alone.validation, len(alone.test)) == (48, None, 0)


def test_none_is_the_view_of_test() -> None:
    image = Image.effect_noise((50, 40), 60)
    none = recallk.TrainTransform(16, augment="none", resize=20)
    assert torch.equal(none(image, epoch=3, item=4), recallk.TestTransform(16, resize=20)(image))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: recallk.TestTransform(4), "image_size=4"),
        (lambda: recallk.TestTransform(32, resize=16), "resize=16 is smaller than image_size=32"),
        (lambda: recallk.TestTransform(32, interpolation="nearest"), "interpolation='nearest'"),
        (lambda: recallk.TestTransform("large"), "image_size='large'"),  # type: ignore[arg-type]
        (lambda: recallk.TestTransform(32)("nowhere.jpg"), "nowhere.jpg"),
        (lambda: recallk.TestTransform(32)(3), "give a path, a PIL image, or pixels"),  # type: ignore[arg-type]
        (lambda: recallk.TrainTransform(32, augment="weak"), "choose none, standard, strong"),
        (lambda: recallk.TrainTransform(32, crop_scale=(0.5, 0.2)), "the smaller first"),
        (lambda: recallk.TrainTransform(32, seed=-1), "seed=-1"),
        (lambda: recallk.TrainTransform(32)(np.zeros((40, 40), np.uint8), epoch=-3), "epoch=-3"),
        (lambda: recallk.TrainTransform(32)(np.zeros((40, 40), np.uint8), item="1"), "item='1'"),  # type: ignore[arg-type]
        (lambda: recallk.TestTransform(None), "image_size=None"),  # type: ignore[arg-type]
        (lambda: recallk.read_images("nowhere"), "nowhere"),
        (lambda: recallk.read_images("glyphs", epochs=3), "'epochs' is no key of images: one of dataset, columns"),
        (lambda: recallk.read_images("glyphs", items="vectors"), "'items' is no key of images"),
        (lambda: recallk.read_images("glyphs", test_fraction=2), "test_fraction=2"),
        (lambda: recallk.read_images("glyphs", limit_classes=9).train.with_transforms("x"), "'x' cannot be called"),  # type: ignore[arg-type]
        (lambda: recallk.read_images("glyphs", limit_classes=9).train.set_epoch(-1), "epoch=-1"),
        (lambda: recallk.read_images("glyphs", limit_classes=9).train.set_epoch(2**70), "a whole number below 2**63"),
    ],
)
def test_mistakes_are_told_in_a_line(make: Any, told: str) -> None:
    with pytest.raises(RecallkError) as raised:
        make()
    assert isinstance(raised.value, InputError)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
