"""A miniature of each instance-level test set in its official layout, with truth that one can count by hand.

Three things (0 red, 1 green, 2 blue), of which each image shows one: an image that is embedded by its mean colour finds
the others of its thing first. `GALLERY` says which images show what.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = ((200, 40, 40), (40, 180, 40), (40, 40, 200), (128, 128, 128))
"""Of the three things, and of what shows none of them."""

GALLERY = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)
"""What each image of a gallery shows; the last none of the three."""

QUERIES = (0, 1, 2)
"""What each query shows."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "roxford5k": ("top", "above", "data", "beside"),
    "rparis6k": ("top", "above", "data", "beside"),
}
"""The layouts that are met, the usual one first."""


def make_instances(name: str, root: Path, variant: str = "") -> Path:
    """Make the miniature of an instance-level test set below `root`; return the folder to give as --data."""
    root.mkdir(parents=True, exist_ok=True)
    return _MAKERS[name](name, root, variant or VARIANTS[name][0])


def thing(path: Path, number: int, seed: int = 0, size: tuple[int, int] = (64, 48)) -> None:
    """Draw a noisy picture of a thing: its colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number, seed, size))


def encoded(number: int, seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return that picture as the bytes of a JPEG file."""
    random = np.random.default_rng([number, seed])
    pixels = np.array(COLOURS[number]) + random.normal(0, 12, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def distractors(folder: Path, count: int = 6) -> Path:
    """Make a folder of images that show nothing of the test sets, in folders of three."""
    for number in range(count):
        thing(folder / f"jpg/{number // 3}/{number:04}.jpg", 3, 100 + number)
    return folder


def revisited_truth() -> dict[str, Any]:
    """Return the ground truth of revisited Oxford and Paris in miniature.

    Of each thing, the first image is easy and the next are hard, but the last image of the first thing is junk.
    """
    entries = []
    for query in QUERIES:
        shows = [number for number, what in enumerate(GALLERY) if what == query]
        junk = [shows.pop()] if query == 0 else []
        entries.append({"bbx": [4.0, 3.0, 60.0, 40.5], "easy": shows[:1], "hard": shows[1:], "junk": junk})
    return {
        "imlist": [f"building_{number:06}" for number in range(len(GALLERY))],
        "qimlist": [f"query_{number:06}" for number in range(len(QUERIES))],
        "gnd": entries,
    }


def write_revisited(name: str, home: Path, truth: Mapping[str, Any]) -> Path:
    """Write a ground truth; return its path."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"gnd_{name}.pkl"
    path.write_bytes(pickle.dumps(truth, protocol=2))
    return path


def _revisited(name: str, root: Path, variant: str) -> Path:
    home = {"above": root / name, "data": root / "datasets" / name}.get(variant, root)
    images = (home / name if variant == "beside" else home) / "jpg"
    truth = revisited_truth()
    for kind, shows in (("imlist", GALLERY), ("qimlist", QUERIES)):
        for number, (image, what) in enumerate(zip(truth[kind], shows, strict=True)):
            thing(images / f"{image}.jpg", what, number + 50 * (kind == "qimlist"))
    write_revisited(name, home, truth)
    return root


_MAKERS: dict[str, Callable[[str, Path, str], Path]] = {"roxford5k": _revisited, "rparis6k": _revisited}
