"""A person's own images: one folder per class, folders within folders too."""

import os
from pathlib import Path

from recallk.core.errors import InputError
from recallk.data.images import SUFFIXES
from recallk.data.record import Record


def folder(root: Path) -> list[Record]:
    """Return a record for every image below `root`; its class is the path of the folder that holds it.

    Files without an image's suffix and hidden files are passed over. Raises InputError where there is no folder,
    no image, or images outside any class folder.
    """
    records = []
    for path in find_images(root):
        label = path.parent.relative_to(root).as_posix()
        if label == ".":
            raise InputError(f"{path}: an image outside any class; put each class in a folder of its own")
        records.append(Record(path, label))
    return records


def find_images(root: Path) -> list[Path]:
    """Return the image files below `root`, in the order of their folders' and own names.

    Raises InputError where there is no folder, or no image in it.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    images = []
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images += [
            Path(place) / name
            for name in sorted(files)
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    if not images:
        raise InputError(f"{root}: no images below this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return images
