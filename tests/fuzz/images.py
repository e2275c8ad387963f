"""Area 4: image files in many formats and modes, whole, damaged, or something else in their place."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recallk.data.folder import find_images
from recallk.data.images import check_image, read_image
from tests.fuzz.case import Case, FaultError, Place, Rng, pick
from tests.fuzz.embedding import SIZE, Pixels, embedder, of_pixels, pixels
from tests.fuzz.images_seen import FIRST
from tests.fuzz.miniature import WORDS, save_images

Format = tuple[str, str, dict[str, Any], float]

FORMATS: dict[str, Format] = {
    "PNG": (".png", "RGB", {}, 1),
    "PNG grey": (".png", "L", {}, 1),
    "PNG black and white": (".png", "1", {}, 1),
    "PNG palette": (".png", "P", {}, 1),
    "PNG palette, one colour transparent": (".png", "P", {"transparency": 0}, 256),
    "PNG alpha": (".png", "RGBA", {}, 1),
    "PNG grey alpha": (".png", "LA", {}, 1),
    "PNG 16 bits": (".png", "I;16", {}, 1.5),
    "JPEG": (".jpg", "RGB", {"quality": 95, "subsampling": 0}, 12),
    "JPEG progressive": (".jpeg", "RGB", {"quality": 95, "subsampling": 0, "progressive": True}, 12),
    "JPEG grey": (".jpg", "L", {"quality": 95}, 12),
    "JPEG CMYK": (".JPG", "CMYK", {"quality": 95}, 25),
    "GIF": (".gif", "P", {}, 1),
    "BMP": (".bmp", "RGB", {}, 1),
    "BMP grey": (".bmp", "L", {}, 1),
    "TIFF": (".tif", "RGB", {}, 1),
    "TIFF LZW": (".tiff", "RGB", {"compression": "tiff_lzw"}, 1),
    "TIFF black and white": (".tif", "1", {"compression": "group4"}, 1),
    "TIFF CMYK": (".tif", "CMYK", {}, 25),
    "TIFF 16 bits": (".tif", "I;16", {}, 1.5),
    "WebP": (".webp", "RGB", {"lossless": True}, 1),
    "WebP alpha": (".webp", "RGBA", {"lossless": True, "exact": True}, 1),
    "PPM": (".ppm", "RGB", {}, 1),
    "PGM": (".pgm", "L", {}, 1),
    "AVIF": (".avif", "RGB", {"quality": 95}, 20),
    "JFIF": (".jfif", "RGB", {"quality": 95, "subsampling": 0, "format": "JPEG"}, 12),
    "JPEG 2000": (".jp2", "RGB", {}, 1),
    "TGA": (".tga", "RGB", {}, 1),
    "ICO": (".ico", "RGB", {"sizes": [(SIZE, SIZE)]}, 256),
}
"""Name: suffix, mode, options for saving, and how far a pixel may be from the right one on average."""

ALWAYS_READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def prepare(shared: Path) -> None:
    """Import what the cases need, and make a folder of images that damaged ones are put into."""
    save_images(shared / "images")
    embedder()
    import recallk.cli.terminal
    import recallk.training.trainer  # noqa: F401


def encoded(picture: Pixels, mode: str, suffix: str, options: dict[str, Any]) -> tuple[bytes, Pixels]:
    """Return a file's content, and the RGB pixels that are right for it."""
    image, right = Image.fromarray(picture), picture
    if mode == "I;16":
        grey = picture[:, :, 0]
        image, right = Image.fromarray(grey.astype(np.uint16) * 257), np.repeat(grey[:, :, None], 3, 2)
    elif mode in ("RGBA", "LA"):
        alpha = np.where(np.arange(picture.shape[0])[:, None] < 8, 0, 255) * np.ones(picture.shape[:2], int)
        image = image.convert(mode.removesuffix("A").replace("RGB", "RGB"))
        image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
        opaque = np.asarray(image.convert("RGBA"))[:, :, :3]
        right = np.where(alpha[:, :, None] == 0, 255, opaque).astype(np.uint8)  # what is transparent is white
    elif mode != "RGB":
        image = image.convert(mode)
        right = np.asarray(image.convert("RGB"))
    file = io.BytesIO()
    image.save(file, **{"format": Image.registered_extensions()[suffix.lower()], **options})
    return file.getvalue(), right


def check_pixels(path: Path, right: Pixels, tolerance: float) -> None:
    found = np.asarray(read_image(path))
    if found.shape != right.shape or found.dtype != np.uint8:
        raise FaultError(f"{found.dtype} of shape {found.shape} instead of {right.shape}")
    distance = float(np.abs(found.astype(int) - right.astype(int)).mean())
    if distance > tolerance:
        raise FaultError(f"pixels are off by {distance:.1f} on average")


