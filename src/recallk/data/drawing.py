"""SVG becomes pixels: on white, and black where it names no colour."""

from collections.abc import Callable
from functools import cache
from io import BytesIO

from PIL import Image

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.text import one_line
from recallk.data.item import Drawing

_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def drawn(drawing: Drawing) -> Image.Image:
    """Return the RGB image of a drawing, `side` pixels wide and high, the same wherever it is drawn.

    Texts in it are left out, since they would be in whatever typefaces a machine has. Raises InputError, with the
    drawing's name, for what is no SVG, and MissingExtraError where resvg-py is not installed.
    """
    render, side = _renderer(), drawing.side
    box = " ".join(f"{place:.12g}" for place in drawing.box)
    svg = f'<svg {_NAMESPACES} width="{side}" height="{side}" viewBox="{box}">{drawing.body}</svg>'
    try:
        png = render(svg, background="white", skip_system_fonts=True)
        with Image.open(BytesIO(png), formats=("PNG",)) as image:
            return image.convert("RGB")
    except Exception as error:
        raise InputError(f"{drawing}: cannot be drawn ({one_line(error)}); get the data set again") from None


@cache
def _renderer() -> Callable[..., bytes]:
    require("icons", "a drawing")
    from resvg_py import svg_to_bytes

    return svg_to_bytes
