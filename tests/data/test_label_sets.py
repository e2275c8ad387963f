"""Several labels of an item: as they are written, in which split, and drawn for an epoch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recallk import InputError
from recallk.data.columns import read_columns
from recallk.data.item import Record
from recallk.data.label_sets import LabelSets, has_several, label_set, labels_in
from recallk.data.records import labelled
from recallk.data.sides import limit_classes, split_classes

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d d"]), max_size=3).map("|".join)


def test_texts() -> None:
    assert label_set("a| b |a||") == {"a", "b"}
    assert label_set(" a ") == {" a "}, "one label is as it is written"
    assert label_set("U+007C |") == {"U+007C |"}, "as a character is called"
    assert label_set("a|a") == {"a"}
    assert label_set("") == set()
    assert has_several(["a", "b|a"])
    assert has_several(["a|a", "a"]), "which are relevant to each other"
    assert not has_several(["a", "|", "a|"])
    assert labels_in(["a|b", "c"]) == {"a", "b", "c"}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_lists_in_tables(tmp_path: Path, suffix: str) -> None:
    table, lists = tmp_path / f"t{suffix}", [["red", "round"], ["red"], []]
    if suffix == ".parquet":
        parquet.write_table(pyarrow.table({"path": ["a", "b", "c"], "label": lists}), table)
    elif suffix == ".jsonl":
        rows = [json.dumps({"path": path, "label": own}) for path, own in zip("abc", lists, strict=True)]
        table.write_text("\n".join(rows))
    else:
        table.write_text("path,label\na,red|round\nb,red\nc,\n")
    assert read_columns(table, ("path", "label"), ())["label"] == ["red|round", "red", ""]


@pytest.mark.parametrize(("labels", "told"), [(["a|b"], "a label is a|b"), ([["a"]], r"a label is \['a'\]")])
def test_odd_labels_in_lists_are_one_line(tmp_path: Path, labels: Any, told: str) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"path": "a", "label": labels}))
    with pytest.raises(
        InputError, match=rf"t.jsonl, line 1: {told}: labels in a list are texts without \|".replace("a|b", r"a\|b")
    ):
        read_columns(tmp_path / "t.jsonl", ("path", "label"), ())


@given(st.lists(TEXTS, min_size=1, max_size=12), st.data())
@settings(max_examples=100, deadline=None)
def test_who_is_relevant(texts: list[str], data: st.DataObject) -> None:
    items = labelled([Record(f"item {number}", text) for number, text in enumerate(texts)])
    queries = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, unique=True)))
    gallery = data.draw(st.none() | st.lists(st.integers(0, len(texts) - 1), min_size=1, unique=True).map(np.array))
    positives = items.positives(queries, gallery)
    searched = queries if gallery is None else gallery
    several = has_several(texts)
    expected = [
        [
            place
            for place, item in enumerate(searched)
            if (label_set(texts[query]) & label_set(texts[item]) if several else texts[query] == texts[item])
            and (gallery is not None or item != query)
        ]
        for query in queries
    ]
    found = [positives.relevant.mask(number).nonzero()[:, 0].tolist() for number in range(len(queries))]
    assert found == expected
    if gallery is None and len(queries) == len(texts):
        able = {texts[query] for query, own in zip(queries, expected, strict=True) if own}
        assert {name for name, can in zip(items.classes, items.answerable, strict=True) if can} == able


@given(st.lists(TEXTS, min_size=1, max_size=20), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_one_label_is_drawn_for_each_epoch(texts: list[str], seed: int) -> None:
    items = labelled([Record(f"item {number}", text) for number, text in enumerate(texts)])
    sets = LabelSets.of(items.classes, items.labels)
    own = [set(sets.labels[first:last]) for first, last in zip(sets.offsets[:-1], sets.offsets[1:], strict=True)]
    assert [len(numbers) for numbers in own] == [len(label_set(text)) for text in texts]
    seen: list[set[int]] = [set() for _ in texts]
    for epoch in range(1, 40):
        drawn = sets.drawn(seed, epoch)
        np.testing.assert_array_equal(drawn, sets.drawn(seed, epoch))
        for number, label in enumerate(drawn.tolist()):
            seen[number].add(label)
    for numbers, labels in zip(own, seen, strict=True):
        assert labels == numbers if numbers else len(labels) == 1
    alone = [label for numbers, labels in zip(own, seen, strict=True) if not numbers for label in labels]
    assert len(set(alone)) == len(alone)
    assert not set(alone) & set(sets.labels.tolist())


def records(*labels: str, split: str | None = None) -> list[Record]:
    return [Record(f"{split} {number}", label, split) for number, label in enumerate(labels)]


def test_a_split_has_to_be_given() -> None:
    with pytest.raises(InputError, match=r"items have several labels .*: give a split .*--test-fraction 0"):
        split_classes(records("a|b", "c"), 0.5, 0)
    assert {record.split for record in split_classes(records("a|b", "c"), 0, 0)} == {"train"}
    apart = [*records("a|b", "a", split="train"), *records("c|d", "c", split="test")]
    assert split_classes(apart, 0.5, 0) == apart
    both = [*records("a|b", "a", split="train"), *records("c|b", "c", split="test")]
    with pytest.raises(InputError, match="class b is in the train and in the test split"):
        split_classes(both, 0.5, 0)
    assert split_classes(both, 0.5, 0, closed_set=True) == both
    with pytest.raises(InputError, match="limit_classes is for items with one label"):
        limit_classes(both, 2)
