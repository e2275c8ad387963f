"""A drawing becomes pixels when it is read: black on white, as large as it says, the same in every process."""

import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recallk import InputError, MissingExtraError
from recallk.data import drawing as module
from recallk.data.drawing import drawn
from recallk.data.headers import upright_size
from recallk.data.images import check_image, read_image
from recallk.data.item import Drawing, Region
from recallk.models.pictures import Pictures

SQUARE = '<rect x="4" y="8" width="8" height="8" fill="currentColor"/>'


def pixels(body: str, box: tuple[float, float, float, float] = (0, 0, 16, 16), side: int = 64) -> NDArray[np.uint8]:
    return np.asarray(read_image(Drawing("a:b", body, box, side)))


def test_a_filled_square_has_its_pixels() -> None:
    found = pixels(SQUARE)
    wanted = np.full((64, 64, 3), 255, np.uint8)
    wanted[32:64, 16:48] = 0
    assert found.dtype == np.uint8
    assert (found == wanted).all()


def test_the_box_lies_in_the_middle_of_a_square() -> None:
    seen = pixels('<rect x="4" y="8" width="8" height="4"/>', (4, 8, 8, 4))  # twice as wide as high
    wanted = np.full((64, 64, 3), 255, np.uint8)
    wanted[16:48] = 0
    assert (seen == wanted).all()
    assert (pixels(SQUARE, (4, 8, 8, 8), side=10) == 0).all()
    assert pixels(SQUARE, side=10).shape == (10, 10, 3)


def test_colours_stay_and_what_shines_through_is_laid_on_white() -> None:
    assert (pixels('<rect width="16" height="16" fill="#ff8000"/>') == (255, 128, 0)).all()
    assert abs(int(pixels('<rect width="16" height="16" opacity=".5"/>')[0, 0, 0]) - 127) <= 1
    assert (pixels("") == 255).all()


def test_texts_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hang on the typefaces of the machine, of which there may be none where this is tested."""
    body = '<text x="1" y="12">A</text>'
    assert (pixels(body) == 255).all()
    options = dict[str, Any]()
    render = module._renderer()
    monkeypatch.setattr(module, "_renderer", lambda: lambda svg, **given: options.update(given) or render(svg, **given))
    assert (pixels(body) == 255).all()
    assert options["skip_system_fonts"]


def test_another_process_draws_the_same() -> None:
    drawing = Drawing("a:b", '<circle cx="8" cy="8" r="5.3" stroke="red"/>', (0, 0, 16, 16), 64)
    assert pickle.loads(pickle.dumps(drawing)) == drawing
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(read_image, drawing).result()
    assert there.tobytes() == drawn(drawing).tobytes()


def test_its_size_is_known_without_drawing_it() -> None:
    assert upright_size(Drawing("a:b", "<no svg", (0, 0, 16, 16), 48)) == (48, 48)


def test_programs_may_give_drawings_as_images() -> None:
    drawing = Drawing("a:b", SQUARE, (0, 0, 16, 16), 64)
    assert Pictures([drawing])[0] is drawing
    with pytest.raises(InputError, match="image 0: a part of a Drawing"):
        Pictures([Region(drawing, (0, 0, 1, 1))])


@pytest.mark.parametrize("body", ["<no svg", "<g>", "</svg>", "\0"])
def test_what_is_no_svg_is_one_line(body: str) -> None:
    drawing = Drawing("mdi:home", body, (0, 0, 16, 16), 64)
    for read in (read_image, check_image):
        with pytest.raises(InputError, match=r"^mdi:home: cannot be drawn \(.*\); get the data set again$"):
            read(drawing)


def test_who_lacks_the_package_is_told_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    module._renderer.cache_clear()
    with pytest.raises(MissingExtraError, match=r"a drawing needs resvg-py.*pip install 'recallk\[icons\]'"):
        pixels(SQUARE)
