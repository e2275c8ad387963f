"""The networks of the paper part by part, and the pixels that they are given whatever the file is."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from recallk import RecallAtKLoss, large_batch_backward
from recallk.data.images import read_image
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.pooling import GeM
from recallk.models.settings import ImageSettings

RESNET = "resnet50.tv_in1k"
VITS = {32: "vit_base_patch32_224.augreg_in21k", 16: "vit_base_patch16_224.augreg_in21k"}


def embedder(backbone: str) -> ImageEmbedder:
    torch.manual_seed(0)
    pooling: Any = "gem" if backbone == RESNET else "token"
    return build(
        ImageSettings(backbone=backbone, pooling=pooling, embedding_size=512, image_size=224, resize=256), "none"
    )


def resnet() -> ImageEmbedder:
    """With batch norms as after some training: fresh ones pass nothing through a block and keep statistics of 0, 1."""
    model = embedder(RESNET)
    with torch.no_grad():
        for layer in batch_norms(model):
            layer.weight.uniform_(0.2, 0.8)
            layer.bias.normal_(0, 0.1)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return model


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def images(count: int, size: int = 224) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def outputs(model: ImageEmbedder, parts: list[str], batch: Tensor) -> dict[str, Tensor]:
    """Return what each of the parts gives, in the order in which they are run, and the embeddings."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.update({name: output})

    hooks = [model.get_submodule(part).register_forward_hook(keep(part)) for part in parts]
    with torch.inference_mode():
        found["embeddings"] = model.eval()(batch)
    for hook in hooks:
        hook.remove()
    return found


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ResNet-50


def bottlenecks(blocks: int, channels: int, inner: int, out: int) -> int:
    """Parameters of a stage: 1x1, 3x3 and 1x1 convolutions, each with scale and shift; a projection in the first."""
    first = channels * inner + 2 * inner + 9 * inner * inner + 2 * inner + inner * out + 2 * out
    other = out * inner + 2 * inner + 9 * inner * inner + 2 * inner + inner * out + 2 * out
    projection = channels * out + 2 * out
    return first + projection + (blocks - 1) * other


def test_resnet_parameters() -> None:
    model = embedder(RESNET)
    stem = 3 * 64 * 7 * 7 + 2 * 64
    stages = [
        bottlenecks(3, 64, 64, 256),
        bottlenecks(4, 256, 128, 512),
        bottlenecks(6, 512, 256, 1024),
        bottlenecks(3, 1024, 512, 2048),
    ]
    assert [count(model.backbone.get_submodule(f"layer{n}")) for n in (1, 2, 3, 4)] == stages
    assert count(model.backbone) == stem + sum(stages) == 25_557_032 - (2048 * 1000 + 1000)  # less the classifier
    assert count(model.pool) == 1
    assert count(model.norm) == 2048 + 2048
    assert count(model.head) == 2048 * 512 + 512
    assert count(model) == stem + sum(stages) + 1 + 2 * 2048 + 2048 * 512 + 512
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_resnet_shapes() -> None:
    stem = ["backbone.conv1", "backbone.maxpool"]
    stages = ["backbone.layer1", "backbone.layer2", "backbone.layer3", "backbone.layer4"]
    found = outputs(embedder(RESNET), [*stem, *stages, "pool", "norm", "head"], images(2))
    assert [(name, tuple(output.shape)) for name, output in found.items()] == [
        ("backbone.conv1", (2, 64, 112, 112)),
        ("backbone.maxpool", (2, 64, 56, 56)),
        ("backbone.layer1", (2, 256, 56, 56)),
        ("backbone.layer2", (2, 512, 28, 28)),
        ("backbone.layer3", (2, 1024, 14, 14)),
        ("backbone.layer4", (2, 2048, 7, 7)),
        ("pool", (2, 2048)),
        ("norm", (2, 2048)),
        ("head", (2, 512)),
        ("embeddings", (2, 512)),
    ]


