"""The split that a run was made with, as its folder keeps it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from recallk import InputError
from recallk.data.item import Drawing, Record
from recallk.data.split import Split, find_records, load_split, save_split, split_of


def test_what_is_in_a_split_is_counted() -> None:
    pixels = [Record(np.zeros((2, 2), np.uint8), "drawn", "test")] * 3
    files = [Record(Path(f"/d/{label}/{n}.png"), label, "train") for label in "ab" for n in range(600)]
    split = split_of({"train": files, "test": [*pixels, Record(Path("/d/c/1.png"), "c", "test")]}, Path("/d"))
    assert split.splits["test"] == {"drawn": 3, "c": ["c/1.png"]}
    assert split.counted("train") == "1,200 items of 2 classes"
    assert split.counted("test") == "4 items of 2 classes"
    assert split.counted("validation") == "0 items of 0 classes"
    assert split.validation == frozenset()
    assert Split({"train": {}, "validation": {"x": 2, "y": ["y/1.png"]}, "test": {}}).validation == {"x", "y"}


def test_drawings_are_found_again_by_their_names() -> None:
    def home(name: str, body: str = "<path/>") -> Record:
        return Record(Drawing(name, body, (0, 0, 24, 24), 64), "home", "test")

    split = split_of({"train": [], "test": [home("mdi:home"), home("ph:home")]}, Path("/d"))
    assert split.splits["test"] == {"home": ["mdi:home", "ph:home"]}
    found = find_records(split, [home("ph:home", "<g/>"), home("ri:home")], Path("/d"))
    assert [record.item for record in found.records] == [home("ph:home", "<g/>").item]
    assert (found.new, found.gone, found.first_gone) == ({"home": 1}, {"home": 1}, "mdi:home")


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
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=r"split.json: ") as caught:
        load_split(tmp_path / "split.json")
    assert "\n" not in str(caught.value)


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    records = [
        Record(Path(os.fsdecode(b"/d/\xff/\xfe.png")), "\udcff", "train"),
        Record(Path("/d/b/1.png"), "b", "test"),
    ]
    split = split_of({"train": records[:1], "test": records[1:]}, Path("/d"))
    save_split(split, tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split
    assert find_records(split, records, Path("/d")).records == records


def test_a_hundred_thousand_images_take_a_moment(tmp_path: Path) -> None:
    root = Path("/data/of/a/person")
    records = [Record(root / f"class{n // 10}" / f"{n}.jpg", f"class{n // 10}", "train") for n in range(100_000)]
    started = time.perf_counter()
    save_split(split_of({"train": records[:50_000], "test": records[50_000:]}, root), tmp_path / "split.json")
    found = find_records(load_split(tmp_path / "split.json"), records, root)
    assert time.perf_counter() - started < 8  # 0.6 s on a machine of its own
    assert len(found.records) == 100_000
    assert found.told == []


@pytest.mark.parametrize("version", [0, -1, 2])
def test_a_split_of_another_version_is_told(tmp_path: Path, version: int) -> None:
    (tmp_path / "split.json").write_text(f'{{"version": {version}, "splits": {{"train": {{}}, "test": {{}}}}}}')
    with pytest.raises(InputError, match=rf"by another version of recallk \(format {version}\)"):
        load_split(tmp_path / "split.json")
