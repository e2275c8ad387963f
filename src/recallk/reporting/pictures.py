"""Queries with what was retrieved for them: the records that the page shows, and one picture for the command line."""

from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from recallk.catalogue.found import Found
from recallk.core.errors import InputError
from recallk.core.files import write_file
from recallk.core.text import shown
from recallk.data.further import Cells
from recallk.data.images import read_bytes, read_image
from recallk.data.texts import Text
from recallk.data.vectors import Vector
from recallk.retrieval.search import Results

# Blue and vermilion are told apart with every kind of colour vision, and on white by their lightness too.
RIGHT, WRONG, NEUTRAL = "#0063a6", "#d35400", "#c3c8ce"
_INK, _MUTED, _PAPER, _WELL = "#1c2127", "#68717c", "#ffffff", "#f4f5f7"

IMAGE = 144  # pixels a side, frame included
GAP = 20
MARGIN = 28
RESULTS_PER_ROW = 8
CELL = IMAGE + 70  # three lines of text below
LEGEND = 30
_LONGEST_LINE = 200  # characters: more than fit below an image
_SMOOTH = 4  # frames and badges are drawn larger, then reduced


@dataclass(frozen=True)
class Retrieved:
    """An item of the gallery as it was found.

    `image` is None where it cannot be read, or where the item is a `text`; `correct` where nobody knows. `cells` are
    what a person's table says of it besides.
    """

    image: Image.Image | None
    name: str
    label: str
    similarity: float
    correct: bool | None
    text: str = ""
    cells: Cells = field(default_factory=dict)