def good(rng: Rng) -> Case:
    """Return a whole image: its pixels are those that were saved, however it is read."""
    name = pick(rng, list(FORMATS))
    suffix, mode, options, tolerance = FORMATS[name]
    seed, size, turned = int(rng.integers(1000)), int(pick(rng, (SIZE, SIZE, 9, 57))), rng.random() < 0.2
    strange = pick(rng, ("image", "image", "with space", "é", "名", "[red]", "-x", "%20", "#1", "a" * 200))

    def act(place: Place) -> None:
        content, right = encoded(pixels(seed, size), mode, suffix, options)
        path = place.work / f"{strange}{suffix}"
        path.write_bytes(content)
        if turned and suffix in (".jpg", ".jpeg", ".webp", ".png"):
            image, exif = Image.open(path), Image.Exif()
            exif[0x0112] = 6  # the camera was held upright
            kept = {k: v for k, v in image.info.items() if k == "transparency"}
            image.save(path, exif=exif, **kept | options)
            right = np.rot90(right, -1)
        check_image(path)
        check_pixels(path, right, tolerance * (2 if turned else 1))
        if path not in find_images(place.work).images:
            raise FaultError("not found in its folder")
        if size == SIZE and tolerance <= 2:
            model = embedder()
            distance = float((model.embed([path])[0] - of_pixels(model, right.copy())).norm())
            if distance > 0.05:
                raise FaultError(f"the embedding is {distance:.3f} off")

    return Case(
        f"image {name}, {size} pixels{', turned' if turned else ''}",
        act,
        "must not" if suffix.lower() in ALWAYS_READ else "may",
    )


def _cut(rng: Rng, content: bytes) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def _flipped(rng: Rng, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 20))):
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    return bytes(changed)


def _head_flipped(rng: Rng, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        changed[int(rng.integers(min(80, len(changed))))] = pick(rng, (0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))))
    return bytes(changed)


def _longer(rng: Rng, content: bytes) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 10_000)))


def _zeros(rng: Rng, content: bytes) -> bytes:
    start = int(rng.integers(0, len(content)))
    return content[:start] + bytes(len(content) - start)


def _right_checksums(rng: Rng, content: bytes) -> bytes:
    """Return a PNG with flipped bytes whose checksums are right again: they reach the decoder."""
    if not content.startswith(b"\x89PNG"):
        return _flipped(rng, content)
    content, at, out = content[:8] + _head_flipped(rng, content[8:]), 8, bytearray(content[:8])
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + length]
        out += content[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return bytes(out)


CHANGES: tuple[Callable[[Rng, bytes], bytes], ...] = (
    _cut, _flipped, _flipped, _head_flipped, _head_flipped, _longer, _zeros, _right_checksums, _right_checksums,
)  # fmt: skip


def read_all_ways(place: Place, path: Path) -> None:
    """Read a file as the library does, and as the command does."""
    check_image(path)
    image = read_image(path)
    if image.mode != "RGB" or not image.width or not image.height:
        raise FaultError(f"read as {image.mode} of {image.size}")
    found = embedder().embed([path])
    if not found.isfinite().all():
        raise FaultError("the embedding is not finite")


def damaged(rng: Rng) -> Case:
    """Return an image whose bytes are changed, perhaps under another suffix."""
    name, change = pick(rng, list(FORMATS)), pick(rng, CHANGES)
    suffix, mode, options, _ = FORMATS[name]
    renamed = pick(rng, (suffix, suffix, suffix, ".jpg", ".png", ".tif", ".gif", ".webp"))
    seed, exif, with_plan = int(rng.integers(1000)), rng.random() < 0.3, rng.random() < 0.1

    def act(place: Place) -> None:
        content, _ = encoded(pixels(seed), mode, suffix, options)
        if exif and suffix in (".jpg", ".png", ".webp"):
            file = io.BytesIO()
            data = Image.Exif()
            data[0x0112], data[0x010E] = int(rng.integers(10)), "x" * 50
            whole = data.tobytes()
            Image.open(io.BytesIO(content)).convert("RGB").save(
                file, format=Image.registered_extensions()[suffix], exif=whole[:10] + _flipped(rng, whole[10:])
            )
            content = file.getvalue()
        path = place.work / f"image{renamed}"
        path.write_bytes(change(rng, content))
        if with_plan:
            data_folder = place.work / "data"
            (data_folder / "bad").mkdir(parents=True)
            for folder in (place.shared / "images").iterdir():
                (data_folder / folder.name).symlink_to(folder)
            path.rename(data_folder / "bad" / path.name)
            place.command("train", "--data", data_folder, *WORDS, "--run", "run", "--dry-run")
        else:
            read_all_ways(place, path)

    return Case(f"image {name}, {change.__name__.strip('_')}{', EXIF' if exif else ''}, as {renamed}", act)


def case(rng: Rng, number: int) -> Case:
    """Return case `number`: the fixed ones first."""
    return FIRST[number] if number < len(FIRST) else pick(rng, (good, damaged, damaged))(rng)
