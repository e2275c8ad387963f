"""What is done to training images by name, or by torchvision's transforms."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from recallk import InputError
from recallk.models.image_embedder import build_image_embedder
from recallk.models.settings import Augmentation, ImageSettings
from recallk.models.views import train_view
from recallk.runs.config import make_config, read_config, to_yaml

JITTER = {"ColorJitter": {"brightness": 0.5, "hue": 0.1}, "RandomGrayscale": {"p": 0.5}}
WHOLE: dict[str, Any] = {"crop_scale": (1, 1), "horizontal_flip": False}


def picture(side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(60, 200, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((4 * side, 4 * side))


def view(augmentation: Augmentation, seed: int = 1, epoch: int = 2, item: int = 3) -> Tensor:
    return train_view(picture(), 32, augmentation, "bilinear", seed=seed, epoch=epoch, item=item)


@pytest.mark.parametrize("augment", ["strong", JITTER], ids=["strong", "listed"])
def test_what_varies_is_a_function_of_seed_epoch_and_item(augment: Any) -> None:
    augmentation = Augmentation(augment=augment)
    first = view(augmentation)
    assert (first.shape, first.dtype) == ((3, 32, 32), torch.uint8)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    other_process = pickle.loads(pickle.dumps(augmentation))
    assert torch.equal(first, view(other_process))
    assert torch.equal(before, torch.get_rng_state())
    others = [view(augmentation, seed=2), view(augmentation, epoch=3), view(augmentation, item=4)]
    assert not any(torch.equal(first, other) for other in others)


def test_the_crop_is_the_same_whatever_follows_it() -> None:
    """Transforms come last: the crop and the mirror are drawn before them."""
    for item in range(8):
        plain = view(Augmentation(), item=item)
        solarised = view(Augmentation(augment={"RandomInvert": {"p": 1}}), item=item)
        assert torch.equal(solarised, 255 - plain)


def test_listed_transforms_are_torchvisions_in_their_order() -> None:
    augmentation = Augmentation(
        augment={"RandomInvert": {"p": 1}, "RandomSolarize": {"threshold": 100, "p": 1}}, **WHOLE
    )
    seen = view(augmentation)
    plain = view(Augmentation(**WHOLE))
    assert torch.equal(seen, v2.functional.solarize(255 - plain, 100))
    assert not torch.equal(seen, 255 - v2.functional.solarize(plain, 100))


def test_strong_is_rand_augment_and_erasing() -> None:
    augmentation = Augmentation(augment="strong", **WHOLE)
    kinds = [type(transform) for transform in augmentation.transforms]
    assert kinds == [v2.RandAugment, v2.RandomErasing]
    plain = view(Augmentation(**WHOLE))
    changed = [float((view(augmentation, item=item).float() - plain.float()).abs().mean()) for item in range(20)]
    assert np.mean(np.array(changed) > 5) > 0.5, "most are clearly changed"


@pytest.mark.parametrize("shape", ["square", "keep"])
def test_without_augmentation_training_sees_what_test_sees(tmp_path: Path, shape: Any) -> None:
    picture().crop((0, 0, 100, 60)).save(tmp_path / "image.png")
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=40, image_shape=shape)
    embedder = build_image_embedder(settings, "none")
    items = [tmp_path / "image.png"]
    none = embedder.training_preparation(items, Augmentation(augment="none"), seed=1, epoch=1)
    assert torch.equal(none.prepare(0), embedder.preparation(items).prepare(0))
    assert none.kind(0) == embedder.preparation(items).kind(0)
    standard = embedder.training_preparation(items, Augmentation(), seed=1, epoch=1)
    assert not torch.equal(none.prepare(0), standard.prepare(0))


def test_a_file_of_transforms_is_written_into_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "colours.yaml"
    file.write_text("ColorJitter: {brightness: 0.5, hue: 0.1}\nRandomGrayscale: {p: 0.5}\n")
    config = make_config({"data": "glyphs", "augment": str(file)})
    file.unlink()
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    again = make_config(read_config(tmp_path / "config.yaml"))
    assert again == config
    in_python = make_config({"data": "glyphs", "augment": {"ColorJitter": {"brightness": (0.5, 1.5)}}})
    (tmp_path / "config.yaml").write_text(to_yaml(in_python))
    assert make_config(read_config(tmp_path / "config.yaml")) == in_python
    assert again.augment == JITTER  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        ("weak", "choose none, standard, strong, or a YAML file"),
        (3, "choose none, standard, strong"),
        ([], "choose none, standard, strong"),
        ("none.yaml", "no such file"),
        ({"Flip": {}}, "'Flip' is no transform of torchvision.transforms.v2"),
        ({"functional": {}}, "'functional' is no transform"),
        ({3: {}}, "'3' is no transform"),
        ({"ColorJitter": 0.5}, "of ColorJitter a table of arguments is needed, such as {p: 0.5}, not 0.5"),
        ({"ColorJitter": {"brigtness": 1}}, "the transform ColorJitter does not work (TypeError"),
        ({"Lambda": {"lambd": "print"}}, "the transform Lambda does not work"),
        ({"RandomCrop": {"size": 8}}, "makes uint8 (3, 8, 8) of uint8 (3, 48, 64), which must stay as it is"),
        ({"ToPILImage": {}}, "makes Image of uint8 (3, 48, 64)"),
        ({"RandomZoomOut": {"p": 0.001}}, "the transform RandomZoomOut makes uint8"),
        ({"Lambda": {"lambd": abs}}, "arguments are numbers, texts, true, false, or lists of them"),
        ({"ColorJitter": {"brightness": float("nan")}}, "arguments are numbers, texts"),
        ({"RandomRotation": {"degrees": 45, "expand": True}}, "which must stay as it is"),
    ],
)
def test_what_is_no_augmentation_is_told(augment: object, told: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(InputError) as raised:
        make_config({"data": "glyphs", "augment": augment})
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert torch.equal(state, torch.get_rng_state())


def test_one_that_resizes_to_the_size_of_the_trial_is_told_when_it_is_used() -> None:
    with pytest.raises(InputError, match=r"augment: the transforms make uint8 \(3, 48, 64\) of uint8 \(3, 32, 32\)"):
        view(Augmentation(augment={"Resize": {"size": [48, 64]}}))
