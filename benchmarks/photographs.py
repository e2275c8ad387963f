"""Photographed things before photographed backgrounds: a data set of photographs that needs no download of its own.

    apt-get download tuxpaint-stamps-default mate-backgrounds       # on Debian or Ubuntu
    for package in *.deb; do dpkg -x $package packages; done
    python -m benchmarks.photographs packages/usr/share photographs

A class is a thing that somebody photographed and cut out (a bird, a shoe, a fruit); each of its images shows it turned,
tilted, larger or smaller, in other light, before a piece of some landscape, a little blurred, as JPEG. Made from the
file's name alone: the same everywhere, with the same libraries.
"""

from pathlib import Path
from typing import Annotated
from zlib import crc32

import numpy as np
import typer
from PIL import Image, ImageEnhance, ImageFilter

VIEWS, SIDE = 12, 96
_DRAWN = {"symbols", "cartoon", "flags", "roadsigns"}  # folders of stamps that are no photographs


def main(
    packages: Annotated[Path, typer.Argument(help="folder with tuxpaint/ and backgrounds/")],
    out: Annotated[Path, typer.Argument(help="folder to write, a folder for each class in it")],
) -> None:
    """Make the images."""
    stamps = sorted((packages / "tuxpaint" / "stamps").rglob("*.png"))
    things = [file for file in stamps if not _DRAWN & set(file.parts) and not _is_variant(file)]
    backgrounds = [
        Image.open(file).convert("RGB").resize((960, 540), Image.Resampling.LANCZOS)
        for file in sorted((packages / "backgrounds" / "mate" / "nature").glob("*.jpg"))
    ]
    for file in things:
        name = "-".join(file.relative_to(packages / "tuxpaint" / "stamps").with_suffix("").parts)
        thing = Image.open(file).convert("RGBA")
        thing = thing.crop(thing.getchannel("A").getbbox())
        thing.thumbnail((3 * SIDE, 3 * SIDE), Image.Resampling.LANCZOS)
        folder = out / name
        folder.mkdir(parents=True)
        for number in range(VIEWS):
            random = np.random.default_rng([crc32(name.encode()), number])
            image = _view(thing, backgrounds[random.integers(len(backgrounds))], random)
            image.save(folder / f"{number:02}.jpg", quality=int(random.integers(60, 95)))
    print(f"{len(things)} classes of {VIEWS} images, {len(backgrounds)} backgrounds")


def _is_variant(file: Path) -> bool:
    return file.stem.endswith(("_mirror", "_flip", "_mirror_flip"))


def _view(thing: Image.Image, background: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return one image `(SIDE, SIDE)` of a thing."""
    piece = int(random.integers(SIDE, 4 * SIDE))
    left, top = (int(random.integers(0, side - piece + 1)) for side in background.size)
    scene = background.crop((left, top, left + piece, top + piece)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    wide, high = thing.size
    tilted = thing.transform(
        (wide, high),
        Image.Transform.QUAD,
        [
            float(corner + random.uniform(-0.15, 0.15) * side)
            for corner, side in zip((0, 0, 0, high, wide, high, wide, 0), (wide, high) * 4, strict=True)
        ],
        Image.Resampling.BILINEAR,
    )
    turned = tilted.rotate(float(random.normal(0, 20)), Image.Resampling.BICUBIC, expand=True)
    scale = SIDE * random.uniform(0.45, 1.0) / max(turned.size)
    size = tuple(max(8, round(side * scale)) for side in turned.size)
    turned = turned.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    at = tuple(int(random.integers(-side // 8, SIDE - side + side // 8 + 1)) for side in turned.size)
    scene.paste(turned, (at[0], at[1]), turned)
    for change, spread in ((ImageEnhance.Brightness, 0.25), (ImageEnhance.Contrast, 0.2), (ImageEnhance.Color, 0.3)):
        scene = change(scene).enhance(float(np.exp(random.normal(0, spread))))
    red, green, blue = (float(np.exp(random.normal(0, 0.06))) for _ in range(3))  # of the light
    tinted = np.asarray(scene, dtype=np.float32) * (red, green, blue)
    scene = Image.fromarray(tinted.clip(0, 255).astype(np.uint8))
    return scene.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 1.2))))


if __name__ == "__main__":
    typer.run(main)
