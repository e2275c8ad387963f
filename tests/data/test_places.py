"""The places data set: made alike everywhere, training and test apart, graded by what it was drawn with."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from recallk import InputError
from recallk.data.images import read_image
from recallk.data.instances.instance import Revisited
from recallk.data.instances.places import PLACES
from recallk.data.item import Record, Region
from recallk.data.places import photographs, places
from recallk.data.places.photographs import CLUTTER, OTHERS, SCENES, photograph, places_of
from recallk.data.places.views import SIZES, draw_views
from recallk.data.source import read_instances, read_own

pytestmark = pytest.mark.xdist_group("places")  # one process draws them


@pytest.fixture(scope="module")
def records() -> Sequence[Record]:
    return read_own("places")[0]


def digest(pictures: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()


def pixels(record: Record) -> np.ndarray:
    assert isinstance(record.item, np.ndarray)
    return record.item


def test_training_and_test_places_are_apart(records: Sequence[Record]) -> None:
    labels = {side: {record.label for record in records if record.split == side} for side in ("train", "test")}
    assert not labels["train"] & labels["test"]
    assert not {label.removesuffix(" mirrored") for label in labels["train"]} & labels["test"]
    assert len(labels["train"]) >= 200
    assert len(labels["test"]) >= 100
    assert set(Counter(record.label for record in records).values()) == {8}


def test_no_two_places_overlap_and_clutter_has_none() -> None:
    for file in SCENES:
        taken = np.zeros(photograph(file).size[::-1], dtype=int)
        for place in places_of(file):
            left, top, right, bottom = place.box
            taken[top:bottom, left:right] += 1
        assert taken.max() == 1, file
    assert not set(CLUTTER) & {*SCENES, *OTHERS}


def test_no_place_looks_like_another() -> None:
    """As thumbnails, once brightness and contrast are taken out, no two places are the same picture."""
    found = [place for file in SCENES for place in places_of(file)]
    thumbnails = []
    for place in found:
        small = photograph(place.file).crop(place.box).convert("L").resize((8, 8))
        grey = np.asarray(small, dtype=np.float64).ravel()
        thumbnails.append((grey - grey.mean()) / np.linalg.norm(grey - grey.mean()))
    similar = np.stack(thumbnails) @ np.stack(thumbnails).T - np.eye(len(found))
    assert similar.max() < 0.95, [found[i].name for i in np.unravel_index(similar.argmax(), similar.shape)]


def test_views_have_several_shapes(records: Sequence[Record]) -> None:
    shapes = Counter(pixels(record).shape for record in records if record.split == "train")
    assert set(shapes) == {(height, width, 3) for width, height in SIZES}
    assert min(shapes.values()) > 100


def test_the_same_seed_draws_the_same_and_another_does_not(records: Sequence[Record]) -> None:
    """One place is drawn by itself: others that come or go change none of its views."""
    first = next(record.label for record in records if record.split == "train")
    own = [pixels(record) for record in records if record.label == first]
    place = next(place for file in SCENES for place in places_of(file) if place.name == first)

    def drawn(seed: int) -> str:
        views = draw_views(place, places._TRAIN_VIEWS, places._generator(place, seed, "views"))
        return digest([view.pixels for view in views])

    assert drawn(0) == digest(own)
    assert drawn(1) != drawn(0)


def test_the_test_set_is_graded_and_asked_for_in_boxes() -> None:
    found, notes = read_instances("places")
    assert not notes, "as many as it says that there are"
    assert (len(found.queries), len(found.gallery)) == (PLACES.queries, PLACES.gallery)
    assert isinstance(found.truth, Revisited)
    numbers = [number for answers in found.truth.answers for grade in answers.values() for number in grade]
    assert sorted(numbers) == list(range(len(numbers))), "each view answers one query"
    assert len(found.gallery) - len(numbers) >= 300, "distractors"
    for query, answers in zip(found.queries, found.truth.answers, strict=True):
        assert [len(answers[grade]) for grade in ("easy", "hard", "junk")] == [3, 4, 2]
        assert isinstance(query, Region)
        assert min(read_image(query).size) >= 16
    boxes = [query.box for query in found.queries if isinstance(query, Region)]
    in_part = [box != (0, 0, 128, 96) for box in boxes]
    assert sum(in_part) > len(in_part) / 2, "most boxes leave something out"


def test_grades_are_what_they_were_drawn_with() -> None:
    for landmark in places.landmarks()[:20]:
        for view in landmark.views:
            if view.grade == "junk":
                continue
            assert view.visible >= (0.8 if view.grade == "easy" else 0.4)


def test_a_package_without_its_photographs_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(photographs, "find_spec", lambda _: Spec)
    with pytest.raises(InputError, match=r"^places: skimage comes without data/nothing\.png here: install it anew"):
        photograph("skimage/data/nothing.png")
