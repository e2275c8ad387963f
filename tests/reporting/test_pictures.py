import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from recallk.reporting.pictures import (
    CELL,
    GAP,
    IMAGE,
    LEGEND,
    MARGIN,
    NEUTRAL,
    RIGHT,
    WRONG,
    Retrieval,
    Retrieved,
    fitted,
    framed,
    search_picture,
)


def retrieval(results: int, correct: bool | None, label: str = "class") -> Retrieval:
    image = Image.new("RGB", (50, 30), "white")
    found = [Retrieved(image, f"folder/{i}.jpg", label, 0.9, correct) for i in range(results)]
    return Retrieval(image, "query.jpg", label, found, "")


def drawn(retrievals: list[Retrieval], folder: Path) -> Image.Image:
    path = folder / "search.png"
    search_picture(retrievals, path)
    assert list(folder.iterdir()) == [path]  # nothing unfinished remains
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.convert("RGB")


def width(columns: int) -> int:
    return 2 * MARGIN + IMAGE + 2 * GAP + columns * (IMAGE + GAP) - GAP


def has(image: Image.Image, colour: str) -> bool:
    return bool((np.asarray(image) == ImageColor.getrgb(colour)).all(-1).any())


@pytest.mark.parametrize(
    ("results", "columns", "lines"), [([3], 3, 1), ([8, 8], 8, 2), ([9], 8, 2), ([2, 17], 8, 4), ([0], 1, 1)]
)
def test_size(tmp_path: Path, results: list[int], columns: int, lines: int) -> None:
    picture = drawn([retrieval(n, None) for n in results], tmp_path)
    assert picture.size == (width(columns), 2 * MARGIN + lines * CELL + (len(results) - 1) * GAP)


def test_legend_and_colours_only_where_right_is_known(tmp_path: Path) -> None:
    unknown = drawn([retrieval(2, None)], tmp_path)
    assert not has(unknown, RIGHT)
    assert not has(unknown, WRONG)
    known = drawn([retrieval(2, True)], tmp_path)
    assert known.height == unknown.height + LEGEND
    assert has(known, RIGHT)


def test_no_queries(tmp_path: Path) -> None:
    assert drawn([], tmp_path).size == (width(1), 2 * MARGIN)


@pytest.mark.parametrize("label", ["", "x" * 500, "two\nlines", "日本 <b>&amp;</b> العربية"])
def test_any_label(tmp_path: Path, label: str) -> None:
    assert drawn([retrieval(2, False, label)], tmp_path).width == width(2)


def test_frames_differ_without_colour() -> None:
    image = Image.new("L", (32, 32), 255)
    right, wrong, unknown = (framed(image, correct, 144) for correct in (True, False, None))
    assert right.size == wrong.size == unknown.size == (144, 144)
    edge = slice(30, 110)  # of the left side, away from badge and corners

    def inked(frame: Image.Image) -> float:
        return float((np.asarray(frame.convert("L"))[edge, 1] < 200).mean())

    assert inked(right) == 1
    assert 0.5 < inked(wrong) < 0.9
    assert inked(unknown) == 0
    assert has(right, RIGHT)
    assert has(wrong, WRONG)
    assert has(unknown, NEUTRAL)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 32), (128, 128)),
        ((500, 375), (128, 96)),
        ((128, 1), (128, 1)),
        ((1000, 2), (128, 1)),
        ((5, 50), (10, 100)),
    ],
)
def test_fitted(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted(Image.new("RGB", size), 128).size == expected


def test_tiny_images_stay_crisp() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    enlarged = np.asarray(fitted(Image.fromarray(pixels), 128))
    np.testing.assert_array_equal(enlarged, pixels.repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize(
    ("label", "shown"),
    [("\x1b[31m", r"\x1b[31m"), ("\u202egnp", r"\u202egnp"), ("a\x00b", r"a\x00b"), ("\udcff", r"\udcff")],
)
def test_control_characters_are_written_out(tmp_path: Path, label: str, shown: str) -> None:
    same, expected = (np.asarray(drawn([retrieval(1, None, text)], tmp_path)) for text in (label, shown))
    np.testing.assert_array_equal(same, expected)


def test_what_the_typeface_lacks_is_told_apart(tmp_path: Path) -> None:
    one, other = (np.asarray(drawn([retrieval(1, None, text)], tmp_path)) for text in ("\u65e5\u672c", "\u4e2d\u56fd"))
    assert (one != other).any()


def test_a_name_without_end_is_cut_at_once(tmp_path: Path) -> None:
    started = time.perf_counter()
    drawn([retrieval(3, None, "x" * 20_000)], tmp_path)
    assert time.perf_counter() - started < 5


def test_images_that_are_lost(tmp_path: Path) -> None:
    lost = [Retrieved(None, "a.jpg", "class", 0.9, correct) for correct in (True, None)]
    picture = drawn([Retrieval(None, "query.jpg", "class", lost, "")], tmp_path)
    assert has(picture, RIGHT)
