"""Distractors: images that answer no query, searched with the gallery."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from recallk.core.errors import InputError
from recallk.core.files import why
from recallk.data.archive import ArchiveImages
from recallk.data.formats import named_as_image
from recallk.data.instances.paths import Paths
from recallk.data.item import Item


def read_distractors(root: Path) -> Sequence[Item]:
    """Return the images below a folder, or those in its `.tar` archives, or in one archive, sorted by name.

    As revisitop1m unpacks (`jpg/.../NAME.jpg`, 1,001,001 images), and as the shards of ILIAS are, which need no
    unpacking (`yfcc100m/*.tar`). Hidden files are passed over, and whatever is no image by its name. A million take
    seconds, and some 50 MB. Raises InputError, one line, where there are none, and where a folder has both.
    """
    archives = [root] if root.is_file() else []
    images = Paths(root, () if archives else _images_below(root, archives))
    if archives and images:
        raise InputError(
            f"{root}: {len(images):,} images, and {len(archives):,} .tar archives: give a folder of either"
        )
    found: Sequence[Item] = ArchiveImages(archives) if archives else images
    if not found:
        raise InputError(f"{root}: no images below this folder, nor in .tar archives; give one with distractors")
    return found


def _images_below(root: Path, archives: list[Path]) -> Iterator[str]:
    """Yield the images below a folder, as names below it: a folder's own, then those of its folders, each sorted.

    Archives are put into the list. Links to folders are followed, each folder once.
    """
    folders, visited = [""], set[tuple[int, int]]()
    while folders:
        below = folders.pop()
        folder = root / below
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be read as a folder ({why(error)})") from None
        for name, is_folder in listed:
            if is_folder:
                continue
            if name.endswith(".tar"):
                archives.append(folder / name)
            elif named_as_image(name):
                yield f"{below}{name}"
        folders += [f"{below}{name}/" for name, is_folder in reversed(listed) if is_folder]
