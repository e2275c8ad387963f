"""The glyphs data set: characters as the typefaces inside matplotlib draw them; nothing to download.

- A class is a character, its images are typefaces: letters, numbers, punctuation marks and symbols.
- All are drawn at one font size and centred by their ink, so that a comma stays smaller than a letter; only what
  would not fit is shrunk. As the height on the line is lost, a hyphen and a macron may become the same picture.
- Two pictures are the same where no pixel differs by more than a quarter of the grey range. Characters that are the
  same in at least half of the typefaces that draw both are one class, and a class holds each picture once.
- A picture that still stands for two classes (l and I in a sans serif) is left out: nobody could tell which it is.
- The classes are halved into train and test, as in the benchmarks: no character of one is in the other.
"""

import unicodedata
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.agl import toUnicode
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recallk.core.errors import InputError
from recallk.data.item import Record

_EM = 0.875  # of the image's side: capitals take two thirds, and nearly every letter fits
_MARGIN = 1  # white pixels on each side
_OVERSAMPLING = 4  # drawn larger, then reduced: hinting and the place on the pixel grid cease to matter
_TOLERANCE = 64  # of 255 grey levels
_FEWEST_IMAGES = 4
_SMALLEST_SIZE = 16
_UNASSIGNED = "\U0010fffe"  # no typeface has it, so this draws the placeholder

_Image = NDArray[np.uint8]
_Drawings = list[dict[int, _Image]]  # for each typeface, the picture of each code point


