"""Items that are nearly the same, and items unlike all others."""

from pathlib import Path

import numpy as np
import pytest

from recallk import InputError
from recallk.catalogue.index import Index
from recallk.catalogue.look import NEIGHBOURS, duplicates, outliers
from tests.catalogue.place import draw, draw_all, said, small_embedder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    place = tmp_path_factory.mktemp("look")
    folder = draw_all(place / "photos", 12)
    draw(folder / "b" / "again.png", 3)  # as a/3.png
    draw(folder / "b" / "once more.png", 3)
    return Index.build(small_embedder(), folder, place / "catalogue", workers=0)


def similarities(index: Index) -> tuple[list[str], np.ndarray]:
    names, vectors = zip(*said(index).items(), strict=True)
    unit = np.stack(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = unit @ unit.T
    np.fill_diagonal(found, -2)
    return list(names), found


def test_what_is_the_same_is_found(index: Index) -> None:
    groups = duplicates(index, 0.99999)
    assert [sorted(hit.id for hit in group) for group in groups] == [["a/3.png", "b/again.png", "b/once more.png"]]
    assert all(hit.similarity == pytest.approx(1, abs=1e-3) for hit in groups[0])


@pytest.mark.parametrize("least", [-1.0, 0.5, 0.9, 0.97])
def test_groups_are_joined_by_similar_pairs(index: Index, least: float) -> None:
    names, found = similarities(index)
    together = {name: {name} for name in names}
    for one, other in zip(*np.nonzero(found >= least), strict=True):
        joined = together[names[one]] | together[names[other]]
        for name in joined:
            together[name] = joined
    expected = {frozenset(group) for group in together.values() if len(group) > 1}
    assert {frozenset(hit.id for hit in group) for group in duplicates(index, least)} == expected


def test_none_are_alike(index: Index) -> None:
    assert duplicates(index, 1.0) == [] or all(len(group) > 1 for group in duplicates(index, 1.0))


def test_the_loneliest_come_first(index: Index) -> None:
    names, found = similarities(index)
    mean = np.sort(found, axis=1)[:, -NEIGHBOURS:].mean(1)
    lonely = outliers(index, most=4)
    assert [outlier.hit.id for outlier in lonely] == [names[place] for place in np.argsort(mean)[:4]]
    for outlier in lonely:
        own = names.index(outlier.hit.id)
        nearest = [names[place] for place in np.argsort(-found[own])[:NEIGHBOURS]]
        assert outlier.others == sum(name[0] != outlier.hit.id[0] for name in nearest)


def test_a_threshold_that_is_none(index: Index) -> None:
    with pytest.raises(InputError, match="a cosine similarity"):
        duplicates(index, 2)


def test_one_item_has_no_neighbours(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a" / "0.png", 0)
    index = Index.build(small_embedder(), tmp_path / "photos", tmp_path / "catalogue", workers=0)
    assert duplicates(index) == []
    assert outliers(index) == []
