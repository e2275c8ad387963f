"""The split that a run was made with is in its folder, and is read from there whatever has become of the data."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data.item import Record
from recallk.runs.config import TrainConfig, make_config
from recallk.runs.folder import RunFolder
from recallk.training import plan as plans
from recallk.training.plan import Plan, prepare, read
from recallk.training.trainer import Trainer
from tests.data import miniatures
from tests.training.test_trainer import SMALL

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "epochs": 1}


def save_classes(root: Path, names: list[str], images: int = 4) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.fromarray(np.random.default_rng(number).integers(0, 255, (9, 9, 3), np.uint8)).save(
                root / name / f"{number}.png"
            )
    return root


def config_of(data: Path | str, **changes: Any) -> TrainConfig:
    return make_config(TINY, {"data": str(data)}, changes)


def begun(config: TrainConfig, path: Path) -> tuple[RunFolder, Plan]:
    folder, plan = RunFolder(path), prepare(config)
    next(Trainer(plan, folder).rows())
    return folder, plan


def sides(plan: Plan) -> list[list[str]]:
    parts = [plan.train, plan.test.part, *([plan.validation] if plan.validation else [])]
    return [[str(record.image) for record in part.records] for part in parts]


def test_a_runs_split_stays_when_classes_and_images_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.training import selection
    from recallk.training.plan import read_run

    monkeypatch.setattr(selection, "FEWEST_QUERIES", 8)
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(24)])
    folder, plan = begun(config_of(data, validation_fraction=0.3), tmp_path / "run")
    assert plan.validation is not None
    held = json.loads((tmp_path / "run" / "split.json").read_text())
    assert held["version"] == 1
    assert {name: sorted(labels) for name, labels in held["splits"].items()} == {
        "train": sorted(plan.train.classes),
        "validation": sorted(plan.validation.classes),
        "test": sorted(plan.test.part.classes),
    }
    label = plan.test.part.classes[0]
    assert held["splits"]["test"][label] == [f"{label}/{number}.png" for number in range(4)]

    save_classes(data, ["a", "b1", "zz"], images=3)
    Image.new("RGB", (9, 9)).save(data / plan.train.classes[0] / "new.png")
    again = prepare(folder.read_config(), folder.read_split())
    assert sides(again) == sides(plan)
    assert "new since the run: 10 images of 4 classes; left out" in str(again.data.notes[0])
    assert sides(again)[1] == [str(record.image) for record in read_run(folder).test.part.records]
    list(Trainer(again, folder).rows(resume=True))
    assert folder.model.is_file()
    with pytest.raises(InputError, match="the data has changed since the run began"):
        list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))


def test_what_is_gone_is_told_and_stops_a_resume(tmp_path: Path) -> None:
    from recallk.training.plan import read_run

    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    folder, plan = begun(config_of(data), tmp_path / "run")
    gone = plan.test.part.records[0].image
    assert isinstance(gone, Path)
    gone.unlink()
    there = read_run(folder)
    assert len(there.test.part.records) == len(plan.test.part.records) - 1
    assert "gone since the run: 1 image of 1 class (c0/0.png); measured on what is left" in str(there.notes[0])
    with pytest.raises(
        InputError,
        match=r"1 of the run's images cannot be found \(c0/0\.png among them\).*put them back, or start a new run",
    ):
        prepare(folder.read_config(), folder.read_split())
    for record in plan.test.part.records[1:]:
        assert isinstance(record.image, Path)
        record.image.unlink()
    with pytest.raises(InputError, match="none of the run's test images is there"):
        read_run(folder)


def test_a_table_and_another_place(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    files = sorted(data.rglob("*.png"))
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label", *(f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files)]))
    folder, plan = begun(config_of(table), tmp_path / "run")
    split = folder.read_split()
    assert split is not None
    assert split.splits["test"][plan.test.part.classes[0]][0].startswith("data/c")  # type: ignore[index]
    moved = tmp_path / "moved"
    moved.mkdir()
    data.rename(moved / "data")
    table.rename(moved / "table.csv")
    again = read(config_of(moved / "table.csv"), split)
    assert [r.label for r in again.test.part.records] == [r.label for r in plan.test.part.records]
    assert not again.notes


def test_pixels_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [Record(np.full((8, 8), 9 * n + c, np.uint8), str(c)) for c in range(8) for n in range(4)]
    monkeypatch.setattr(plans, "read_data", lambda data: (drawn, []))
    config = config_of("glyphs")
    plan = prepare(config)
    split = plan.split
    assert all(labels == dict.fromkeys(labels, 4) for labels in split.splits.values())
    again = read(config, split)
    assert [r.label for r in again.train.records] == [r.label for r in plan.data.train.records]
    pairs = zip(again.test.part.images, plan.test.part.images, strict=True)
    assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)
    assert not again.notes
    fewer = {"train": {**split.splits["train"], plan.train.classes[0]: 10**18}, "test": split.splits["test"]}
    assert read(config, type(split)(fewer)).gone > 10**17


def test_a_limit_to_few_classes_is_no_news(tmp_path: Path) -> None:
    data = save_classes(tmp_path / "data", [f"c{number:02}" for number in range(20)])
    plan = prepare(config_of(data, limit_classes=4))
    again = prepare(config_of(data, limit_classes=4), plan.split)
    assert sides(again) == sides(plan)
    assert not again.data.notes


@pytest.mark.parametrize("name", ["vehicleid", "inshop", "sop"])
def test_the_lists_of_a_benchmark(name: str, tmp_path: Path) -> None:
    root = miniatures.make(name, tmp_path / "data")
    config = make_config(TINY, {"data": str(root), "dataset": name, "select": "test"})
    plan = prepare(config)
    split = plan.split
    again = read(config, split)
    assert [str(r.image) for r in again.test.part.records] == [str(r.image) for r in plan.test.part.records]
    for one, other in zip(again.test.searches, plan.test.searches, strict=True):
        assert np.array_equal(one.queries, other.queries)
        assert (one.gallery is None) == (other.gallery is None)
    assert again.gone == 0
    assert len(again.notes) == len(plan.data.notes)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "\x00", "[" * 100_000,
        '{"version": 1}', '{"version": 2, "splits": {}}', '{"version": "x", "splits": {}}',
        *(f'{{"version": 1, "splits": {splits}}}' for splits in (
            '{"train": {}}', '{"train": [], "test": {}}', '{"train": {"a": 3.5}, "test": {}}',
            '{"train": {"a": [1]}, "test": {}}', '{"train": {"a": -1}, "test": {}}',
            '{"train": {"a": true}, "test": {}}',
        )),
    ],
)  # fmt: skip
def test_a_damaged_split_is_one_line(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=r"split.json: ") as caught:
        folder.read_split()
    assert "\n" not in str(caught.value)


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    from recallk.runs.split import find_records, load_split, save_split, split_of

    records = [
        Record(Path(os.fsdecode(b"/d/\xff/\xfe.png")), "\udcff", "train"),
        Record(Path("/d/b/1.png"), "b", "test"),
    ]
    split = split_of({"train": records[:1], "test": records[1:]}, Path("/d"))
    save_split(split, tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split
    assert find_records(split, records, Path("/d")).records == records


def test_a_hundred_thousand_images_take_a_moment(tmp_path: Path) -> None:
    from recallk.runs.split import find_records, load_split, save_split, split_of

    root = Path("/data/of/a/person")
    records = [Record(root / f"class{n // 10}" / f"{n}.jpg", f"class{n // 10}", "train") for n in range(100_000)]
    started = time.perf_counter()
    save_split(split_of({"train": records[:50_000], "test": records[50_000:]}, root), tmp_path / "split.json")
    found = find_records(load_split(tmp_path / "split.json"), records, root)
    assert time.perf_counter() - started < 8  # 0.6 s on a machine of its own
    assert len(found.records) == 100_000
    assert found.told == []


def test_a_run_of_an_earlier_version_says_what_it_lacks(tmp_path: Path) -> None:
    from recallk.training.plan import read_run

    data = save_classes(tmp_path / "data", [f"c{number}" for number in range(6)])
    folder, _ = begun(config_of(data), tmp_path / "run")
    (folder.path / "split.json").unlink()
    notes = read_run(folder).notes
    assert "of an earlier version, which kept no split" in str(notes[-1])


@pytest.mark.parametrize("version", [0, -1, 2])
def test_a_split_of_another_version_is_told(tmp_path: Path, version: int) -> None:
    (tmp_path / "split.json").write_text(f'{{"version": {version}, "splits": {{"train": {{}}, "test": {{}}}}}}')
    with pytest.raises(InputError, match=rf"by another version of recallk \(format {version}\)"):
        RunFolder(tmp_path).read_split()
