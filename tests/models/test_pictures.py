"""Whatever an image comes as, its embedding is that of the file with the same picture; anything else gets one line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from recallk import InputError
from recallk.data.archive import ArchiveImages
from recallk.data.item import Region
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import ImageSettings
from tests.data.instance_miniatures import encoded, shard

RNG = np.random.default_rng(0)
COLOUR: NDArray[np.uint8] = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
GREY: NDArray[np.uint8] = COLOUR[:, :, 0].copy()
ALPHA: NDArray[np.uint8] = np.dstack([COLOUR, RNG.integers(0, 256, (40, 50), dtype=np.uint8)])
LINES = GREY > 127


@pytest.fixture(scope="module")
def embedder() -> ImageEmbedder:
    torch.manual_seed(0)
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=36, embedding_size=8)
    return build(settings, "none").eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    pictures = {"colour": COLOUR, "grey": GREY, "alpha": ALPHA, "lines": LINES.astype(np.uint8) * 255}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in pictures}


def assert_same(embedder: ImageEmbedder, image: Any, file: Path) -> None:
    found, expected = embedder.embed([image]), embedder.embed([file])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(embedder.transform(image), embedder.transform(file))


# name of the file with the same picture, the image in another form
FORMS: dict[str, tuple[str, Callable[[], Any]]] = {
    "uint8": ("colour", lambda: COLOUR),
    "uint8 read only": ("colour", lambda: np.frombuffer(COLOUR.tobytes(), np.uint8).reshape(COLOUR.shape)),
    "uint8 strided": ("colour", lambda: np.asfortranarray(COLOUR)),
    "grey": ("grey", lambda: GREY),
    "grey with a channel": ("grey", lambda: GREY[:, :, None]),
    "alpha": ("alpha", lambda: ALPHA),
    "bool": ("lines", lambda: LINES),
    "float32": ("colour", lambda: COLOUR / np.float32(255)),
    "float64": ("colour", lambda: COLOUR / 255),
    "float16": ("colour", lambda: (COLOUR / 255).astype(np.float16)),
    "grey float": ("grey", lambda: GREY / 255),
    "alpha float": ("alpha", lambda: ALPHA / 255),
    "uint16": ("colour", lambda: COLOUR.astype(np.uint16) * 257),
    "uint16 big-endian": ("grey", lambda: (GREY.astype(np.uint16) * 257).astype(">u2")),
    "tensor": ("colour", lambda: torch.from_numpy(COLOUR)),
    "tensor, channels first": ("colour", lambda: torch.from_numpy(COLOUR).permute(2, 0, 1)),
    "tensor, one channel first": ("grey", lambda: torch.from_numpy(GREY)[None]),
    "tensor, alpha first": ("alpha", lambda: torch.from_numpy(ALPHA).permute(2, 0, 1)),
    "tensor without channels": ("grey", lambda: torch.from_numpy(GREY)),
    "tensor of floats": ("colour", lambda: torch.from_numpy(COLOUR) / 255),
    "tensor of bfloat16": ("lines", lambda: torch.from_numpy(LINES).bfloat16()),
    "tensor of bool": ("lines", lambda: torch.from_numpy(LINES)),
    "tensor with a gradient": ("grey", lambda: (torch.from_numpy(GREY) / 255).requires_grad_()),
    "PIL RGB": ("colour", lambda: Image.fromarray(COLOUR)),
    "PIL L": ("grey", lambda: Image.fromarray(GREY)),
    "PIL RGBA": ("alpha", lambda: Image.fromarray(ALPHA)),
    "PIL 1": ("lines", lambda: Image.fromarray(LINES)),
    "PIL I;16": ("grey", lambda: Image.fromarray(GREY.astype(np.uint16) * 257)),
    "PIL I": ("grey", lambda: Image.fromarray(GREY.astype(np.int32) * 257)),
    "PIL F": ("grey", lambda: Image.fromarray(GREY.astype(np.float32) / 255)),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_read_as_the_file_with_the_same_picture(
    embedder: ImageEmbedder, files: dict[str, Path], form: str
) -> None:
    name, image = FORMS[form]
    others = [embedder.embed([path]) for other, path in files.items() if other != name]
    assert all((other - embedder.embed([files[name]])).norm() > 1e-4 for other in others), "pictures look alike"
    assert_same(embedder, image(), files[name])


@pytest.mark.parametrize("kind", [np.uint16, np.float32, np.float64])
def test_finer_shades_are_rounded(kind: Any) -> None:
    settings = ImageSettings(backbone="test_resnet", image_size=8, resize=8, embedding_size=8)
    fine = np.array([0, 100, 128, 129, 385, 386, 65_406, 65_535], np.uint16)  # 257 to a shade of 8 bits
    expected = [0, 0, 0, 1, 1, 2, 254, 255]
    shades = np.tile(fine if kind == np.uint16 else (fine / 65_535).astype(kind), (8, 1))
    assert build(settings, "none").transform(shades)[1, 3].tolist() == expected


@pytest.mark.parametrize("mode", ["P", "PA", "LA", "CMYK", "YCbCr", "HSV", "transparency", "upright"])
def test_a_pil_image_in_any_mode_is_read_as_its_file(embedder: ImageEmbedder, tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(COLOUR)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png")
    if mode == "LA":
        image = Image.fromarray(ALPHA).convert("LA")
    elif mode == "PA":
        Image.fromarray(ALPHA).quantize(200).convert("RGBA").save(path)
        assert_same(embedder, Image.open(path).convert("PA"), path)
        return
    elif mode == "HSV":
        hsv = image.convert("HSV")
        hsv.convert("RGB").save(path)
        assert_same(embedder, hsv, path)
        return
    elif mode == "transparency":
        image = image.quantize(16)
        image.save(path, transparency=3)
        assert_same(embedder, Image.open(path), path)
        return
    elif mode == "upright":
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
        assert_same(embedder, Image.open(path), path)
        return
    else:
        image = image.convert(mode)
    image.save(path)
    assert_same(embedder, image, path)


GREYS: NDArray[np.float32] = RNG.random((40, 50), dtype=np.float32)
HELD = Image.Exif()
HELD[0x0112] = 6

# a file's suffix, the image that is saved in it, with what options
FILES: dict[str, tuple[str, Callable[[], Image.Image], dict[str, Any]]] = {
    "1": ("png", lambda: Image.fromarray(LINES), {}),
    "L": ("png", lambda: Image.fromarray(GREY), {}),
    "L with a clear shade": ("png", lambda: Image.fromarray(GREY), {"transparency": 90}),
    "P": ("gif", lambda: Image.fromarray(COLOUR).quantize(16), {}),
    "P with a clear colour": ("png", lambda: Image.fromarray(COLOUR).quantize(16), {"transparency": 3}),
    "RGB": ("jpg", lambda: Image.fromarray(COLOUR), {}),
    "RGB with a clear colour": ("png", lambda: Image.fromarray(COLOUR), {"transparency": (1, 2, 3)}),
    "RGB on its side": ("jpg", lambda: Image.fromarray(COLOUR), {"exif": HELD}),
    "RGB with broken EXIF": ("jpg", lambda: Image.fromarray(COLOUR), {"exif": b"Exif\0\0II*"}),
    "RGBA": ("png", lambda: Image.fromarray(ALPHA), {}),
    "RGBA on its side": ("png", lambda: Image.fromarray(ALPHA), {"exif": HELD}),
    "LA": ("png", lambda: Image.fromarray(ALPHA).convert("LA"), {}),
    "CMYK": ("jpg", lambda: Image.fromarray(COLOUR).convert("CMYK"), {}),
    "YCbCr": ("tif", lambda: Image.fromarray(COLOUR).convert("YCbCr"), {}),
    "LAB": ("tif", lambda: Image.fromarray(COLOUR, "LAB"), {}),
    "I;16": ("png", lambda: Image.fromarray((GREYS * 65_535).astype(np.uint16)), {}),
    "I;16 in a TIFF file on its side": (
        "tif",
        lambda: Image.fromarray((GREYS * 65_535).astype(np.uint16)),
        {"exif": HELD},
    ),
    "I;16B": ("tif", lambda: Image.fromarray((GREYS * 65_535).astype(">u2")), {}),
    "I to 255": ("tif", lambda: Image.fromarray(GREY.astype(np.int32)), {}),
    "I to 4,095": ("tif", lambda: Image.fromarray((GREYS * 4095).astype(np.int32)), {}),
    "I above 65,535": ("tif", lambda: Image.fromarray((GREYS * 1e6).astype(np.int32)), {}),
    "I below 0": ("tif", lambda: Image.fromarray((GREYS * 255 - 99).astype(np.int32)), {}),
    "I in a PGM file": ("pgm", lambda: Image.fromarray((GREYS * 4000).astype(np.int32)), {}),
    "F": ("tif", lambda: Image.fromarray(GREYS), {}),
    "F above 1": ("tif", lambda: Image.fromarray(GREYS * 7), {}),
    "F with no number": ("tif", lambda: Image.fromarray(np.where(GREYS > 0.5, np.nan, GREYS)), {}),
}


@pytest.mark.parametrize("mode", FILES)
def test_a_path_and_its_opened_image_embed_alike(embedder: ImageEmbedder, tmp_path: Path, mode: str) -> None:
    suffix, image, options = FILES[mode]
    path = tmp_path / f"image.{suffix}"
    image().save(path, **options)
    with Image.open(path) as opened:
        assert opened.mode == mode.split()[0]
        assert_same(embedder, opened, path)
    assert embedder.transform(path).float().std() > 1, "nothing is seen"


def test_fine_shades_are_rounded_alike_in_files_and_arrays(tmp_path: Path) -> None:
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(every).save(tmp_path / "every.png")
    settings = ImageSettings(backbone="test_resnet", image_size=256, resize=256, embedding_size=8)
    whole = build(settings, "none")
    views = [whole.transform(image) for image in (every, tmp_path / "every.png", Image.fromarray(every))]
    expected = torch.from_numpy(np.rint(every / 257).astype(np.uint8))
    for view in views:
        assert torch.equal(view, expected.expand(3, -1, -1))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_list_may_mix_all_of_them(embedder: ImageEmbedder, files: dict[str, Path], workers: int) -> None:
    images: list[Any] = [files["colour"], *(image() for _, image in FORMS.values()), str(files["alpha"])]
    names = ["colour", *(name for name, _ in FORMS.values()), "alpha"]
    expected = torch.cat([embedder.embed([files[name]]) for name in names])
    torch.testing.assert_close(embedder.embed(images, chunk_size=5, workers=workers), expected, rtol=0, atol=1e-5)


def test_lists_of_other_kinds(embedder: ImageEmbedder, files: dict[str, Path]) -> None:
    paths = [files["colour"], files["grey"]]
    expected = embedder.embed(paths)

    def one_after_another() -> Iterator[Path]:
        yield from paths

    batch = np.stack([COLOUR, np.dstack([GREY] * 3)])
    lists: list[Any] = [tuple(paths), one_after_another(), np.array([str(path) for path in paths])]
    batches: list[Any] = [batch, torch.from_numpy(batch), torch.from_numpy(batch).permute(0, 3, 1, 2)]
    for images in lists + batches:
        torch.testing.assert_close(embedder.embed(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "NoneType; give a path"),
        (7, "int; give a path"),
        (b"a.jpg", "bytes; give a path"),
        ([GREY], "list; give a path"),
        (np.zeros((4, 5), np.int64), "pixels are int64"),
        (np.zeros((4, 5), np.complex64), "pixels are complex64"),
        (np.zeros((4, 5), "U1"), "pixels are str"),
        (torch.zeros(4, 5, dtype=torch.int32), "pixels are int32"),
        (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\)"),  # NumPy's have their channels last
        (np.zeros((4, 5, 2), np.uint8), r"shape \(4, 5, 2\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), r"shape \(2, 3, 4, 5\)"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8).to_sparse(), "without plain values"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8, device="meta"), "without plain values"),
        (COLOUR.astype(np.float32), "floats from 0 to 255; give floats from 0 to 1"),
        (COLOUR / 127.5 - 1, "floats from -1 to 1; give floats from 0 to 1"),
        (np.full((4, 5), np.nan), "with NaN or infinity"),
        (torch.full((3, 4, 5), torch.inf), "with NaN or infinity"),
    ],
)
def test_what_is_no_image_gets_one_line_with_its_position(
    embedder: ImageEmbedder, image: Any, message: str, workers: int
) -> None:
    with pytest.raises(InputError, match=f"^image 2: .*{message}") as caught:
        embedder.embed([COLOUR, GREY, image], workers=workers)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=f"^the image: .*{message}"):
        embedder.transform(image)


@pytest.mark.parametrize("images", ["a.jpg", Path("a.jpg"), b"a.jpg", Image.new("L", (9, 9)), COLOUR, GREY])
def test_one_image_instead_of_a_list(embedder: ImageEmbedder, images: Any) -> None:
    with pytest.raises(InputError, match=r"where a list is needed; write \[image\]"):
        embedder.embed(images)


@pytest.mark.parametrize("images", [None, 3, {"a.jpg": 1}, {"a.jpg"}])
def test_no_list(embedder: ImageEmbedder, images: Any) -> None:
    with pytest.raises(InputError, match="where a list is needed"):
        embedder.embed(images)


def test_a_broken_pil_image(embedder: ImageEmbedder, tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"^image 0: truncated or broken"):
        embedder.embed([Image.open(tmp_path / "a.png")])


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 0},
        {"chunk_size": -1},
        {"chunk_size": 2.5},
        {"chunk_size": None},
        {"workers": -1},
        {"workers": "2"},
    ],
)
def test_chunks_and_workers_are_whole_numbers(embedder: ImageEmbedder, options: dict[str, Any]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(InputError, match=f"^{name}={value!r}: a whole number from"):
        embedder.embed([COLOUR], **options)


@pytest.mark.slow
def test_a_linear_probe_can_be_trained_on_embeddings(embedder: ImageEmbedder) -> None:
    embeddings = embedder.embed([COLOUR, GREY])
    assert not embeddings.is_inference()
    assert not embeddings.requires_grad
    probe = nn.Linear(8, 2)
    torch.autograd.backward(nn.functional.cross_entropy(probe(embeddings), torch.tensor([0, 1])))
    assert probe.weight.grad is not None


def modes(module: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in module.named_modules()}


@pytest.mark.parametrize("images", [[COLOUR], [COLOUR, None], [COLOUR, Path("nowhere.jpg")]])
def test_every_part_keeps_its_mode(embedder: ImageEmbedder, images: Any) -> None:
    embedder.train()
    embedder.backbone.eval()
    embedder.pool.eval()
    before = modes(embedder)
    assert len(set(before.values())) == 2
    try:
        embedder.embed(images)
    except (InputError, TypeError, AttributeError):
        assert len(images) > 1
    assert modes(embedder) == before
    embedder.eval()


@pytest.mark.slow
def test_what_a_network_remembers_for_tests_is_forgotten_when_it_learns() -> None:
    """LeViT keeps its attention's biases between evaluations, until it is told that it is in training."""
    embedder = build(ImageSettings(backbone="levit_128s", image_size=64, embedding_size=8), "none").train()
    before = embedder.embed([COLOUR])
    with torch.no_grad():
        for name, parameter in embedder.named_parameters():
            if name.endswith("attention_biases"):
                parameter.normal_(0, 5)
    after = embedder.embed([COLOUR])
    assert (after - before).norm() > 1e-3
    torch.testing.assert_close(embedder.eval().embed([COLOUR]), after)