def glyphs(seed: int = 0, size: int = 32, fonts_per_character: int = 8) -> list[Record]:
    """Draw the data set, in a few seconds and the same for the same arguments and versions of the libraries.

    Args:
        seed: which classes are for training, which for testing.
        size: pixels a side.
        fonts_per_character: how many typefaces must have a character for it to count.

    Returns:
        Records sorted by code point and typeface: images `(size, size)` uint8, dark ink on white; labels such as
        "U+0041 A", the lowest code point of the class; at least 4 different images a class.

    Raises:
        InputError: `size` is below 16, `fonts_per_character` below 1, or no class is left.

    """
    if size < _SMALLEST_SIZE:
        raise InputError(f"size is {size}; glyphs cannot be told apart below {_SMALLEST_SIZE} pixels")
    if fonts_per_character < 1:
        raise InputError(f"fonts_per_character is {fonts_per_character}; it must be at least 1")
    classes = _drawn_classes(size, fonts_per_character)
    if not classes:
        raise InputError(f"no character is in {fonts_per_character} typefaces; lower fonts_per_character")
    shuffled = np.random.default_rng(seed).permutation(sorted(classes)).tolist()
    train = set(shuffled[: len(shuffled) // 2])
    return [
        Record(image, f"U+{code:04X} {chr(code)}", "train" if code in train else "test")
        for code, images in sorted(classes.items())
        for image in images
    ]


@lru_cache(maxsize=1)  # runs that follow one another in a process draw once
def _drawn_classes(size: int, fonts_per_character: int) -> dict[int, list[_Image]]:
    return _classes(_draw_all(size, fonts_per_character))


def _draw_all(size: int, fonts_per_character: int) -> _Drawings:
    """Draw every character that enough typefaces have, without empty pictures and placeholders."""
    codes = {path: _codes(path) for path in _typefaces()}
    found = Counter(character for font in codes.values() for character in font)
    drawings: _Drawings = []
    for path, in_typeface in codes.items():
        # the basic layout is the same everywhere; the other one depends on a library of the system
        font = ImageFont.truetype(path, round(_EM * size * _OVERSAMPLING), layout_engine=ImageFont.Layout.BASIC)
        placeholder = _draw(font, _UNASSIGNED, size)
        pictures = {
            c: _draw(font, chr(code), size) for c, code in in_typeface.items() if found[c] >= fonts_per_character
        }
        drawings.append(
            {
                character: image
                for character, image in pictures.items()
                if image is not None and (placeholder is None or not np.array_equal(image, placeholder))
            }
        )
    return drawings


def _typefaces() -> list[Path]:
    """Find matplotlib's typefaces; the one of last resort has nothing but placeholders."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return sorted(path for path in folder.glob("*.ttf") if not path.name.startswith("LastResort"))


def _codes(path: Path) -> dict[int, int]:
    """Map the characters that a typeface has to the codes under which it has them, sorted."""
    with TTFont(path, lazy=True) as font:
        names: dict[int, str] = font.getBestCmap()
    if path.name.startswith("cm"):
        # TeX's typefaces have an arrow where Unicode has "!": here only the glyph's name tells the character
        codes = {ord(c): code for code, name in sorted(names.items()) if len(c := toUnicode(name)) == 1}
    else:
        codes = {code: code for code in names}
    return {c: codes[c] for c in sorted(codes) if unicodedata.category(chr(c))[0] in "LNPS"}


def _draw(font: ImageFont.FreeTypeFont, text: str, size: int) -> _Image | None:
    """Draw one character as `(size, size)`, or None where it has no ink."""
    left, top, right, bottom = font.getbbox(text)
    width, height = int(right - left), int(bottom - top)
    if not (width and height):
        return None
    ink = Image.new("L", (width, height))
    ImageDraw.Draw(ink).text((-left, -top), text, fill=255, font=font)
    box = ink.getbbox()  # the font's own box also counts the white space before and after
    if box is None:
        return None
    ink = ink.crop(box)
    side = size * _OVERSAMPLING
    room = side - 2 * _MARGIN * _OVERSAMPLING
    if (longest := max(ink.size)) > room:
        shrunk = (max(1, ink.width * room // longest), max(1, ink.height * room // longest))
        ink = ink.resize(shrunk, Image.Resampling.BOX)
    canvas = Image.new("L", (side, side))
    canvas.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return 255 - np.asarray(canvas.reduce(_OVERSAMPLING))


def _classes(drawings: _Drawings) -> dict[int, list[_Image]]:
    """Unite characters that look the same; give each class's pictures by its lowest code point."""
    same = [_same_pairs(font) for font in drawings]
    class_of = _unite(drawings, same)
    unclear = {
        (place, character)
        for place, pairs in enumerate(same)
        for pair in pairs
        if class_of[pair[0]] != class_of[pair[1]]
        for character in pair
    }
    owners: dict[bytes, set[int]] = defaultdict(set)  # one typeface's I may be another's l
    for font in drawings:
        for character, image in font.items():
            owners[image.tobytes()].add(class_of[character])
    classes: dict[int, list[_Image]] = defaultdict(list)
    for character in sorted(class_of):
        for place, pictures in enumerate(drawings):
            if character not in pictures or (place, character) in unclear:
                continue
            image = pictures[character]
            if len(owners[image.tobytes()]) > 1:
                continue
            images = classes[class_of[character]]
            if not any(_same(image, other) for other in images):
                images.append(image)
    return {code: images for code, images in classes.items() if len(images) >= _FEWEST_IMAGES}


def _unite(drawings: _Drawings, same: list[list[tuple[int, int]]]) -> dict[int, int]:
    """Map each character to the lowest of those that are the same in half of the typefaces that draw both."""
    characters = sorted({character for font in drawings for character in font})
    place = {character: n for n, character in enumerate(characters)}
    counts = Counter(pair for pairs in same for pair in pairs)
    pairs = [(a, b) for (a, b), n in counts.items() if 2 * n >= sum(a in font and b in font for font in drawings)]
    ends = np.array([(place[a], place[b]) for a, b in pairs], dtype=np.int64).reshape(-1, 2).T
    joined = coo_array((np.ones(len(pairs)), (ends[0], ends[1])), shape=(len(characters), len(characters)))
    _, component = connected_components(joined, directed=False)
    _, lowest = np.unique(component, return_index=True)  # the first of each component, as the characters rise
    return {character: characters[lowest[own]] for character, own in zip(characters, component, strict=True)}


def _same(a: _Image, b: _Image) -> bool:
    return int(np.abs(a.astype(np.int16) - b).max()) <= _TOLERANCE


def _same_pairs(font: dict[int, _Image]) -> list[tuple[int, int]]:
    """Find the pairs of characters whose pictures in one typeface are the same.

    All pairs are compared as thumbnails, by a matrix product; only the nearest ones pixel by pixel. The thumbnails
    are whole numbers so small that the product is exact, and so the same on every machine.
    """
    if not font:
        return []
    characters = list(font)
    thumbnails = _thumbnails(np.stack(list(font.values())))
    squares = np.square(thumbnails).sum(1)
    pairs = []
    for first in range(0, len(characters), 1024):  # in strips, as the whole square may be large
        rows = slice(first, first + 1024)
        distances = squares[rows, None] + squares[first:] - 2 * thumbnails[rows] @ thumbnails[first:].T
        near = np.triu(distances <= 0.25 * np.minimum(squares[rows, None], squares[first:]), 1)
        a, b = (places + first for places in np.nonzero(near))
        # what differs little in every pixel differs little in every mean, but for the rounding of both
        likely = np.abs(thumbnails[a] - thumbnails[b]).max(1) <= _TOLERANCE // 16 + 1
        candidates = zip(a[likely].tolist(), b[likely].tolist(), strict=True)
        named = ((characters[i], characters[j]) for i, j in candidates)
        pairs += [(c, d) for c, d in named if _same(font[c], font[d])]
    return pairs


def _thumbnails(images: _Image) -> NDArray[np.float32]:
    """Reduce pictures `(N, S, S)` to 16 x 16 shades of ink from 0 to 15: `(N, 256)`."""
    side = -(-images.shape[1] // 16)
    missing = (0, 16 * side - images.shape[1])
    ink = np.pad(255 - images, ((0, 0), missing, missing)).reshape(-1, 16, side, 16, side)
    shades: NDArray[np.float32] = (ink.mean((2, 4), dtype=np.float32) // 16).reshape(len(images), 256)
    return shades
