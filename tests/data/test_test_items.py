"""The items of all test sets, each once, and who searches what among them."""

from pathlib import Path

from recallk.data.benchmarks.benchmark import TestSet
from recallk.data.dataset import _test_items
from recallk.data.item import Record


def test_an_item_in_several_test_sets_is_embedded_once() -> None:
    records = [Record(Path(f"{i}.jpg"), str(i // 2), "small") for i in range(4)]
    records += [Record(Path(f"{i}.jpg"), str(i // 2), "large") for i in range(6)]
    test = _test_items(records, [TestSet("small", "small"), TestSet("large", "large")])
    assert len(test.labelled.records) == 6
    for search, count in zip(test.searches, (4, 6), strict=True):
        assert search.gallery is None
        named = [test.labelled.records[i].item for i in search.queries]
        assert named == [Path(f"{i}.jpg") for i in range(count)]
    assert test.labelled.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_queries_and_gallery_apart() -> None:
    records = [Record(Path(f"{i}.jpg"), str(i % 2), "query" if i < 2 else "gallery") for i in range(6)]
    (search,) = _test_items(records, [TestSet("", "query", "gallery")]).searches
    assert search.queries.tolist() == [0, 1]
    assert search.gallery is not None
    assert search.gallery.tolist() == [2, 3, 4, 5]
