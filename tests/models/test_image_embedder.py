import doctest
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from recallk import InputError
from recallk.models import image_embedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.pooling import GeM
from recallk.models.settings import ImageSettings

CONVOLUTIONAL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "resize": 32, "embedding_size": 8}
TRANSFORMER = CONVOLUTIONAL | {"backbone": "test_vit", "pooling": "token"}
IMAGES = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(image_embedder).attempted == 7
    assert doctest.testmod(image_embedder).failed == 0


@pytest.mark.parametrize(
    "settings",
    [
        CONVOLUTIONAL,
        CONVOLUTIONAL | {"pooling": "average"},
        CONVOLUTIONAL | {"backbone": "test_convnext", "image_size": 64, "resize": 64},
        TRANSFORMER,
        TRANSFORMER | {"pooling": "average"},
        TRANSFORMER | {"pooling": "gem"},
        CONVOLUTIONAL | {"backbone": "swin_tiny_patch4_window7_224", "image_size": 64, "resize": 64},
    ],
)
def test_embeddings_have_unit_length_and_every_parameter_learns(settings: dict[str, Any]) -> None:
    embedder = build(ImageSettings(**settings), "none").train()
    size = settings["image_size"]
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    embeddings = embedder(images)
    assert embeddings.shape == (4, 8)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    torch.autograd.backward((embeddings * torch.randn(4, 8)).sum())
    unused = [name for name, parameter in embedder.named_parameters() if parameter.grad is None]
    # some timm families keep a norm behind the features, in the head that an embedder replaces
    assert all(name.startswith("backbone.head.") for name in unused)


def test_the_head_is_layernorm_then_linear() -> None:
    embedder = build(ImageSettings(**CONVOLUTIONAL), "none").eval()
    features = embedder.backbone.forward_features((IMAGES - embedder.mean) / embedder.std)  # type: ignore[operator]
    pooled = features.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    expected = nn.functional.normalize(embedder.head(embedder.norm(pooled)), dim=1)
    torch.testing.assert_close(embedder(IMAGES), expected)


def test_a_class_token_is_the_first_of_the_normed_tokens() -> None:
    embedder = build(ImageSettings(**TRANSFORMER), "none").eval()
    tokens = embedder.backbone.forward_features((IMAGES - embedder.mean) / embedder.std)  # type: ignore[operator]
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:2]), atol=1e-5, rtol=0)  # normed already
    assert torch.equal(embedder.pool(tokens), tokens[:, 0])


def test_gem_is_between_the_mean_and_the_largest() -> None:
    places = torch.rand(2, 9, 5)
    torch.testing.assert_close(GeM(p=1.0)(places), places.mean(1))
    torch.testing.assert_close(GeM(p=200.0)(places.double()), places.double().amax(1), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("settings", "weights", "message"),
    [
        ({"backbone": "resnet5"}, "none", "timm has no model of this name; near it: "),
        ({"pooling": "token"}, "none", "class token"),
        ({}, "/no/such/file", "no such file"),
    ],
)
def test_wrong_settings_get_one_line(settings: dict[str, Any], weights: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(ImageSettings(**(CONVOLUTIONAL | settings)), weights)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    """With the classifier that such files have, and that an embedder does not need."""
    state = timm.create_model("test_resnet", num_classes=10).state_dict()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        save_file(state, path)
    backbone = build(ImageSettings(**CONVOLUTIONAL), str(path)).backbone
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_weights_of_another_architecture_or_no_weights(tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    (tmp_path / "text.pth").write_text("no weights")
    narrow = timm.create_model("test_resnet").state_dict()
    save_file(
        {name: value[:1].clone() for name, value in narrow.items() if value.ndim}, tmp_path / "narrow.safetensors"
    )
    for name, message in (
        ("vit.safetensors", "another architecture than test_resnet"),
        ("narrow.safetensors", "have other shapes"),
        ("text.pth", "not a file of weights"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            build(ImageSettings(**CONVOLUTIONAL), str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(name: str, *, pretrained: bool, **options: Any) -> None:
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(InputError, match=r"--weights PATH.*--weights none") as caught:
        build(ImageSettings(**CONVOLUTIONAL), "pretrained")
    assert "\n" not in str(caught.value)
