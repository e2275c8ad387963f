"""What people in a hurry give: it is taken, or told in a line that says what to do."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recallk
from recallk import InputError
from recallk.data.folder import folder
from recallk.data.opening import check_files
from recallk.data.table import table
from recallk.training.plan import prepare
from tests.cli.test_cli import recallk as command
from tests.configs import image_config
from tests.miniature_run import SMALL


def draw(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (24, 24), dtype=np.uint8)).save(path)


def classes(root: Path, *names: str, each: int = 4) -> Path:
    draw(*(root / name / f"{number}.png" for name in names for number in range(each)))
    return root


@pytest.mark.parametrize(
    ("one", "other", "given"),
    [
        ("training", "testing", ("train", "test")),
        ("Training", "Test", ("train", "test")),
        ("train", "testing", ("train", "test")),
    ],
)
def test_other_words_for_a_split(tmp_path: Path, one: str, other: str, given: tuple[str, str]) -> None:
    records, _ = folder(classes(tmp_path, f"{one}/a", f"{one}/b", f"{other}/c"))
    assert {(record.label, record.split) for record in records} == {("a", given[0]), ("b", given[0]), ("c", given[1])}


def test_a_catalogue_is_a_gallery(tmp_path: Path) -> None:
    records, _ = folder(classes(tmp_path, "query/a", "catalogue/a"))
    assert {(record.label, record.role) for record in records} == {("a", "query"), ("a", "gallery")}


def test_folders_of_one_name_in_several_places_are_told(tmp_path: Path) -> None:
    records, notes = folder(classes(tmp_path, "2023/owl", "2024/owl", "2024/crow"))
    assert {record.label for record in records} == {"2023/owl", "2024/owl", "2024/crow"}
    (told,) = [note.message for note in notes]
    assert told == (
        "1 name of a folder is there in several places, as 2023/owl and 2024/owl: they are counted as different classes"
    )
    assert folder(classes(tmp_path / "plain", "a", "b"))[1] == []


@pytest.mark.parametrize("above", ["photos", "photos/mine"])
def test_a_path_one_level_too_high_gives_the_same_classes(tmp_path: Path, above: str) -> None:
    own = classes(tmp_path / "data" / above, "owl", "crow")
    records, notes = folder(tmp_path / "data")
    assert {record.label for record in records} == {record.label for record in folder(own)[0]} == {"owl", "crow"}
    assert [note.message for note in notes] == [f"the classes are the folders below {own}"]


def test_a_split_is_found_one_level_down(tmp_path: Path) -> None:
    classes(tmp_path / "photos", "train/a", "test/b")
    assert {(record.label, record.split) for record in folder(tmp_path)[0]} == {("a", "train"), ("b", "test")}


def test_a_single_class_keeps_its_name(tmp_path: Path) -> None:
    assert {record.label for record in folder(classes(tmp_path, "animals/owl"))[0]} == {"animals/owl"}


def test_queries_and_gallery_without_classes_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gallery and query hold images, and no folders of classes"):
        folder(classes(tmp_path, "query", "gallery"))


def test_a_test_of_one_class_says_nothing_and_that_is_told(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", "train/a", "train/b", "test/c")
    told = "one class is tested on, so that whatever is found is right: the numbers say nothing"
    plan = prepare(image_config(SMALL, {"data": str(data), "batch_size": 4}))
    assert any(told in note.message for note in plan.data.notes)
    recallk.train(SMALL | {"data": str(data), "batch_size": 4}, tmp_path / "run")
    assert any(told in note.message for note in recallk.evaluate(tmp_path / "run").notes)
    assert any(told in note.message for note in recallk.evaluate(tmp_path / "run", str(data / "test")).notes)
    classes(data, "test/d")
    assert not any(
        told in note.message for note in prepare(image_config(SMALL, {"data": str(data), "batch_size": 4})).data.notes
    )


def test_data_that_has_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = classes(tmp_path / "data", "train/a", "train/b", "test/c", "test/d")
    recallk.train(SMALL | {"data": str(data), "batch_size": 4}, tmp_path / "run")
    before = recallk.evaluate(tmp_path / "run")
    moved = Path(shutil.move(data, tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=r"not there any more; say where it is by now: .*--resume .* --data PATH"):
        recallk.evaluate(tmp_path / "run")
    recallk.resume(tmp_path / "run", {"data": str(moved)})
    assert recallk.evaluate(tmp_path / "run").metrics == before.metrics


def test_other_data_with_classes_that_were_trained_on_is_told(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", "train/a", "train/b", "test/c", "test/d")
    recallk.train(SMALL | {"data": str(data), "batch_size": 4}, tmp_path / "run")
    other = classes(tmp_path / "other", "a", "c", "e")
    (told,) = [note.message for note in recallk.evaluate(tmp_path / "run", str(other)).notes]
    assert told == "1 of these 3 classes have names that the model was trained on: not new to it"
    assert recallk.evaluate(tmp_path / "run", str(classes(tmp_path / "new", "e", "f"))).notes == []


def test_too_few_classes_are_told_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 1 training classes .* add classes or items, .*--test-fraction"):
        prepare(image_config(SMALL, {"data": str(classes(tmp_path, "a", "b"))}))


def test_a_check_says_where_training_would_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("data", "check", classes(tmp_path / "few", "a", "b")) == 2
    assert "training would not start: 1 of 1 training classes" in capsys.readouterr().out
    both = classes(tmp_path / "both", "train/a", "train/b", "test/a", "test/b")
    assert command("data", "check", both) == 2
    assert "training would not start: " in capsys.readouterr().out
    assert command("data", "check", classes(tmp_path / "good", *"abcdefghij")) == 0
    assert "would not start" not in capsys.readouterr().out


def test_tables_that_need_an_option_name_it(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "0.png", tmp_path / "photos" / "1.png")
    (tmp_path / "names.csv").write_text("filename,category\n0.png,a\n")
    with pytest.raises(
        InputError, match=r"no column 'path'; the columns are filename, category; .*--columns path=NAME"
    ):
        table(tmp_path / "names.csv")
    (tmp_path / "elsewhere.csv").write_text("path,label\n0.png,a\n1.png,b\n")
    with pytest.raises(InputError, match=r"none of 2 images is there, .*--root FOLDER says where its paths start"):
        check_files([record.item for record in table(tmp_path / "elsewhere.csv")])
    (tmp_path / "spaces.csv").write_text(" path, label\nphotos/0.png,a\nphotos/1.png,b\n")
    assert [record.label for record in table(tmp_path / "spaces.csv")] == ["a", "b"]


def test_a_root_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text("path,label\n0.png,a\n")
    assert command("train", "--data", tmp_path / "table.csv", "--root", tmp_path / "mien", "--dry-run") == 2
    assert f"--root {tmp_path / 'mien'}: no such folder" in capsys.readouterr().err


def test_a_file_that_is_no_table_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "book.xlsx").write_bytes(b"PK")
    assert command("train", "--data", tmp_path / "book.xlsx", "--root", tmp_path, "--dry-run") == 2
    assert "not a table (.csv, .tsv, .jsonl, .parquet)" in capsys.readouterr().err


def test_a_file_where_a_folder_is_searched(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,label\n")
    with pytest.raises(InputError, match="a file, and a folder is needed"):
        folder(tmp_path / "table.csv")
    with pytest.raises(InputError, match="no such folder"):
        folder(tmp_path / "table.csv" / "below")


def test_data_that_is_not_there_comes_before_a_run_that_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("data: x\n")
    assert command("train", "--data", tmp_path / "mine.zip", "--run", tmp_path / "run") == 2
    assert "mine.zip: no such folder, and no such file" in capsys.readouterr().err


def test_paths_in_python(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", "train/a", "train/b", "test/c", "test/d")
    summary = recallk.train(SMALL | {"data": data, "batch_size": 4}, tmp_path / "run")
    assert summary.config.data == str(data)


def test_the_plan_says_how_long_it_takes_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = classes(tmp_path / "data", "train/a", "train/b", "test/c", "test/d")
    words = ("--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--accelerator", "cpu")
    assert command("train", "--data", data, *words, "--dry-run") == 0
    assert "time      about " in capsys.readouterr().out


def test_readers_of_a_run_in_a_process_of_a_server_are_forked(tmp_path: Path) -> None:
    """As a comparison's are: else each would import everything anew, for seconds at every epoch."""
    from torch.utils.data import DataLoader

    from recallk.models import chunks

    seen = list[object]()

    class Watched(DataLoader):  # type: ignore[type-arg]
        def __init__(self, *words: object, **how: object) -> None:
            seen.append(how["multiprocessing_context"])
            super().__init__(*words, **how)  # type: ignore[arg-type]

    class Numbers(chunks.Preparation):
        def prepare(self, number: int) -> int:
            return number

        def collate(self, prepared: list[int]) -> list[int]:
            return prepared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "DataLoader", Watched)
        assert list(chunks.read_chunks(Numbers(), [np.arange(3)], 1)) == [[0, 1, 2]]
        assert list(chunks.read_chunks(Numbers(), [np.arange(3)], 0)) == [[0, 1, 2]]
    assert seen == ["fork", None]