def test_the_transform_is_what_embed_does(embedder: ImageEmbedder, files: dict[str, Path]) -> None:
    for image in (files["colour"], str(files["colour"]), Image.open(files["colour"]), COLOUR, COLOUR / 255):
        view = embedder.transform(image)
        assert (view.shape, view.dtype) == ((3, 32, 32), torch.uint8)
        torch.testing.assert_close(embedder(view[None]), embedder.embed([files["colour"]]))
    with pytest.raises(InputError, match=r"nowhere\.jpg"):
        embedder.transform("nowhere.jpg")


def test_a_wide_image_is_cropped_in_the_middle() -> None:
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=32, embedding_size=8)
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = COLOUR[:32, :32]
    view = build(settings, "none").transform(wide)
    assert torch.equal(view, torch.from_numpy(COLOUR[:32, :32]).permute(2, 0, 1))


IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES / 255,
        IMAGES.long(),
        IMAGES.half(),
        IMAGES[0],
        IMAGES[:, :1],
        IMAGES.permute(0, 2, 3, 1),
        IMAGES[..., :16],
        IMAGES.numpy(),
        None,
        ["a.jpg"],
    ],
)
def test_the_network_takes_what_the_transform_gives_and_nothing_else(embedder: ImageEmbedder, images: Any) -> None:
    assert embedder(IMAGES).shape == (2, 8)
    with pytest.raises(InputError, match=r"uint8.*embedder\.transform") as caught:
        embedder(images)
    assert "\n" not in str(caught.value)


