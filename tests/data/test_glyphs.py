import itertools
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.data.glyphs import _classes, glyphs
from recallk.data.item import Record

SIZE = 24  # not a multiple of the thumbnails' 16
FONTS = 14  # fewer characters, to be fast; capitals of three alphabets are among them


def draw(seed: int = 0) -> list[Record]:
    return glyphs(seed, size=SIZE, fonts_per_character=FONTS)


def pixels(record: Record) -> NDArray[np.uint8]:
    assert isinstance(record.item, np.ndarray)
    return record.item


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return draw()


@pytest.fixture(scope="module")
def classes(records: list[Record]) -> dict[str, list[NDArray[np.uint8]]]:
    images = defaultdict(list)
    for record in records:
        images[record.label].append(pixels(record))
    return images


def test_same_seed_same_records(records: list[Record]) -> None:
    for a, b in zip(records, draw(), strict=True):
        assert (a.label, a.split) == (b.label, b.split)
        np.testing.assert_array_equal(pixels(a), pixels(b))


def test_another_seed_only_splits_otherwise(records: list[Record]) -> None:
    other = draw(seed=1)
    assert [record.label for record in other] == [record.label for record in records]
    assert [record.split for record in other] != [record.split for record in records]


def test_classes_are_halved(records: list[Record]) -> None:
    train = {record.label for record in records if record.split == "train"}
    test = {record.label for record in records if record.split == "test"}
    assert len(train | test) == len({record.label for record in records})
    assert not train & test
    assert abs(len(train) - len(test)) <= 1


def test_pictures(records: list[Record]) -> None:
    for record in records:
        image = pixels(record)
        assert image.dtype == np.uint8
        assert image.shape == (SIZE, SIZE)
        assert image.min() < 224, f"{record.label} is blank"
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert edge.min() == 255, f"{record.label} may be clipped"
        rows, columns = np.nonzero(image < 255)
        for places in (rows, columns):
            assert abs(int(places.min()) + int(places.max()) - (SIZE - 1)) <= 1, f"{record.label} is off the centre"


def test_classes_have_enough_different_images(classes: dict[str, list[NDArray[np.uint8]]]) -> None:
    assert len(classes) > 500
    for label, images in classes.items():
        assert len(images) >= 4, label
        for a, b in itertools.combinations(images, 2):
            assert np.abs(a.astype(int) - b).max() > 64, label


def test_no_picture_stands_for_two_classes(classes: dict[str, list[NDArray[np.uint8]]]) -> None:
    distinct = {image.tobytes() for images in classes.values() for image in images}
    assert len(distinct) == sum(map(len, classes.values()))


def test_characters_that_look_the_same_are_one_class(classes: dict[str, list[NDArray[np.uint8]]]) -> None:
    assert {"U+0041 A", "U+0042 B"} <= set(classes)
    assert len(classes["U+0041 A"]) >= FONTS
    assert not {"U+0391 Α", "U+0410 А"} & set(classes)  # Greek, Cyrillic
    # letters that differ only by a mark stay apart
    assert {"U+00E8 è", "U+00E9 é", "U+00EA ê"} <= set(classes)


def test_half_of_the_typefaces_decide() -> None:
    generator = np.random.default_rng(0)
    first, second, third = generator.integers(0, 256, (3, 12, SIZE, SIZE), dtype=np.uint8)
    second[:6] = first[:6]  # the same in half of the typefaces
    third[:5] = first[:5] ^ 1  # nearly so in fewer: what these draw could be either
    third[11] = first[10]  # nor is it clear across typefaces
    drawings = [{1: first[font], 2: second[font], 3: third[font]} for font in range(12)]
    classes = _classes(drawings)
    assert list(classes) == [1, 3]
    united = [first[5], *first[6:10], first[11], *second[6:]]
    assert {image.tobytes() for image in classes[1]} == {image.tobytes() for image in united}
    assert {image.tobytes() for image in classes[3]} == {image.tobytes() for image in third[5:11]}


def test_a_small_mark_stays_small(classes: dict[str, list[NDArray[np.uint8]]]) -> None:
    def ink(label: str) -> float:
        return float(np.median([np.sum(255 - image.astype(int)) for image in classes[label]]))

    assert 0 < 3 * ink("U+002C ,") < ink("U+0041 A")


def test_tex_codes_are_not_taken_for_unicode(classes: dict[str, list[NDArray[np.uint8]]]) -> None:
    # one of TeX's typefaces has "infinity" where the digit 1 would be, wider than any digit
    widths = [int(np.ptp(np.nonzero(image < 128)[1])) for image in classes["U+0031 1"]]
    assert max(widths) < SIZE // 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 15}, "size is 15"),
        ({"fonts_per_character": 0}, "fonts_per_character is 0"),
        ({"fonts_per_character": 1000}, "lower fonts_per_character"),
    ],
)
def test_wrong_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        glyphs(**arguments)
