"""Whether a mirrored image is still of its class is seen from the training images, and where it cannot be, not said."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recallk import InputError
from recallk.data.item import Depicted, Record
from recallk.data.mirrored import OF_A_CLASS, SAMPLE, Mirrored, look_at_mirrored
from recallk.data.records import LabelledItems, labelled

Pixels = NDArray[np.uint8]


def items_of(classes: dict[str, list[Pixels]]) -> LabelledItems:
    def record(image: Depicted, name: str) -> Record:
        return Record(image, name, "train")

    return labelled([record(image, name) for name, images in classes.items() for image in images])


def varied(picture: NDArray[Any], images: int, seed: int) -> list[Pixels]:
    random = np.random.default_rng(seed)
    return [np.clip(picture + random.normal(0, 8, picture.shape), 0, 255).astype(np.uint8) for _ in range(images)]


def pictures(classes: int) -> NDArray[Any]:
    return np.random.default_rng(1).uniform(0, 255, (classes, 16, 16))


def test_what_is_mirrored_into_another_class_is_seen() -> None:
    """As with b and d: of each class, another one holds its mirror images."""
    classes = dict[str, list[Pixels]]()
    for number, picture in enumerate(pictures(20)):
        classes[f"{number} b"] = varied(picture, 4, 2 * number)
        classes[f"{number} d"] = varied(picture[:, ::-1], 4, 2 * number + 1)
    seen = look_at_mirrored(items_of(classes))
    assert seen == Mirrored(160, 160, 0)
    assert seen.is_another


def test_what_is_alike_when_mirrored_is_no_other_class() -> None:
    alike = (picture + picture[:, ::-1] for picture in pictures(40) / 2)
    seen = look_at_mirrored(items_of({f"{i}": varied(picture, 4, i) for i, picture in enumerate(alike)}))
    assert seen == Mirrored(160, 160, 160)
    assert not seen.is_another


@pytest.mark.parametrize(
    ("seen", "is_another"),
    [
        (Mirrored(1_000, 800, 399), True),
        (Mirrored(1_000, 800, 401), False),  # half of them still do
        (Mirrored(1_000, 90, 0), False),  # such small pictures tell little of these classes
        (Mirrored(1_000, 100, 0), True),
        (Mirrored(20, 9, 0), False),  # by chance
        (Mirrored(20, 10, 0), True),
        (Mirrored(0, 0, 0), False),
    ],
)
def test_what_is_said_of_what_was_seen(seen: Mirrored, is_another: bool) -> None:
    assert seen.is_another == is_another


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12), seed=st.integers(0, 1_000))
def test_the_nearest_other_image_is_looked_for_among_upright_ones(sizes: list[int], seed: int) -> None:
    """Compared with plain loops, for classes that are taken whole."""
    random = np.random.default_rng(seed)
    kept = [min(size, OF_A_CLASS) for size in sizes]
    images = [
        (i, random.integers(0, 256, (16, 16)).astype(np.uint8)) for i, size in enumerate(kept) for _ in range(size)
    ]
    seen = look_at_mirrored(items_of({f"{i:02}": [p for j, p in images if j == i] for i in range(len(kept))}))
    looked_at = [(label, picture.astype(float)) for label, picture in images if kept[label] > 1]
    found = [0, 0]
    for way in (0, 1):
        for place, (label, picture) in enumerate(looked_at):
            view = picture[:, ::-1] if way else picture
            alike = {
                other: np.corrcoef(view.ravel(), compared.ravel())[0, 1]
                for other, (_, compared) in enumerate(looked_at)
                if other != place
            }
            found[way] += looked_at[max(alike, key=lambda other: alike[other])][0] == label
    assert seen == Mirrored(len(looked_at), *found)


def test_some_images_of_some_classes_are_read() -> None:
    grey = np.zeros((8, 8), np.uint8)
    seen = look_at_mirrored(items_of({f"{i:04}": [grey] * 6 for i in range(400)} | {"alone": [grey]}))
    assert seen.images == SAMPLE
    few = look_at_mirrored(items_of({"a": [grey] * 50, "b": [grey] * 3, "alone": [grey]}))
    assert few.images == OF_A_CLASS + 3


def test_an_image_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match="pixels"):
        look_at_mirrored(items_of({"a": [np.zeros((8, 8, 7), np.uint8)] * 2}))
