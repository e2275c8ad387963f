"""Which image files are read, and how one is opened: whatever goes wrong is one line."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from recallk.core.errors import InputError, RecallkError
from recallk.core.files import require_file, why
from recallk.data.item import ArchiveMember, File

_SAFE = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "QOI")
"""Formats that begin with a mark of their own and are decoded inside the process, from one file.

Not EPS, which is a program that Ghostscript would run, nor WMF, nor what only other programs' plugins decode.
"""

Image.init()
FORMATS = tuple(name for name in _SAFE if name in Image.OPEN)
"""Those of them that this Pillow reads."""

SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in {*FORMATS, "MPO"}
)  # an .mpo is a JPEG with a second one after it
"""How the names of such files end, in small letters."""

MOST_PIXELS = 175_000_000
"""Larger images are refused; Pillow itself refuses those from 179 megapixels on."""

_MEMORY = 800_000_000
_BYTES = {"WEBP": 16, "AVIF": 10, "JPEG2000": 25, "TIFF": 8}  # for a pixel while it is decoded; measured
_USUAL_BYTES, _PROGRESSIVE_BYTES = 4, 8

# Pillow warns from half its own limit on, in two lines of its source; ours is stated. Whoever filters it, still does.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
# An image whose EXIF data is corrupt is read all the same, as it stands.
warnings.filterwarnings("ignore", "(possibly )?corrupt EXIF", UserWarning, append=True)


def named_as_image(name: str) -> bool:
    """Whether a file is named as an image that is read, and is not hidden; `name` may have folders in it."""
    file = name.rpartition("/")[2]
    _, dot, ending = file.rpartition(".")
    return f"{dot}{ending.lower()}" in SUFFIXES and not file.startswith(".")


@contextmanager
def open_image(source: File) -> Iterator[Image.Image]:
    """Open an image file whose pixels are not decoded yet.

    Raises InputError, one line with the path, where there is none, where it is no regular file, too large, or no image,
    and for whatever is raised inside: each of Pillow's formats raises errors of its own.
    """
    require_image(source)
    try:
        opened = open_file(source) if isinstance(source, ArchiveMember) else source  # which Pillow may map into memory
        with Image.open(opened, formats=FORMATS) as image:
            _check_size(source, image)
            yield image
    except RecallkError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{source}: not an image, or of a format that is not read ({', '.join(FORMATS)} are); remove or replace it"
        ) from None
    except Image.DecompressionBombError:
        most = f"{MOST_PIXELS / 1e6:.0f} megapixels"
        raise InputError(f"{source}: more than the {most} that are read; scale it down, or remove it") from None
    except MemoryError:
        raise InputError(f"{source}: needs more memory than there is; scale it down, or lower --workers") from None
    except PermissionError as error:
        raise InputError(f"{source}: cannot be read ({why(error)})") from None
    except Exception as error:
        raise InputError(f"{source}: truncated or broken image ({why(error)}); remove or replace it") from None


def open_file(source: File) -> BinaryIO:
    """Open a file, alone or in an archive; raises OSError where that cannot be."""
    if not isinstance(source, ArchiveMember):
        return source.open("rb")
    with source.archive.open("rb") as archive:
        archive.seek(source.offset)
        return BytesIO(archive.read(source.size))


def require_image(source: File | str) -> None:
    """Raise InputError where there is no file, or no regular one: reading a pipe would never end."""
    path = source.archive if isinstance(source, ArchiveMember) else source
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116, of a million files by name
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{source}: no such image") from None
    except (OSError, ValueError):
        regular = False
    if not regular:
        require_file(Path(path))  # says what is there instead


def _check_size(source: File, image: Image.Image) -> None:
    # a progressive JPEG is held as coefficients before it becomes pixels
    usual = _PROGRESSIVE_BYTES if image.info.get("progressive") else _USUAL_BYTES
    most = min(MOST_PIXELS, _MEMORY // _BYTES.get(image.format or "", usual))
    if image.width * image.height > most:
        raise InputError(
            f"{source}: {image.width:,} x {image.height:,} pixels; at most {most / 1e6:.0f} megapixels of a "
            f"{image.format} file are read; scale it down, or remove it"
        )