def test_another_size_than_a_network_was_built_for() -> None:
    settings = ImageSettings(backbone="deit_tiny_patch16_224", image_size=32, resize=32, embedding_size=8)
    with pytest.raises(InputError, match=r"built for images of 32 pixels, these have 48.*embedder\.transform"):
        build(settings, "none")(torch.zeros(1, 3, 48, 48, dtype=torch.uint8))


@pytest.mark.parametrize("shape", ["square", "keep"])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_inside_of_archives_are_embedded_as_if_unpacked(tmp_path: Path, shape: Any, workers: int) -> None:
    members = ArchiveImages([shard(tmp_path / "0.tar", ["a.jpg", "b.jpg", "c.jpg"])])
    for number, member in enumerate(members):
        (tmp_path / member.name).write_bytes(encoded(3, number))
    files = [tmp_path / member.name for member in members]
    settings = ImageSettings(backbone="test_resnet", image_size=32, resize=32, embedding_size=8, image_shape=shape)
    embedder = build(settings, "none")
    assert torch.equal(embedder.embed(members, workers=workers), embedder.embed(files, workers=workers))
    in_archive, on_disk = ([Region(image, (4, 3, 40, 30)) for image in images] for images in (members, files))
    assert torch.equal(embedder.embed(in_archive, workers=workers), embedder.embed(on_disk, workers=workers))
