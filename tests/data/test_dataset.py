"""Data is read, split and looked into once; a run's split is read from its folder whatever has become of the data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data import dataset, sides
from recallk.data.dataset import Dataset, read_all, read_for_test, read_for_training
from recallk.data.item import Record
from recallk.data.settings import DataSettings
from recallk.data.split import load_split, save_split
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.data import miniatures

TINY: dict[str, Any] = {
    **{"backbone": "test_resnet", "weights": "none", "batch_norm": "per-chunk", "embedding_size": 16, "epochs": 1},
    **{"image_size": 16, "resize": 16, "chunk_size": 7, "workers": 0, "accelerator": "cpu"},
    "select": "validation",
}


def save_classes(root: Path, names: list[str], images: int = 4) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.fromarray(np.random.default_rng(number).integers(0, 255, (9, 9, 3), np.uint8)).save(
                root / name / f"{number}.png"
            )
    return root


def settings(data: Path | str, **changes: Any) -> DataSettings:
    return DataSettings(data=str(data), **{"select": "validation"} | changes)


def read_twice(given: DataSettings, tmp_path: Path) -> tuple[Dataset, Dataset]:
    """Return a data set as it is read first, and as it is read with the split that was written down of it."""
    first = read_for_training(given)
    save_split(first.split, tmp_path / "split.json")
    return first, read_for_training(given, load_split(tmp_path / "split.json"))


READERS: dict[str, Callable[[Path], object]] = {
    "training": lambda data: read_for_training(settings(data)),
    "test": lambda data: read_for_test(settings(data)),
    "all": lambda data: read_all(str(data)),
}


def items_of(data: Dataset) -> list[list[str]]:
    parts = [data.train, data.test.labelled, *([data.validation] if data.validation else [])]
    return [[str(item) for item in part.items] for part in parts]


# read for the first time


def test_every_item_is_on_one_side_and_the_split_says_on_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "FEWEST_QUERIES", 8)
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(30)])
    read = read_for_training(settings(data, validation_fraction=0.3))
    assert read.validation is not None
    assert read.why_no_validation == ""
    train, validation, test = (set(part.classes) for part in (read.train, read.validation, read.test.labelled))
    assert train | validation | test == {f"c{number:02}" for number in range(30)}
    assert len(train) + len(validation) + len(test) == 30
    assert {name: set(labels) for name, labels in read.split.splits.items()} == {
        "train": train,
        "validation": validation,
        "test": test,
    }
    (search,) = read.test.searches
    assert (search.name, search.gallery) == ("", None)
    assert search.queries.tolist() == list(range(len(read.test.labelled)))
    assert read.split_by_us
    assert read.opened == 30 * 4
    assert not read.notes


def test_too_few_classes_to_set_some_aside_are_told(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    read = read_for_training(settings(data))
    assert read.validation is None
    assert "training classes are too few to set some aside" in read.why_no_validation
    for select in ("test", "last"):
        read = read_for_training(settings(data, select=select))
        assert (read.validation, read.why_no_validation) == (None, "")


def test_a_split_that_is_given_is_not_ours(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", ["a", "b", "c"])
    rows = [f"data/{label}/{n}.png,{label},{'test' if label == 'b' else 'train'}" for label in "abc" for n in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    read = read_for_training(settings(tmp_path / "t.csv"))
    assert not read.split_by_us
    assert read.test.labelled.classes == ["b"]
    assert read.train.classes == ["a", "c"]
    assert read_for_training(settings(data)).split_by_us


@pytest.mark.parametrize("reader", READERS)
def test_test_classes_of_one_item_are_told_before_any_work(tmp_path: Path, reader: str) -> None:
    data = save_classes(tmp_path / "data", ["a", "b", "c", "d"], images=1)
    with pytest.raises(InputError, match="every test class has one item: there is nothing to retrieve"):
        READERS[reader](data)


@pytest.mark.parametrize("reader", READERS)
def test_a_broken_file_is_told_before_any_work(tmp_path: Path, reader: str) -> None:
    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    for label in range(6):
        (data / f"c{label}" / "3.png").write_text("no image")
    with pytest.raises(InputError, match=r"3\.png: not an image"):
        READERS[reader](data)


def test_all_items_search_each_other(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", ["a", "b"])
    (data / "a" / "notes.txt").write_text("x")
    items, notes = read_all(str(data))
    assert items.labelled.counted == "8 images of 2 classes"
    (search,) = items.searches
    assert (search.name, search.gallery, search.queries.tolist()) == ("", None, list(range(8)))
    assert [note.kind for note in notes] == ["skipped files"]


def test_the_items_of_overlapping_test_sets_are_read_once(tmp_path: Path) -> None:
    root = miniatures.make("vehicleid", tmp_path / "data")
    items, _ = read_for_test(settings(root, dataset="vehicleid"))
    small, medium, large = items.searches
    assert [search.name for search in items.searches] == ["small", "medium", "large"]
    assert len(set(items.labelled.items)) == len(items.labelled) == len(large.queries)
    assert set(small.queries) < set(medium.queries) < set(large.queries)


def test_queries_and_gallery_apart_are_told_apart(tmp_path: Path) -> None:
    root = miniatures.make("inshop", tmp_path / "data")
    read = read_for_training(settings(root, dataset="inshop", select="test"))
    (search,) = read.test.searches
    assert search.gallery is not None
    assert {read.test.labelled.records[i].split for i in search.queries} == {"query"}
    assert {read.test.labelled.records[i].split for i in search.gallery} == {"gallery"}
    assert len(search.queries) + len(search.gallery) == len(read.test.labelled)


# read with the split of a run that has begun


def test_a_runs_split_stays_when_classes_and_images_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "FEWEST_QUERIES", 8)
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(24)])
    config = make_config(TINY, {"data": str(data), "validation_fraction": 0.3})
    folder, plan = RunFolder(tmp_path / "run"), prepare(config)
    next(Trainer(plan, folder).rows())
    first = plan.data
    assert first.validation is not None
    held = json.loads((tmp_path / "run" / "split.json").read_text())
    assert held["version"] == 1
    assert {name: sorted(labels) for name, labels in held["splits"].items()} == {
        "train": sorted(first.train.classes),
        "validation": sorted(first.validation.classes),
        "test": sorted(first.test.labelled.classes),
    }
    label = first.test.labelled.classes[0]
    assert held["splits"]["test"][label] == [f"{label}/{number}.png" for number in range(4)]

    save_classes(data, ["a", "b1", "zz"], images=3)
    Image.new("RGB", (9, 9)).save(data / first.train.classes[0] / "new.png")
    again = prepare(folder.read_config(), folder.read_split())
    assert items_of(again.data) == items_of(first)
    assert again.data.split == first.split
    assert "new since the run: 10 items of 4 classes; left out" in str(again.data.notes[0])
    test, _ = read_for_test(folder.read_config(), folder.read_split())
    assert items_of(again.data)[1] == [str(item) for item in test.labelled.items]
    list(Trainer(again, folder).rows(resume=True))
    assert (folder.model / "weights.safetensors").is_file()
    with pytest.raises(InputError, match="the data has changed since the run began"):
        list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))


def test_what_is_gone_is_told_and_stops_a_resume(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    given = settings(data)
    first = read_for_training(given)
    gone, *others = first.test.labelled.items
    assert isinstance(gone, Path)
    gone.unlink()
    test, notes = read_for_test(given, first.split)
    assert len(test.labelled) == len(first.test.labelled) - 1
    assert "gone since the run: 1 item of 1 class (c0/0.png); measured on what is left" in str(notes[0])
    with pytest.raises(
        InputError,
        match=r"1 of the run's items cannot be found \(c0/0\.png among them\).*put them back, or start a new run",
    ):
        read_for_training(given, first.split)
    for item in others:
        assert isinstance(item, Path)
        item.unlink()
    with pytest.raises(InputError, match="none of the run's test items is there"):
        read_for_test(given, first.split)


def test_a_table_and_another_place(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    files = sorted(data.rglob("*.png"))
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label", *(f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files)]))
    first = read_for_training(settings(table))
    assert first.split.splits["test"][first.test.labelled.classes[0]][0].startswith("data/c")  # type: ignore[index]
    moved = tmp_path / "moved"
    moved.mkdir()
    data.rename(moved / "data")
    table.rename(moved / "table.csv")
    again = read_for_training(settings(moved / "table.csv"), first.split)
    assert [r.label for r in again.test.labelled.records] == [r.label for r in first.test.labelled.records]
    assert not again.notes


def test_pixels_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [Record(np.full((8, 8), 9 * n + c, np.uint8), str(c)) for c in range(8) for n in range(4)]
    monkeypatch.setattr(dataset, "read_own", lambda data, items, layout: (drawn, []))
    first, again = read_twice(settings("glyphs"), tmp_path)
    assert all(labels == dict.fromkeys(labels, 4) for labels in first.split.splits.values())
    assert [r.label for r in again.train.records] == [r.label for r in first.train.records]
    pairs = zip(again.test.labelled.items, first.test.labelled.items, strict=True)
    assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)
    assert not again.notes
    assert again.opened == 0
    splits = first.split.splits
    fewer = {"train": {**splits["train"], first.train.classes[0]: 10**18}, "test": splits["test"]}
    with pytest.raises(InputError, match=r"999,999,999,999,999,996 of the run's items cannot be found, so"):
        read_for_training(settings("glyphs"), type(first.split)(fewer))


def test_a_limit_to_few_classes_is_no_news(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(20)])
    first, again = read_twice(settings(data, limit_classes=4), tmp_path)
    assert items_of(again) == items_of(first)
    assert not again.notes


@pytest.mark.parametrize("name", ["vehicleid", "inshop", "sop", "sfm120k"])
def test_the_lists_of_a_benchmark(name: str, tmp_path: Path) -> None:
    root = miniatures.make(name, tmp_path / "data")
    first, again = read_twice(settings(root, dataset=name, select="test"), tmp_path)
    assert items_of(again) == items_of(first)
    for one, other in zip(again.test.searches, first.test.searches, strict=True):
        assert np.array_equal(one.queries, other.queries)
        assert (one.gallery is None) == (other.gallery is None)
    assert [str(note) for note in again.notes] == [str(note) for note in first.notes]
    assert not first.split_by_us


def test_a_benchmark_without_test_classes_is_split_as_own_data(tmp_path: Path) -> None:
    root = miniatures.make("gldv2-clean", tmp_path / "data")
    given = settings(root, dataset="gldv2-clean", test_fraction=0.3)
    first, again = read_twice(given, tmp_path)
    assert items_of(again) == items_of(first)
    assert first.split_by_us
    assert again.split_by_us
    (search,) = first.test.searches
    assert (search.name, search.gallery, len(search.queries)) == ("", None, len(first.test.labelled))
    names = [str(number) for number in range(1, 13)]
    own = read_for_training(settings(save_classes(tmp_path / "own", names), test_fraction=0.3))
    assert (first.train.classes, first.test.labelled.classes) == (own.train.classes, own.test.labelled.classes)
    counts = "train has 60 images of 12 classes; published are 1,580,470 of 81,313"
    assert [note.message for note in first.notes] == [counts]
    few = read_for_training(given.model_copy(update={"limit_classes": 2}))
    assert (len(few.train.classes), len(few.test.labelled.classes)) == (2, 2)


def test_a_benchmark_without_test_classes_that_has_changed(tmp_path: Path) -> None:
    """A class that comes later is on neither side of the run, whatever its name; one that has gone is told."""
    root = miniatures.make("gldv2-clean", tmp_path / "data")
    given = settings(root, dataset="gldv2-clean")
    first = read_for_training(given)
    path = root / "train_clean.csv"
    lines = path.read_text().splitlines()
    for number in range(20):
        miniatures.jpeg(root / f"train/f/f/f/fff{number:013}.jpg")
    new = [f"{900 + number},fff{2 * number:013} fff{2 * number + 1:013}" for number in range(10)]
    miniatures.write(path, [*lines, *new])
    again = read_for_training(given, first.split)
    assert items_of(again) == items_of(first)
    assert "new since the run: 20 items of 10 classes; left out" in str(again.notes[-1])
    tested = first.test.labelled.classes[0]
    miniatures.write(path, [line for line in lines if not line.startswith(f"{tested},")])
    test, notes = read_for_test(given, first.split)
    assert test.labelled.classes == first.test.labelled.classes[1:]
    assert "gone since the run: 5 items of 1 class (train/" in str(notes[-1])
    with pytest.raises(InputError, match="5 of the run's items cannot be found"):
        read_for_training(given, first.split)


def test_without_the_split_of_the_run_a_doubt_is_told(tmp_path: Path) -> None:
    """Unless the data brings its own."""
    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    first = read_for_training(settings(data))
    _, notes = read_for_test(settings(data))
    assert "no split.json in the run, so split anew: it may have been trained on classes tested here" in str(notes[-1])
    assert not read_for_test(settings(data), first.split)[1]
    for name, told in (("sop", False), ("gldv2-clean", True)):
        root = miniatures.make(name, tmp_path / name)
        _, notes = read_for_test(settings(root, dataset=name))
        assert any("split anew" in str(note) for note in notes) is told


def test_classes_set_aside_before_are_set_aside_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where other settings would choose others, or none by now."""
    monkeypatch.setattr(sides, "FEWEST_QUERIES", 8)
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(30)])
    first = read_for_training(settings(data))
    assert first.validation is not None
    monkeypatch.setattr(sides, "FEWEST_QUERIES", 1000)
    assert read_for_training(settings(data)).validation is None
    again = read_for_training(settings(data, validation_fraction=0.5), first.split)
    assert items_of(again) == items_of(first)


def test_settings_that_read_alike() -> None:
    """Whatever else a configuration holds."""
    one = make_config(TINY, {"data": "x"})
    assert one.reads_as(settings("x"))
    assert one.reads_as(make_config(TINY, {"data": "x", "epochs": 9, "learning_rate": 0.5}))
    changes: list[dict[str, Any]] = [{"data": "y"}, {"dataset": "cub"}, {"items": "vectors"}, {"limit_classes": 3}]
    changes += [
        {"split": "classes"},
        {"closed_set": True},
        {"columns": "label=class"},
        {"root": "elsewhere"},
        {"split_seed": 1},
        {"test_fraction": 0.3},
        {"select": "last"},
        {"validation_fraction": 0.2},
    ]
    changes += [{"on_bad_image": "skip"}, {"on_bad_image": "skip", "max_bad_images": 0.5}]
    assert {key for change in changes for key in change} == set(DataSettings.model_fields)
    for change in changes:
        assert not one.reads_as(DataSettings(**({"data": "x"} | change))), change
