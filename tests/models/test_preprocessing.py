"""Every network sees images as its weights were made to see them, and the recipes as the paper has it."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError

from recallk import InputError
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import ImageSettings
from recallk.runs.recipes import find_recipe
from tests.configs import image_config

SMALL: dict[str, Any] = {"image_size": 32, "resize": 32, "embedding_size": 8}


def test_a_network_normalises_as_its_weights_were_made_to() -> None:
    halves = build(ImageSettings(backbone="test_resnet", **SMALL), "none")  # timm: 0.5 for all
    torch.testing.assert_close(halves.mean.flatten(), torch.full((3,), 127.5))
    torch.testing.assert_close(halves.std.flatten(), torch.full((3,), 127.5))
    imagenet = build(ImageSettings(backbone="test_byobnet", **SMALL), "none")
    torch.testing.assert_close(imagenet.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]) * 255)


@pytest.mark.parametrize(
    ("backbone", "mean", "std", "interpolation", "resize"),
    [
        ("vit_base_patch16_224.augreg_in21k", 0.5, 0.5, "bicubic", 249),  # 224 / 0.9
        ("resnet50.tv_in1k", 0.485, 0.229, "bilinear", 256),  # 224 / 0.875
        ("convnext_tiny_in22ft1k", 0.485, 0.229, "bicubic", 256),  # a name of former days
        ("volo_d4_448.sail_in1k", 0.485, 0.229, "bicubic", 224),  # cropped out of more than there is: all there is
    ],
)
def test_defaults_are_timms(backbone: str, mean: float, std: float, interpolation: str, resize: int) -> None:
    settings = image_config({"data": "x", "backbone": backbone}).model_dump()
    found = [settings.get(key, "?")[0] for key in ("mean", "std")]
    assert (*found, settings["interpolation"]) == (mean, std, interpolation)
    assert (settings["image_size"], settings["resize"]) == (224, resize)


def test_what_is_given_is_kept() -> None:
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "resize": 300}
    settings = image_config({"data": "x", "backbone": "test_vit"}, given).model_dump()
    assert {key: settings[key] for key in given} == given
    small: dict[str, Any] = {"backbone": "test_vit", "embedding_size": 8, "image_size": 160, "resize": 160}
    embedder = build(ImageSettings(**(small | {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)})), "none")
    torch.testing.assert_close(embedder.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]) * 255)
    torch.testing.assert_close(embedder.std.flatten(), torch.tensor([0.4, 0.5, 0.6]) * 255)


def test_every_network_of_timm_has_defaults() -> None:
    from recallk.models.preprocessing import preprocessing_of

    names = timm.list_models(include_tags=True)
    assert len(names) > 1000
    for name in names:
        found, listed = preprocessing_of(name), timm.get_pretrained_cfg(name)
        assert found.mean == tuple(listed.mean), name
        assert found.std == tuple(listed.std), name
        assert found.interpolation == listed.interpolation, name


@pytest.mark.parametrize(
    ("listed", "interpolation"),
    [("nearest", "bilinear"), ("bilinear", "bilinear"), ("lanczos", "bicubic"), ("random", "bicubic"), ("", "bicubic")],
)
def test_other_ways_of_scaling_are_mapped(monkeypatch: pytest.MonkeyPatch, listed: str, interpolation: str) -> None:
    from recallk.models.preprocessing import preprocessing_of

    config = timm.models.PretrainedCfg(interpolation=listed)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    preprocessing_of.cache_clear()
    assert preprocessing_of("test_vit").interpolation == interpolation
    preprocessing_of.cache_clear()


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet5", "timm has no model of this name; near it: "),
        ("resnet50.nonsense", "timm has no weights 'nonsense' of it; there are resnet50.a1_in1k"),
        ("hf-hub:a/b", "no model of this name"),
        ("x\x1b[2J\n", r"x\\x1b\[2J\\n: timm has no model"),
    ],
)
def test_an_unknown_network_is_told_while_the_configuration_is_made(backbone: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        image_config({"data": "x", "backbone": backbone})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("weights", ["none", "pretrained"])
@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet50.bogus", "resnet50.bogus: timm has no weights 'bogus' of it; there are resnet50.a1_in1k"),
        ("resnet5", "resnet5: timm has no model of this name; near it: "),
        ("convnext_tiny_in22ft1k.bogus", "timm has no weights 'bogus' of it"),
    ],
)
def test_an_unknown_network_is_told_where_nothing_is_asked_of_it_before(
    backbone: str, message: str, weights: str
) -> None:
    """As all that its weights would say is given."""
    given: dict[str, Any] = ImageSettings(backbone="test_resnet", **SMALL).model_dump()
    with pytest.raises(InputError, match=message) as caught:
        build(ImageSettings(**(given | {"backbone": backbone})), weights)
    assert str(caught.value).isprintable()


def test_a_network_of_one_channel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.models.preprocessing import preprocessing_of

    config = timm.models.PretrainedCfg(input_size=(1, 64, 64), mean=(0.5,), std=(0.5,))
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    preprocessing_of.cache_clear()
    with pytest.raises(InputError, match="takes images of 1 channels"):
        ImageSettings(backbone="test_vit")
    preprocessing_of.cache_clear()


@pytest.mark.parametrize(
    "values",
    [
        {"mean": (0.5, 0.5)},
        {"mean": (0.5, 0.5, 1.1)},
        {"mean": (0.5, 0.5, float("nan"))},
        {"std": (0.5, 0.5, 0)},
        {"std": 0.5},
        {"interpolation": "lanczos"},
        {"embedding_size": 65_537},
        {"image_size": 4_097},
        {"image_size": 64, "resize": 10**9},
    ],
)
def test_values_out_of_range(values: dict[str, Any]) -> None:
    ImageSettings(backbone="test_resnet")
    with pytest.raises(ValidationError):
        ImageSettings(backbone="test_resnet", **values)


def test_sizes_at_their_limits() -> None:
    settings = ImageSettings(backbone="resnet50.tv_in1k", image_size=4_096, embedding_size=65_536)
    assert settings.resize == 4_096


def test_the_demos_network_embeds_as_before_there_were_these_keys() -> None:
    """Numbers of commit fa52b1f: a picture that is scaled, cropped and normalised."""
    torch.manual_seed(0)
    embedder = build(image_config(find_recipe("demo").values), "none").eval()
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    grey = np.tile(np.linspace(0, 255, 90, dtype=np.uint8), (60, 1))
    expected = [
        [-0.0197689347, 0.0407878384, -0.1630515307, 0.0767189562, -0.0605280064, 0.0685831085],
        [-0.0504955724, 0.0108796069, -0.1084146276, 0.0555185378, -0.0524107665, 0.0187863130],
    ]
    torch.testing.assert_close(embedder.embed([noise, grey])[:, :6], torch.tensor(expected), rtol=0, atol=2e-7)
