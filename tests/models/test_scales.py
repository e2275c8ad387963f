"""An embedding of several scales is what a loop over the scales gives."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recallk import InputError
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.scales import checked_scales, scaled
from recallk.models.settings import ImageSettings
from recallk.models.whitening import pca_whitening
from tests.embedders import DIMENSIONS, TextEmbedder, VectorEmbedder

PICTURES = list(np.random.default_rng(0).integers(0, 256, (7, 50, 60, 3), dtype=np.uint8))
CONVOLUTIONAL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 64, "resize": 64, "embedding_size": 8}
HEADLESS = CONVOLUTIONAL | {"head": "none", "embedding_size": 96}
NETWORKS = {
    "linear": (CONVOLUTIONAL, 1),
    "linear, average": (CONVOLUTIONAL | {"pooling": "average"}, 1),
    "whitening": (CONVOLUTIONAL | {"head": "whitening"}, 1),
    "none, average": (HEADLESS | {"pooling": "average"}, 1),
    "none, GeM": (HEADLESS, 2.5),
}


def made(**changes: Any) -> ImageEmbedder:
    torch.manual_seed(0)
    embedder = build(ImageSettings(**(CONVOLUTIONAL | changes)), "none").eval()
    if embedder.pool.gem is not None:
        embedder.pool.gem.p.data[:] = 2.5  # as learned
    return embedder


@torch.no_grad()
def by_hand(embedder: ImageEmbedder, picture: Any, scales: tuple[float, ...], power: float) -> Tensor:
    """Return the embedding of one image: the p-th root of the mean of the p-th powers, divided by its length."""
    view = (embedder.transform(picture)[None].float() - embedder.mean) / embedder.std
    total = torch.zeros(embedder.embedding_size)
    for scale in scales:
        side = math.floor(view.shape[-1] * scale)
        image = F.interpolate(view, (side, side), mode="bilinear", align_corners=False) if scale != 1 else view
        features = embedder.backbone.forward_features(image)  # type: ignore[operator]
        row = embedder.head(embedder.norm(embedder.pool(features)))[0]
        total += (row / row.norm()) ** power
    mean: Tensor = (total / len(scales)) ** (1 / power)
    return F.normalize(mean, dim=0)


@pytest.mark.parametrize("scales", [(1, 2**-0.5, 0.5), (1, 2**0.5, 2**-0.5), (0.5,)])
@pytest.mark.parametrize("network", NETWORKS)
def test_several_scales_are_a_loop_over_them(network: str, scales: tuple[float, ...]) -> None:
    settings, power = NETWORKS[network]
    embedder = made(**settings)
    found = embedder.embed(PICTURES, scales=scales, chunk_size=3)
    expected = torch.stack([by_hand(embedder, picture, scales, power) for picture in PICTURES])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7))
    assert float((found - embedder.embed(PICTURES)).abs().max()) > 1e-3, "the scales count"
    if power != 1 and len(scales) > 1:
        other = torch.stack([by_hand(embedder, picture, scales, 1) for picture in PICTURES])
        assert float((found - other).abs().max()) > 1e-4, "the power counts"


def test_one_scale_of_one_is_the_image_as_it_is() -> None:
    embedder = made()
    assert torch.equal(embedder.embed(PICTURES, scales=[1]), embedder.embed(PICTURES))


def test_a_fitted_whitening_comes_after_the_scales() -> None:
    embedder = made()
    plain = embedder.embed(PICTURES, scales=(1, 0.5))
    embedder.whitening = pca_whitening(plain, 3)
    found = embedder.embed(PICTURES, scales=(1, 0.5))
    assert torch.equal(found, embedder.whitening(plain))
    assert (found.shape, found.dtype) == ((7, 3), torch.float32)
    assert embedder.embed([], scales=(1, 0.5)).shape == embedder.embed([]).shape == (0, 3)
    assert embedder.embedding_size == 3
    assert embedder.settings.embedding_size == 8
    assert "whitening" not in "".join(embedder.state_dict())


@torch.no_grad()
def test_a_transformer_sees_whole_patches() -> None:
    embedder = made(backbone="test_vit", pooling="token", image_size=64)
    view = (embedder.transform(PICTURES[0])[None].float() - embedder.mean) / embedder.std
    rows = []
    for side in (64, 48):  # 0.7 of 64 pixels are 44, of which 48 is the nearest multiple of 16
        image = F.interpolate(view, (side, side), mode="bilinear", align_corners=False)
        row = embedder.head(embedder.norm(embedder.backbone.forward_features(image)[:, 0]))  # type: ignore[operator]
        rows.append(row / row.norm())
    expected = F.normalize(torch.stack(rows).mean(0), dim=1)
    torch.testing.assert_close(embedder.embed(PICTURES[:1], scales=(1, 0.7)), expected, rtol=0, atol=2e-6)


def test_a_network_that_does_not_take_the_scaled_size_says_why() -> None:
    embedder = made(backbone="vit_tiny_patch16_224", pooling="token", image_size=64)
    told = r"^scales: vit_tiny_patch16_224 cannot embed images at scale 0\.5, of 32 x 32 pixels \(.+\); leave"
    with pytest.raises(InputError, match=told) as caught:
        embedder.embed(PICTURES, scales=(1, 0.5))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("embedder", "items"), [(TextEmbedder(), ["a text"]), (VectorEmbedder(), [np.zeros(DIMENSIONS, np.float32)])]
)
def test_what_is_no_image_cannot_be_scaled(embedder: TextEmbedder | VectorEmbedder, items: list[Any]) -> None:
    assert embedder.embed(items, scales=(1,)).shape == (1, 8)
    with pytest.raises(InputError, match=f"scales: {embedder.noun} cannot be scaled"):
        embedder.embed(items, scales=(1, 0.5))


@pytest.mark.parametrize(
    "scales",
    [(), 0.5, None, "1", (0,), (-1,), (math.nan,), (math.inf,), (1e9,), ("1",), (True,), (1,) * 17, (None,), (1j,)],
)
def test_scales_that_cannot_be_are_one_line(scales: Any) -> None:
    with pytest.raises(InputError, match=r"^scales") as caught:
        made().embed(PICTURES, scales=scales)
    assert "\n" not in str(caught.value)


def test_scales_may_be_numbers_of_any_kind() -> None:
    assert checked_scales(np.array([1, 0.5], dtype=np.float32)) == (1.0, 0.5)
    assert checked_scales(iter([1, 2])) == (1.0, 2.0)


def test_a_scaled_side_is_a_whole_number_of_patches() -> None:
    assert [scaled(518, scale, multiple=14, least=14) for scale in (1, 0.7071, 0.5, 0.001, 2)] == [
        518,
        364,
        252,
        14,
        1036,
    ]
    assert [scaled(1024, scale) for scale in (1, 2**-0.5, 0.5, 1e-9)] == [1024, 724, 512, 1]