def test_resnet_is_torchvisions_with_gem_layernorm_and_linear() -> None:
    """The same weights in torchvision's network, and the paper's formula behind it."""
    model = resnet().eval()
    twin = torchvision.models.resnet50()
    unknown = twin.load_state_dict(model.backbone.state_dict(), strict=False)
    assert (unknown.missing_keys, unknown.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    twin.eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images(2) / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        x = twin.maxpool(twin.relu(twin.bn1(twin.conv1(x))))
        x = twin.layer4(twin.layer3(twin.layer2(twin.layer1(x))))
        assert isinstance(model.pool.gem, GeM)
        assert model.pool.gem.p.tolist() == [3.0]
        assert model.pool.gem.eps == 1e-6
        x = x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        x = x @ model.head.weight.T + model.head.bias
        expected = x / x.norm(dim=1, keepdim=True)
        found = model(images(2))
    assert (expected[0] - expected[1]).norm() > 1e-3, "the images should not look the same"
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", ["frozen", "per-chunk"])
def test_frozen_batch_norm_in_training(policy: Any) -> None:
    """Running statistics are used and stay; scale and shift learn, as everything does. Per chunk they move."""
    model, batch, seen = resnet(), images(8, size=64), []
    expected = model.eval()(batch).detach()
    before = {name: value.clone() for name, value in model.named_buffers()}
    assert len(before) == 2 + 3 * 53  # mean and std of the images; 53 batch norms

    def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        seen.append(embeddings.detach())
        value: Tensor = RecallAtKLoss(rank_temperature=0.1)(embeddings, labels)
        return value

    large_batch_backward(model.train(), batch, torch.arange(8) // 4, loss, chunk_size=4, batch_norm=policy)
    still = [name for name, value in model.named_buffers() if torch.equal(value, before[name])]
    if policy == "per-chunk":
        assert still == ["mean", "std"]
        return
    assert still == list(before)
    torch.testing.assert_close(seen[0], expected, rtol=1e-3, atol=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(layer.weight.requires_grad and layer.bias.requires_grad for layer in batch_norms(model))


# ViT-B/32 and ViT-B/16


@pytest.mark.parametrize(("patch", "without_head"), [(32, 87_455_232), (16, 85_798_656)])
def test_vit_parameters(patch: int, without_head: int) -> None:
    model = embedder(VITS[patch])
    patches = (224 // patch) ** 2
    embedding = 3 * patch * patch * 768 + 768
    class_token, positions = 768, (patches + 1) * 768
    attention = 768 * 3 * 768 + 3 * 768 + 768 * 768 + 768
    perceptron = 768 * 3072 + 3072 + 3072 * 768 + 768
    block = 2 * 768 + attention + 2 * 768 + perceptron
    final_norm = 2 * 768
    assert count(model.backbone.get_submodule("patch_embed")) == embedding
    assert count(model.backbone.get_submodule("blocks")) == 12 * block
    backbone = embedding + class_token + positions + 12 * block + final_norm
    assert count(model.backbone) == backbone == without_head
    assert count(model.pool) == 0
    assert count(model.norm) == 768 + 768
    assert count(model.head) == 768 * 512 + 512
    assert count(model) == backbone + 2 * 768 + 768 * 512 + 512
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("patch", "tokens"), [(32, 7 * 7 + 1), (16, 14 * 14 + 1)])
def test_vit_shapes_and_the_additional_norm(patch: int, tokens: int) -> None:
    model = embedder(VITS[patch])
    with torch.no_grad():
        for norm in (
            model.backbone.get_submodule("norm"),
            model.norm,
        ):  # fresh norms scale by 1: two are as good as one
            assert isinstance(norm, nn.LayerNorm)
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    blocks = [f"backbone.blocks.{n}" for n in range(12)]
    found = outputs(model, ["backbone.patch_embed", *blocks, "backbone.norm", "pool", "norm", "head"], images(2))
    assert [(name, tuple(output.shape)) for name, output in found.items()] == [
        ("backbone.patch_embed", (2, tokens - 1, 768)),
        *((name, (2, tokens, 768)) for name in blocks),
        ("backbone.norm", (2, tokens, 768)),
        ("pool", (2, 768)),
        ("norm", (2, 768)),
        ("head", (2, 512)),
        ("embeddings", (2, 512)),
    ]
    weights = model.state_dict()
    x = found["backbone.blocks.11"][:, 0]
    x = F.layer_norm(x, (768,), weights["backbone.norm.weight"], weights["backbone.norm.bias"], eps=1e-6)
    x = F.layer_norm(x, (768,), weights["norm.weight"], weights["norm.bias"])
    x = x @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(found["embeddings"], x / x.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-5)


# images

COLOURS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(255, 255, 0), (20, 90, 200), (0, 0, 0)]]


def blocks_of(colours: Any, size: int = 16) -> NDArray[np.uint8]:
    """Return pixels with a square of each colour, large enough for JPEG."""
    return np.asarray(colours, dtype=np.uint8).repeat(size, 0).repeat(size, 1)


def assert_shows(path: Path, colours: Any, tolerance: int, size: int = 16) -> None:
    read, expected = read_image(path), np.asarray(colours, dtype=int)
    assert read.mode == "RGB"
    pixels = np.asarray(read, dtype=int)
    assert pixels.shape == (expected.shape[0] * size, expected.shape[1] * size, 3)
    middle = pixels[size // 2 :: size, size // 2 :: size]
    assert np.abs(middle - expected).max() <= tolerance, middle.tolist()


def write_png(path: Path, pixels: NDArray[np.uint16], colour_type: int) -> None:
    """Write 16 bits a channel, which Pillow reads and does not write in colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    text = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        text += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(text)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    """As the EXIF standard has it: what lies in the file's first row and first column."""
    upright = blocks_of(COLOURS)
    stored = {
        1: upright,
        2: upright[:, ::-1],  # the first row is the top, the first column the right
        3: upright[::-1, ::-1],  # the bottom, the right
        4: upright[::-1],  # the bottom, the left
        5: upright.transpose(1, 0, 2),  # the left, the top
        6: upright.transpose(1, 0, 2)[::-1],  # the right, the top
        7: upright.transpose(1, 0, 2)[::-1, ::-1],  # the right, the bottom
        8: upright.transpose(1, 0, 2)[:, ::-1],  # the left, the bottom
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    options: Any = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    image.save(tmp_path / f"turned.{suffix}", exif=exif, **options)
    assert_shows(tmp_path / f"turned.{suffix}", COLOURS, 3 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_palette_has_its_colours(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(blocks_of(COLOURS)).quantize(6)
    assert image.mode == "P"
    image.save(tmp_path / f"palette.{suffix}")
    assert_shows(tmp_path / f"palette.{suffix}", COLOURS, 0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_palette_with_transparency_is_laid_on_white(tmp_path: Path, turned: bool) -> None:
    image = Image.fromarray(blocks_of([[0, 1, 2]]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    exif = image.getexif()
    exif[0x0112] = 3 if turned else 1
    image.save(tmp_path / "some.png", transparency=bytes([255, 0, 51]), exif=exif)  # opaque, clear, a fifth of blue
    image.save(tmp_path / "one.gif", transparency=1)
    expected = [(255, 0, 0), (255, 255, 255), (204, 204, 255)]
    assert_shows(tmp_path / "some.png", [expected[::-1] if turned else expected], 1)
    assert_shows(tmp_path / "one.gif", [[(255, 0, 0), (255, 255, 255), (0, 0, 255)]], 0)


def test_a_transparent_colour_or_grey_is_white(tmp_path: Path) -> None:
    Image.fromarray(blocks_of(COLOURS)).save(tmp_path / "colour.png", transparency=(0, 0, 255))
    expected = [[(255, 0, 0), (0, 255, 0), (255, 255, 255)], COLOURS[1]]
    assert_shows(tmp_path / "colour.png", expected, 0)
    Image.fromarray(blocks_of([[0, 90, 200]])).save(tmp_path / "grey.png", transparency=90)
    assert_shows(tmp_path / "grey.png", [[(0, 0, 0), (255, 255, 255), (200, 200, 200)]], 0)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_half_transparent_colours_are_laid_on_white(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(blocks_of([[(0, 0, 255, 255), (0, 0, 255, 51), (100, 50, 0, 0)]]))
    assert image.mode == "RGBA"
    options: Any = {"lossless": True} if suffix == "webp" else {}
    image.save(tmp_path / f"alpha.{suffix}", **options)
    assert_shows(tmp_path / f"alpha.{suffix}", [[(0, 0, 255), (204, 204, 255), (255, 255, 255)]], 1)


def test_grey_with_alpha_is_laid_on_white(tmp_path: Path) -> None:
    grey, alpha = blocks_of([[0, 0, 100, 100]]), blocks_of([[255, 51, 255, 0]])
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(tmp_path / "alpha.png")
    assert_shows(tmp_path / "alpha.png", [[(0,) * 3, (204,) * 3, (100,) * 3, (255,) * 3]], 1)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_printing_inks_become_their_colours(tmp_path: Path, suffix: str) -> None:
    inks = [[(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 155)]]
    image = Image.merge("CMYK", [Image.fromarray(channel) for channel in blocks_of(inks).transpose(2, 0, 1)])
    options: Any = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    image.save(tmp_path / f"inks.{suffix}", **options)
    colours = [[(0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0), (255, 255, 255), (100, 100, 100)]]
    assert_shows(tmp_path / f"inks.{suffix}", colours, 3)


def test_16_bits_a_channel_are_scaled_to_8(tmp_path: Path) -> None:
    """65,535 is white: a value is 257 times that of 8 bits."""
    colours = blocks_of(COLOURS).astype(np.uint16) * 257
    write_png(tmp_path / "colour.png", colours, colour_type=2)
    assert_shows(tmp_path / "colour.png", COLOURS, 1)

    alpha = blocks_of([[255, 51, 0], [255, 255, 255]]).astype(np.uint16) * 257
    write_png(tmp_path / "colour and alpha.png", np.dstack([colours, alpha]), colour_type=6)
    over_white = [[(255, 0, 0), (204, 255, 204), (255, 255, 255)], COLOURS[1]]
    assert_shows(tmp_path / "colour and alpha.png", over_white, 1)

    grey = blocks_of([[0, 90, 200, 255]]).astype(np.uint16) * 257
    write_png(tmp_path / "grey.png", grey, colour_type=0)
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    (tmp_path / "grey.pgm").write_bytes(b"P5 64 16 65535\n" + grey.astype(">u2").tobytes())
    for name in ("grey.png", "grey.tif", "grey.pgm"):
        assert_shows(tmp_path / name, [[(0,) * 3, (90,) * 3, (200,) * 3, (255,) * 3]], 1)

    alpha = blocks_of([[255, 51, 255, 0]]).astype(np.uint16) * 257
    write_png(tmp_path / "grey and alpha.png", np.dstack([grey, alpha]), colour_type=4)
    assert_shows(tmp_path / "grey and alpha.png", [[(0,) * 3, (222,) * 3, (200,) * 3, (255,) * 3]], 1)
