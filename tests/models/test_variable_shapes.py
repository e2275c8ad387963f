"""Networks that take images of different shapes: embedded in any order alike, saved and loaded; others are refused."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from recallk import InputError, load
from recallk.data.item import Region
from recallk.models.embedder import Embedder
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.saved import save
from recallk.models.settings import ImageSettings
from recallk.models.shapes import Shapes

KEEP: dict[str, Any] = {"image_shape": "keep", "image_size": 64, "embedding_size": 8}
SIDES = [(100, 60), (60, 100), (200, 90), (64, 64), (3, 500), (5, 5), (100, 60), (90, 200), (60, 100)]
PICTURES = [np.random.default_rng(n).integers(0, 256, (*s, 3), dtype=np.uint8) for n, s in enumerate(SIDES)]


def made(backbone: str = "test_resnet", **changes: Any) -> ImageEmbedder:
    torch.manual_seed(0)
    return build(ImageSettings(backbone=backbone, **(KEEP | changes)), "none").eval()


def one_by_one(embedder: Embedder, pictures: list[Any]) -> Tensor:
    return torch.cat([embedder.embed([picture]) for picture in pictures])


@pytest.mark.parametrize(
    ("backbone", "size", "multiple", "least"),
    [
        ("test_resnet", 64, 1, 1),
        ("test_convnext", 64, 1, 32),
        ("test_vit", 64, 16, 16),
        pytest.param(*("vit_tiny_patch16_224", 64, 16, 16), marks=pytest.mark.slow),
        ("vit_small_patch14_dinov2", 70, 14, 14),
        pytest.param(*("vit_small_patch14_reg4_dinov2", 70, 14, 14), marks=pytest.mark.slow),
        ("vit_small_patch16_dinov3", 64, 16, 16),  # rotary positions
        pytest.param(*("eva02_tiny_patch14_224", 70, 14, 14), marks=pytest.mark.slow),  # both
        ("swin_tiny_patch4_window7_224", 64, 4, 4),
        pytest.param(*("swinv2_tiny_window8_256", 64, 4, 4), marks=pytest.mark.slow),
        ("mobilevit_xxs", 64, 1, 1),
        pytest.param(*("xcit_nano_12_p8_224", 64, 1, 1), marks=pytest.mark.slow),
        pytest.param(*("samvit_base_patch16", 64, 16, 16), marks=pytest.mark.slow),
    ],
)
def test_a_network_that_can(backbone: str, size: int, multiple: int, least: int) -> None:
    embedder = made(backbone, image_size=size)
    assert embedder.shapes == Shapes(size, multiple, least)
    views = [embedder.transform(picture) for picture in PICTURES]
    assert len({view.shape for view in views}) > 3
    assert max(max(view.shape[1:]) for view in views) == embedder.shapes.largest
    with torch.no_grad():
        by_hand = torch.cat([embedder(view[None]) for view in views])
    found = embedder.embed(PICTURES, chunk_size=3)
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)
    assert found.std(0).min() > 1e-4, "the pictures differ"


def test_a_vit_learns_in_every_parameter() -> None:
    embedder = made("test_vit").train()
    embeddings = torch.cat([embedder(embedder.transform(picture)[None]) for picture in PICTURES])
    torch.autograd.backward((embeddings * torch.randn(embeddings.shape)).sum())
    assert all(parameter.grad is not None for parameter in embedder.parameters())
    assert embedder.backbone.pos_embed.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    "backbone",
    ["beit_base_patch16_224", "vit_relpos_small_patch16_224", "mixer_s32_224", "levit_128s", "hiera_tiny_224"],
)
def test_a_network_that_cannot(backbone: str) -> None:
    with pytest.raises(InputError, match="cannot embed images of different shapes") as caught:
        made(backbone, image_size=224)
    told = str(caught.value)
    assert told.startswith(f"backbone={backbone} ")
    assert told.endswith("as image_shape=keep leaves them " + told[told.index("(") :])
    assert "; choose image_shape=square, or another network or size" in told
    assert "use embedder.transform" not in told
    assert told.isprintable()


def test_a_size_smaller_than_a_patch() -> None:
    with pytest.raises(InputError, match="up to image_size=8, as image_shape=keep"):
        made("test_vit", image_size=8)


def test_resize_does_not_matter() -> None:
    with pytest.raises(ValueError, match="resize=32 is smaller"):
        ImageSettings(backbone="test_resnet", image_size=64, resize=32)
    small = made(resize=32)
    assert torch.equal(small.embed(PICTURES), made(resize=4096).embed(PICTURES))


# positions


def test_positions_are_those_of_the_weights_and_interpolated_for_each_shape() -> None:
    """At the network's own size it is the network of squares, whatever `image_size` is."""
    square = made("test_vit", image_shape="square", image_size=160, resize=160)
    keep = made("test_vit", image_size=320)
    keep.load_state_dict(square.state_dict())
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(keep(images), square(images))
        wide = images[..., :96]
        found = keep(wide)
        positions = square.backbone.pos_embed
        assert isinstance(positions, Tensor)
        own = positions[:, 1:].transpose(1, 2).reshape(1, -1, 10, 10)
        scaled = F.interpolate(own, (10, 6), mode="bicubic", antialias=True, align_corners=False)
        narrow = timm.create_model("test_vit", img_size=(160, 96), num_classes=0, global_pool="").eval()
        narrow.load_state_dict(
            dict(square.backbone.state_dict())
            | {"pos_embed": torch.cat([positions[:, :1], scaled.flatten(2).transpose(1, 2)], 1)}
        )
        features = narrow.forward_features((wide - square.mean) / square.std)
        expected = F.normalize(square.head(square.norm(square.pool(features))), dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_weights_of_square_images_are_loaded(tmp_path: Path, backbone: str) -> None:
    state = timm.create_model(backbone).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    settings = ImageSettings(backbone=backbone, **(KEEP | {"image_size": 96}))
    embedder = build(settings, str(tmp_path / "weights.safetensors"))
    for name, value in embedder.backbone.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet", "test_convnext"])
def test_a_model_is_saved_and_loaded(tmp_path: Path, backbone: str) -> None:
    embedder = made(backbone)
    save(embedder, tmp_path)
    again = load(tmp_path)
    assert again.settings == embedder.settings
    assert isinstance(again, ImageEmbedder)
    assert again.shapes == embedder.shapes
    assert torch.equal(again.embed(PICTURES), embedder.embed(PICTURES))


# items of any kind, in any order


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_embedded_in_any_order_as_one_by_one(backbone: str, workers: int, tmp_path: Path) -> None:
    embedder = made(backbone)
    items: list[Any] = [*PICTURES]
    for number, picture in enumerate(PICTURES[:4]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture).save(path)
        items += [path, str(path), Image.fromarray(picture), Region(path, (1, 1, 40, 50))]
    items.append(Region(PICTURES[0], (10, 10, 50, 30)))
    expected = one_by_one(embedder, items)
    for seed, chunk_size in ((0, 1), (1, 2), (2, 128)):
        order = np.random.default_rng(seed).permutation(len(items))
        done: list[int] = []
        found = embedder.embed([items[n] for n in order], chunk_size=chunk_size, workers=workers, advance=done.append)
        torch.testing.assert_close(found, expected[torch.from_numpy(order)], rtol=1e-4, atol=1e-5)
        assert sum(done) == len(items)
        assert max(done) <= chunk_size
    torch.testing.assert_close(expected[9], expected[0], rtol=1e-4, atol=1e-5)
    assert embedder.embed([], workers=workers).shape == (0, 8)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_one_line(workers: int, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    items: list[tuple[Any, str]] = [
        (tmp_path / "text.jpg", r"text\.jpg: not an image"),
        (tmp_path / "missing.jpg", r"missing\.jpg: no such image"),
        (np.full((4, 4), 2.0), "image 1: floats from 2 to 2"),
        (Region(PICTURES[0], (70, 0, 80, 9)), "holds no pixel of the image, which has 60 x 100"),
        (Region(tmp_path, (0, 0, 9, 9)), "a folder, not a file"),
        (Region("a.jpg", (0, 0, 9, 9)), "a.jpg: no such image"),  # type: ignore[arg-type]
        (Region(torch.zeros(3, 4, 4), (0, 0, 2, 2)), "image 1: a part of a Tensor"),  # type: ignore[arg-type]
        (Region(PICTURES[0], None), "give four numbers"),  # type: ignore[arg-type]
    ]
    for item, told in items:
        with pytest.raises(InputError, match=told) as caught:
            made().embed([PICTURES[0], item], workers=workers)
        assert "\n" not in str(caught.value)


def test_parts_of_images_for_a_network_of_squares() -> None:
    embedder = made(image_shape="square", image_size=32, resize=32)
    part = Region(PICTURES[0], (10, 20, 50, 90))
    assert torch.equal(embedder.embed([part]), embedder.embed([PICTURES[0][20:90, 10:50]]))
    assert torch.equal(embedder.transform(part), embedder.transform(PICTURES[0][20:90, 10:50]))


# as a module


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(2, 3, 32, 40), r"images are float32 \(2, 3, 32, 40\), uint8 \(B, 3, H, W\) is needed"),
        (torch.zeros(3, 32, 40, dtype=torch.uint8), r"uint8 \(B, 3, H, W\) is needed"),
        (torch.zeros(1, 4, 32, 40, dtype=torch.uint8), r"uint8 \(B, 3, H, W\) is needed"),
        ([1], r"a tensor \(B, 3, H, W\) uint8 is needed"),
        (torch.zeros(2, 3, 32, 40, dtype=torch.uint8), "sides from 16 pixels that are multiples of 16, .* 40 x 32"),
    ],
)
def test_what_the_network_does_not_take(images: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        made("test_vit")(images)
    assert str(caught.value).endswith(("use embedder.transform", "or embedder.embed for whole files"))


def test_squares_are_still_asked_for() -> None:
    square = made("vit_tiny_patch16_224", image_shape="square", image_size=32, resize=32)
    with pytest.raises(InputError, match=r"uint8 \(B, 3, S, S\) is needed"):
        square(torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
    with pytest.raises(InputError, match="built for images of 32 pixels, these have 48"):
        square(torch.zeros(2, 3, 48, 48, dtype=torch.uint8))


def test_larger_images_than_image_size_are_taken() -> None:
    """As descriptors at several scales need."""
    assert made("test_vit")(torch.zeros(1, 3, 96, 160, dtype=torch.uint8)).shape == (1, 8)


def test_a_chunk_too_small_for_batch_norm_says_what_to_do() -> None:
    embedder = made().train()
    with pytest.raises(InputError, match=r"1 image of 5 x 5 pixels is too little .*batch_norm=frozen"):
        embedder(embedder.transform(PICTURES[5])[None])


def test_an_example_is_the_largest_shape() -> None:
    assert made("test_vit", image_size=79).example(2).shape == (2, 3, 64, 64)
    assert made(image_size=79).example(2).shape == (2, 3, 79, 79)


def test_headers_are_read_once_in_training_and_each_time_at_test(tmp_path: Path) -> None:
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    embedder, path = made(), tmp_path / "a.png"
    with mock.patch("recallk.models.shaped_views.upright_size", return_value=(9, 9)) as asked:
        for epoch in (1, 2):
            embedder.training_preparation([path], mock.Mock(), seed=1, epoch=epoch).kind(0)
        assert asked.call_count == 1
        for _ in range(2):
            embedder.preparation([path]).kind(0)
        assert asked.call_count == 3
