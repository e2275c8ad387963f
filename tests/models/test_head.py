"""What follows the pooling: layer norm and linear, whitening and linear, or nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recallk import InputError
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import ImageSettings

CHANNELS = 96
SETTINGS: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "resize": 32, "embedding_size": 8}
IMAGES = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PICTURES = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), dtype=np.uint8))


def made(**changes: Any) -> ImageEmbedder:
    torch.manual_seed(0)
    return build(ImageSettings(**(SETTINGS | changes)), "none").eval()


def pooled(embedder: ImageEmbedder) -> torch.Tensor:
    normalised = (IMAGES - embedder.mean) / embedder.std
    features: torch.Tensor = embedder.backbone.forward_features(normalised)  # type: ignore[operator]
    return features.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


def test_whitening_is_unit_length_then_linear() -> None:
    embedder = made(head="whitening")
    assert isinstance(embedder.head, nn.Linear)
    unit = F.normalize(pooled(embedder), dim=1)
    expected = F.normalize(unit @ embedder.head.weight.T + embedder.head.bias, dim=1)
    torch.testing.assert_close(embedder(IMAGES), expected)


def test_without_a_head_the_pooled_features_are_the_embedding() -> None:
    embedder = made(head="none", embedding_size=CHANNELS)
    torch.testing.assert_close(embedder(IMAGES), F.normalize(pooled(embedder), dim=1))
    assert not [name for name in embedder.state_dict() if not name.startswith(("backbone.", "pool."))]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"head": "none"}, "embedding_size=8: without a head an embedding has the network's 96 dimensions; "),
        (
            {"head": "whitening", "embedding_size": 97},
            "embedding_size=97: whitening makes no more dimensions than the ",
        ),
    ],
)
def test_a_size_that_a_head_cannot_give(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        made(**changes)
    assert str(caught.value).startswith(told)
    assert f"{CHANNELS}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", ["linear", "whitening"])
def test_the_network_without_its_head_is_an_embedder_too(head: str) -> None:
    embedder = made(head=head)
    bare = embedder.without_head()
    torch.testing.assert_close(bare(IMAGES), F.normalize(pooled(embedder), dim=1))
    expected = made(head="none", embedding_size=CHANNELS)
    expected.load_state_dict({name: v for name, v in embedder.state_dict().items() if name in expected.state_dict()})
    torch.testing.assert_close(bare.embed(PICTURES), expected.embed(PICTURES))
    assert bare.embed([]).shape == (0, CHANNELS)
    assert {id(p) for p in bare.parameters()} < {id(p) for p in embedder.parameters()}, "they are shared"
    assert embedder(IMAGES).shape == (3, 8), "which is as it was"
