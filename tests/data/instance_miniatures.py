"""A miniature of each instance-level test set in its official layout, with truth that one can count by hand.

Three things (0 red, 1 green, 2 blue), of which each image shows one: an image that is embedded by its mean colour finds
the others of its thing first. `GALLERY` says which images show what.
"""

import io
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data.miniatures import write

COLOURS = ((200, 40, 40), (40, 180, 40), (40, 40, 200), (128, 128, 128))
"""Of the three things, and of what shows none of them."""

GALLERY = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)
"""What each image of a gallery shows; the last none of the three."""

QUERIES = (0, 1, 2)
"""What each query shows."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "roxford5k": ("top", "above", "data", "beside"),
    "rparis6k": ("top", "above", "data", "beside"),
    "gldv2": ("top", "above", "ground_truth", "no list"),
    "gldv2-recognition": ("clean", "all"),
    "ilias": ("lists", "above", "no lists", "core"),
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


def shard(path: Path, names: Sequence[str]) -> Path:
    """Write an archive of images that show nothing of the test sets, as the shards of ILIAS' distractors are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            content = encoded(3, number)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


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


def image_id(kind: str, number: int) -> str:
    """Return the ID of an image of Google Landmarks, whose first characters differ."""
    return f"{number:x}{kind:0>15}"


def _gldv2_image(folder: Path, name: str, number: int, seed: int) -> None:
    thing(folder / name[0] / name[1] / name[2] / f"{name}.jpg", number, seed)


def _gldv2(_: str, root: Path, variant: str) -> Path:
    """Queries 0 and 1 are public, 2 private; the test images 3 and 4 are ignored, and without answers."""
    home = root / "gldv2" if variant == "above" else root
    lists = home / "ground_truth" if variant == "ground_truth" else home
    index = [image_id("1d", number) for number in range(len(GALLERY))]
    for number, name in enumerate(index):
        _gldv2_image(home / "index", name, GALLERY[number], number)
    lines = ["id,images,Usage"]
    for number, usage in enumerate(("Public", "Public", "Private", "Ignored", "Private")):
        name = image_id("e5", number)
        _gldv2_image(home / "test", name, min(number, 3), 50 + number)
        shows = [image for image, what in zip(index, GALLERY, strict=True) if what == number and number < 3]
        lines.append(f"{name},{' '.join(shows) or None},{usage}")
    write(lists / "retrieval_solution_v2.1.csv", lines)
    if variant != "no list":
        write(home / "index.csv", ["id", *index])
    return root


def _gldv2_recognition(_: str, root: Path, variant: str) -> Path:
    """Landmarks 7, 8 and 9, and 11 that no query shows; the query 3 shows none, and the test image 4 is ignored."""
    landmarks = (7, 8, 9, 11)
    train = [image_id("ab", number) for number in range(len(GALLERY))]
    for number, name in enumerate(train):
        _gldv2_image(root / "train", name, GALLERY[number], number)
    if variant == "all":
        rows = zip(train, GALLERY, strict=True)
        lines = [f"{name},https://upload.example/{name},x.jpg,{landmarks[what]}" for name, what in rows]
        write(root / "train.csv", ["id,url,landmark_id", *lines])
    else:
        shows = [" ".join(name for name, what in zip(train, GALLERY, strict=True) if what == k) for k in range(4)]
        lines = [f"{landmark},{names}" for landmark, names in zip(landmarks, shows, strict=True)]
        write(root / "train_clean.csv", ["landmark_id,images", *lines])
    lines = ["id,landmarks,Usage"]
    for number, (answer, usage) in enumerate((("7", 0), ("8 11", 0), ("9", 1), ("", 1), ("7", 2))):
        name = image_id("e5", number)
        _gldv2_image(root / "test", name, min(number, 3), 50 + number)
        lines.append(f"{name},{answer},{('Public', 'Private', 'Ignored')[usage]}")
    write(root / "recognition_solution_v2.1.csv", lines)
    return root


def _ilias(_: str, root: Path, variant: str) -> Path:
    """Three things, of which the second has an accent; the gallery is in the order of `GALLERY`, without its last."""
    home = root / "ilias" if variant == "above" else root
    names = ("able_bell_000", "caf\N{LATIN SMALL LETTER E WITH ACUTE}_001", "zany_zebra_002")
    lists: dict[str, list[str]] = {"query": [], "pos": []}
    for part, shows in (("query", QUERIES), ("pos", GALLERY[:-1])):
        for number, what in enumerate(shows):
            path = f"{names[what]}/{part}/{part[0].upper()}{what:03}_{number:02}.jpg"
            thing(home / "ilias_core" / path, what, number + 50 * (part == "query"))
            (home / "ilias_core" / path).with_name(f"{Path(path).stem}_bbox.txt").write_text("4 3 50 40\n")
            lists[part].append(f"{path},0.25,12".replace("\N{LATIN SMALL LETTER E WITH ACUTE}", "#U00e9"))
    if variant != "no lists":
        write(home / "image_ids/image_query_ids.txt", lists["query"])
        write(home / "image_ids/positive_ids.txt", lists["pos"])
    return home / "ilias_core" if variant == "core" else root


_MAKERS: dict[str, Callable[[str, Path, str], Path]] = {
    "roxford5k": _revisited,
    "rparis6k": _revisited,
    "gldv2": _gldv2,
    "gldv2-recognition": _gldv2_recognition,
    "ilias": _ilias,
}
