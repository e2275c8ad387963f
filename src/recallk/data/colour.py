"""Pixels of any kind become 8-bit RGB, a tile at a time, so that large images need no memory of their own."""

import numpy as np
from PIL import Image

HALVED_FROM = 50_000_000
"""Images of more pixels are read at half their width and height: no network looks at so many."""

_TILE = 2048  # even, so that halves of tiles are tiles of the half


def rgb(image: Image.Image) -> Image.Image:
    """Return any image as 8-bit RGB; more than 50 megapixels at half the width and height.

    - Transparent parts are laid on white.
    - Of 16 bits, 65,535 is white, as the formats have it, and 4,095 in a TIFF file that says 12 bits. Pixels of 12 bits
      in a file that says 16 come out nearly black: scale such files before.
    - Whole numbers of 32 bits have no agreed white. It is the first of 255, 4,095 and 65,535 that no pixel exceeds, or
      else the brightest pixel; in PPM files 65,535, to which they are scaled as they are read.
    - Of floats, white is 1, or the brightest pixel where that is above 1.
    - Shades between two of 8 bits become the nearer one.
    - Of an animation, the first frame is read.
    """
    halve = image.width * image.height > HALVED_FROM
    if image.mode == "RGB" and "transparency" not in image.info and not halve:
        return image
    white = _white(image)
    if max(image.size) <= _TILE and not halve:
        return _rgb(image, white)
    scale = 2 if halve else 1
    whole = Image.new("RGB", (-(-image.width // scale), -(-image.height // scale)))
    for top in range(0, image.height, _TILE):
        for left in range(0, image.width, _TILE):
            tile = image.crop((left, top, min(left + _TILE, image.width), min(top + _TILE, image.height)))
            tile = _rgb(tile, white)
            whole.paste(tile.reduce(2) if halve else tile, (left // scale, top // scale))
    return whole


def _white(image: Image.Image) -> float:
    """Return the value that stands for white; of images with 8 bits a channel, 255."""
    if image.mode == "F":
        return max(1.0, _brightest(image))
    if image.mode.startswith("I;16"):
        tags: dict[int, object] = getattr(image, "tag_v2", {})
        return 4095.0 if tags.get(258) == (12,) else 65535.0  # a TIFF file's bits per sample
    if image.mode == "I" and image.format != "PPM":
        brightest = _brightest(image)
        return next((white for white in (255.0, 4095.0, 65535.0) if brightest <= white), brightest)
    return 65535.0 if image.mode == "I" else 255.0


def _brightest(image: Image.Image) -> float:
    """Return the largest finite value; Pillow's own extremes do not tell where there are values that are no number."""
    brightest = 0.0
    for top in range(0, image.height, _TILE):
        for left in range(0, image.width, _TILE):
            box = (left, top, min(left + _TILE, image.width), min(top + _TILE, image.height))
            pixels = np.asarray(image.crop(box))
            brightest = max(brightest, float(pixels.max(where=np.isfinite(pixels), initial=0)))
    return brightest


def _rgb(image: Image.Image, white: float) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more a channel: to the range of 8
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=white, neginf=0)
        return Image.fromarray(np.rint(pixels * 255 / white).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "La":  # brightness times opacity
        image = image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