@dataclass(frozen=True)
class Retrieval:
    """One query and what was retrieved for it, best first."""

    query: Image.Image | None
    query_name: str
    query_label: str
    results: list[Retrieved]
    recall_note: str  # such as "first right one at 7"
    query_text: str = ""
    query_cells: Cells = field(default_factory=dict)


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Scale to fit a square: up by a whole factor and crisply (a glyph), or down smoothly (a photo)."""
    image = image.convert("RGB")
    factor = side // max(image.size)
    if factor >= 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def thumbnail(source: Path | bytes, side: int) -> bytes:
    """Return an image file as a JPEG that fits into a square: pixels alone, whatever else was in the file.

    Raises InputError where it cannot be read.
    """
    found = BytesIO()
    image = read_bytes(source) if isinstance(source, bytes) else read_image(source)
    (image if max(image.size) <= side else fitted(image, side)).save(found, format="JPEG", quality=85)
    return found.getvalue()


def framed(
    image: Image.Image | None, correct: bool | None, size: int = IMAGE, missing: str = "cannot be read"
) -> Image.Image:
    """Return a square of `size` pixels with the image in a frame, or what is `missing`.

    Solid with a tick: right. Dashed with a cross: wrong. Thin and grey: unknown.
    """
    square = Image.new("RGB", (size, size), _PAPER)
    ImageDraw.Draw(square).rectangle((8, 8, size - 9, size - 9), fill=_WELL)
    if image is None:
        ImageDraw.Draw(square).text((size // 2, size // 2), missing, _MUTED, _font(12), anchor="mm")
    else:
        inner = fitted(image, size - 16)
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
    if correct is None:
        ImageDraw.Draw(square).rectangle((2, 2, size - 3, size - 3), outline=NEUTRAL, width=1)
        return square
    colour = RIGHT if correct else WRONG
    square.paste(colour, mask=_frame(size, dashed=not correct))
    badge = _badge(colour, correct)
    square.paste(badge, (size - badge.width, 0), badge)
    return square


def search_picture(retrievals: list[Retrieval], path: Path) -> None:
    """Draw a PNG: a row for each query, the query at the left, and what was found for it to the right."""
    columns = max([1, *(min(len(r.results), RESULTS_PER_ROW) for r in retrievals)])
    lines = [max(1, -(-len(r.results) // RESULTS_PER_ROW)) for r in retrievals]
    judged = any(result.correct is not None for r in retrievals for result in r.results)
    left = MARGIN + IMAGE + 2 * GAP  # where results begin
    width = left + columns * (IMAGE + GAP) - GAP + MARGIN
    height = 2 * MARGIN + sum(lines) * CELL + max(0, len(lines) - 1) * GAP + judged * LEGEND
    picture = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    top = MARGIN
    for number, (retrieval, rows) in enumerate(zip(retrievals, lines, strict=True)):
        if number:
            draw.line((MARGIN, top - GAP, width - MARGIN, top - GAP), fill="#e3e6e9")
        missing = retrieval.query_text or "cannot be read"
        picture.paste(framed(retrieval.query, None, missing=missing), (MARGIN, top))
        texts = ("query", retrieval.query_label, _unless_same(retrieval.query_name, retrieval.query_label))
        _write(draw, (MARGIN, top + IMAGE), *texts)
        middle = MARGIN + IMAGE + GAP
        draw.line((middle, top, middle, top + rows * CELL - 2 * GAP), fill="#d5d9dd")
        for rank, result in enumerate(retrieval.results):
            place = (left + rank % RESULTS_PER_ROW * (IMAGE + GAP), top + rank // RESULTS_PER_ROW * CELL)
            picture.paste(framed(result.image, result.correct, missing=result.text or "cannot be read"), place)
            texts = (f"{result.similarity:.3f}", result.label, _unless_same(result.name, result.label))
            _write(draw, (place[0], place[1] + IMAGE), *texts, rank=rank + 1)
        top += rows * CELL + GAP
    if judged:
        _legend(picture, height - MARGIN - 14)
    write_file(path, lambda unfinished: picture.save(unfinished, format="PNG"))


def draw_results(found: Results, path: Path, most: int) -> bool:
    """Draw what `recallk.search` found for the first queries; return whether there is any image to draw."""
    rows = list(islice(zip(found.queries, found.similarities.tolist(), found.items, strict=True), most))
    if not any(isinstance(image_of(item), Path) for query, _, items in rows for item in (query, *items)):
        return False
    drawn = []
    for query, similarities, items in rows:
        results = [
            Retrieved(_picture(item), _name(item, found.gallery), _label(item), similarity, None, _instead(item))
            for similarity, item in zip(similarities, items, strict=True)
        ]
        drawn.append(Retrieval(_picture(query), query.name, _label(query), results, "", _instead(query)))
    search_picture(drawn, path)
    return True


def draw_found(found: Found, path: Path, most: int) -> bool:
    """Draw what a catalogue has found for the first queries; return whether there is any image to draw."""
    rows = list(islice(zip(found.queries, found.images, found.hits, strict=True), most))
    if not any(image is not None for _, query, hits in rows for image in (query, *(hit.image for hit in hits))):
        return False
    drawn = []
    for query, image, hits in rows:
        results = [
            Retrieved(_readable(hit.image), hit.id, hit.known.get("label", ""), hit.similarity, None, "no image")
            for hit in hits
        ]
        drawn.append(Retrieval(_readable(image), query, "", results, "", "no image"))
    search_picture(drawn, path)
    return True


def image_of(item: Path | Vector | Text) -> Path | str | None:
    """Return the image that is shown of an item, or a text."""
    return item.shown if isinstance(item, Vector) else item


def _picture(item: Path | Vector | Text) -> Image.Image | None:
    image = image_of(item)
    if isinstance(item, Path):
        return read_image(item)
    return _readable(image) if isinstance(image, Path) else None


def _readable(image: Path | bytes | None) -> Image.Image | None:
    try:
        if isinstance(image, bytes):
            return read_bytes(image)
        return None if image is None else read_image(image)
    except InputError:  # a table may name images that are elsewhere
        return None


def _instead(item: Path | Vector | Text) -> str:
    return "" if isinstance(image_of(item), Path) else "no image"


def _name(item: Path | Vector | Text, gallery: Path) -> str:
    return item.relative_to(gallery).as_posix() if isinstance(item, Path) else item.name


def _label(item: Path | Vector | Text) -> str:
    if isinstance(item, Text):
        return ""
    return item.label if isinstance(item, Vector) else item.parent.name


def _unless_same(name: str, label: str) -> str:
    return "" if name == label else name


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], first: str, label: str, name: str, rank: int | None = None
) -> None:
    x, y = place
    draw.text((x, y + 6), first, fill=_MUTED if rank is None else _INK, font=_font(13, bold=rank is not None))
    if rank is not None:
        draw.text((x + IMAGE, y + 7), f"#{rank}", fill=_MUTED, font=_font(12), anchor="ra")
    draw.text((x, y + 25), _shortened(label, _font(13)), fill=_INK, font=_font(13))
    draw.text((x, y + 43), _shortened(name, _font(12), keep_end=True), fill=_MUTED, font=_font(12))


def _shortened(text: str, font: ImageFont.FreeTypeFont, keep_end: bool = False) -> str:
    """Fit a line below an image; of a path the end is kept, as it tells more."""
    text = _drawable(" ".join(text.split()))
    if len(text) <= _LONGEST_LINE and font.getlength(text) <= IMAGE:
        return text
    text = text[-_LONGEST_LINE:] if keep_end else text[:_LONGEST_LINE]
    while text and font.getlength(text + "…") > IMAGE:
        text = text[1:] if keep_end else text[:-1]
    return "…" + text if keep_end else text.rstrip() + "…"


def _drawable(text: str) -> str:
    """Write out what the typeface has no shape for: boxes would all look alike."""
    has = _shapes()
    return "".join(c if ord(c) in has else c.encode("unicode_escape").decode() for c in shown(text))


def _legend(picture: Image.Image, y: int) -> None:
    x = MARGIN
    for correct, text in ((True, "right: of the query's class"), (False, "wrong: of another class")):
        badge = _badge(RIGHT if correct else WRONG, correct)
        picture.paste(badge, (x, y - 4), badge)
        ImageDraw.Draw(picture).text((x + 32, y), text, fill=_MUTED, font=_font(13))
        x += 250


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_typeface("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)


@cache
def _shapes() -> frozenset[int]:
    return frozenset(FT2Font(str(_typeface("DejaVuSans.ttf"))).get_charmap())


def _typeface(name: str) -> Path:
    # the one that is certain to be there, wherever matplotlib is
    return Path(matplotlib.get_data_path(), "fonts", "ttf", name)


@cache
def _frame(size: int, dashed: bool) -> Image.Image:
    """Return where a frame of 4 pixels has ink."""
    side, thick = size * _SMOOTH, 4 * _SMOOTH
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    radius = thick // 2 if dashed else 2 * thick  # a large one would leave crumbs of the dashes at the corners
    draw.rounded_rectangle((0, 0, side - 1, side - 1), radius=radius, outline=255, width=thick)
    if dashed:
        period = side / 10
        for gap in range(10):  # from within one dash to within the next, so that dashes lie over the corners
            start, end = round((gap + 0.34) * period), round((gap + 0.66) * period)
            draw.rectangle((start, 0, end, thick), fill=0)
            draw.rectangle((start, side - thick - 1, end, side), fill=0)
            draw.rectangle((0, start, thick, end), fill=0)
            draw.rectangle((side - thick - 1, start, side, end), fill=0)
    return mask.reduce(_SMOOTH)


@cache
def _badge(colour: str, tick: bool) -> Image.Image:
    """Return a disc with a white tick or cross."""
    unit = _SMOOTH
    badge = Image.new("RGBA", (24 * unit, 24 * unit))
    draw = ImageDraw.Draw(badge)
    draw.ellipse((0, 0, 24 * unit - 1, 24 * unit - 1), fill=_PAPER)
    draw.ellipse((2 * unit, 2 * unit, 22 * unit - 1, 22 * unit - 1), fill=colour)
    strokes = [[(7, 12.5), (10.5, 16), (17, 8.5)]] if tick else [[(8, 8), (16, 16)], [(16, 8), (8, 16)]]
    for stroke in strokes:
        draw.line([(x * unit, y * unit) for x, y in stroke], fill=_PAPER, width=round(2.4 * unit), joint="curve")
    return badge.reduce(_SMOOTH)
