"""Queries and a gallery apart, as folders or in columns: who searches what, wherever something is measured or found."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import recallk
from recallk import InputError
from recallk.comparison.contenders import Contender
from recallk.comparison.experiment import Comparison
from recallk.comparison.outcomes import outcomes
from recallk.data.dataset import read_all, read_for_training
from recallk.data.given_split import Given, given_by_folders
from recallk.data.records import LabelledItems
from recallk.data.source import read_own
from recallk.evaluation.metrics import retrieval_metrics
from recallk.runs.folder import RunFolder
from tests.cli.test_cli import recallk as command
from tests.data.test_dataset import read_twice, save_classes, settings
from tests.miniature_run import SMALL

ROWS = [
    *((f"train/{label}/{number}.png", label, "train", "") for label in "abc" for number in range(4)),
    *((f"query/{label}/{number}.png", label, "test", "query") for label in "fg" for number in range(1)),
    *((f"gallery/{label}/{number}.png", label, "test", "gallery") for label in "fgh" for number in range(3)),
]
"""Paths, labels, splits and roles; h is in the gallery alone."""


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    save_classes(tmp_path / "data" / "train", list("abc"))
    save_classes(tmp_path / "data" / "query", list("fg"), images=1)
    return save_classes(tmp_path / "data" / "gallery", list("fgh"), images=3).parent


def within_test(folders: Path) -> Path:
    (folders / "test").mkdir()
    for name in ("query", "gallery"):
        (folders / name).rename(folders / "test" / name)
    return folders


def written(path: Path, columns: dict[str, list[Any]]) -> Path:
    lines = [",".join(columns), *(",".join(map(str, cells)) for cells in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines))
    return path


def in_columns(kind: str) -> dict[str, list[Any]]:
    """Return the columns that say splits and roles."""
    splits, roles = [split for _, _, split, _ in ROWS], [role for _, _, _, role in ROWS]
    match kind:
        case "roles":
            return {"Split": splits, "Role": [role.upper() for role in roles]}
        case "split alone":
            return {"split": [role or split for split, role in zip(splits, roles, strict=True)]}
    return {"split": splits} | {f"is_{name}": [role == name for role in roles] for name in ("query", "gallery")}


@pytest.fixture(
    params=["folders", "in the test folder", "roles", "split alone", "flags", "vectors", "flags of vectors"]
)
def data(request: pytest.FixtureRequest, folders: Path, tmp_path: Path) -> Path:
    match request.param:
        case "folders":
            return folders
        case "in the test folder":
            return within_test(folders)
        case "vectors" | "flags of vectors":
            vectors = list(np.random.default_rng(0).standard_normal((len(ROWS), 6)).astype(np.float32))
            said = in_columns("flags" if request.param == "flags of vectors" else "roles")
            columns: dict[str, Any] = {"embedding": vectors, "label": [label for _, label, _, _ in ROWS]}
            parquet.write_table(pyarrow.table(columns | said), tmp_path / "v.parquet")
            return tmp_path / "v.parquet"
    paths = {"path": [f"data/{path}" for path, _, _, _ in ROWS], "label": [label for _, label, _, _ in ROWS]}
    return written(tmp_path / "t.csv", paths | in_columns(request.param))


def roles_and_labels(items: LabelledItems) -> list[tuple[str | None, str]]:
    return sorted((str(record.role), record.label) for record in items.records)


def test_queries_search_the_gallery(data: Path, tmp_path: Path) -> None:
    for read in read_twice(settings(data), tmp_path):
        assert not read.split_by_us
        assert not read.notes
        assert roles_and_labels(read.train) == sorted([("None", label) for label in "abc"] * 4)
        items, (search,) = read.test.labelled, read.test.searches
        assert search.gallery is not None
        asked, found = ([items.records[i] for i in places.tolist()] for places in (search.queries, search.gallery))
        assert [(record.role, record.label) for record in asked] == [("query", "f"), ("query", "g")]
        assert {record.role for record in found} == {"gallery"}
        assert [record.label for record in found] == [*"fffggghhh"]
        assert sorted([*search.queries.tolist(), *search.gallery.tolist()]) == list(range(len(items)))


@pytest.mark.parametrize("form", ["folders", "table"])
def test_of_data_without_a_split_classes_are_split_and_set_aside_with_their_roles(tmp_path: Path, form: str) -> None:
    names = [f"c{number:02}" for number in range(60)]
    data = save_classes(tmp_path / "data" / "queries", names, images=4).parent
    save_classes(data / "Gallery", names, images=2)
    if form == "table":
        rows = [(f"data/{side}/{name}/{n}.png", name, side) for side, images in (("queries", 4), ("Gallery", 2))
                for name in names for n in range(images)]  # fmt: skip
        columns = dict(zip(("path", "label", "role"), map(list, zip(*rows, strict=True)), strict=True))
        data = written(tmp_path / "t.csv", columns)
    for read in read_twice(settings(data, validation_fraction=0.9), tmp_path):
        assert read.split_by_us
        assert read.validation is not None
        for side in (read.validation, read.test.labelled):
            search = side.search
            assert search.gallery is not None
            assert len(search.queries) == 2 * len(search.gallery) == 4 * len(side.classes)
        assert not set(read.train.classes) & set(read.test.labelled.classes)


def test_too_few_queries_to_choose_by_are_counted_without_the_gallery(tmp_path: Path) -> None:
    names = [f"c{number:02}" for number in range(60)]
    save_classes(tmp_path / "query", names, images=1)
    save_classes(tmp_path / "gallery", names, images=5)
    read = read_for_training(settings(tmp_path, validation_fraction=0.9))
    assert read.validation is None
    assert "validation queries are too few to choose an epoch by (100 are needed)" in read.why_no_validation


def test_a_validation_that_is_given_may_have_roles(folders: Path) -> None:
    save_classes(folders / "val" / "query", ["d", "e"], images=2)
    save_classes(folders / "val" / "gallery", ["d", "e", "x"], images=3)
    read = read_for_training(settings(folders))
    assert read.validation is not None
    assert read.validation.search.gallery is not None
    assert (len(read.validation.search.queries), len(read.validation.search.gallery)) == (4, 9)
    for file in (folders / "val" / "gallery" / "d").iterdir():
        file.unlink()
    for file in (folders / "val" / "gallery" / "e").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="no validation class has a query and a gallery item: there is nothing to"):
        read_for_training(settings(folders))


def test_a_few_classes_are_of_those_that_can_be_found(folders: Path) -> None:
    save_classes(folders / "gallery", ["aa", "ab"])
    read = read_for_training(settings(folders, limit_classes=2))
    assert read.test.labelled.classes == ["f", "g"]


def test_a_run_is_measured_reported_searched_and_compared(
    data: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_vectors = data.suffix == ".parquet"
    keys = {"embedding_size", "batch_size", "items_per_class", "epochs", "learning_rate", "accelerator"}
    values = {key: value for key, value in SMALL.items() if not of_vectors or key in keys}
    values |= {"data": str(data), "select": "last", "batch_size": 6, "evaluate_ks": (1, 2)}
    summary = recallk.train(values, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    embedder = recallk.load(run.path)
    items, search = (test := read_for_training(settings(data)).test).labelled, test.searches[0]
    assert search.gallery is not None
    embeddings = embedder.embed(items.items)
    of_queries, of_gallery = ((embeddings[places], items.labels[places]) for places in (search.queries, search.gallery))
    wanted = retrieval_metrics(*of_queries, *of_gallery, ks=(1, 2))
    assert summary.after.metrics == pytest.approx(wanted, abs=1e-6)
    evaluated = recallk.evaluate(run.path).metrics
    assert {name: evaluated[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    all_of_it = recallk.evaluate(run.path, data=str(data))
    assert all_of_it.metrics == pytest.approx(evaluated, abs=1e-6)
    assert [note.message for note in all_of_it.notes] == ["12 items that are neither query nor gallery are left out"]
    assert recallk.report(run.path) == []
    assert "2 queries" in run.report.read_text()
    query = [str(1 + 12)] if of_vectors else [next(folders.rglob("query/f/0.png"))]
    found = recallk.search(run.path, query, data if of_vectors else folders, k=5)
    assert all(note.message.endswith("outside its gallery left out") for note in found.notes)
    assert len(found.notes) == 1
    shown = {item.parts[-3] if isinstance(item, Path) else item.row for item in found.items[0]}
    assert shown <= (set(range(14, 23)) if of_vectors else {"gallery"})
    comparison = Comparison(tmp_path / "compared", values, [Contender("one", {})], (1.0,), 1)
    assert len(list(comparison.run())) == 1
    assert outcomes([tmp_path / "compared"])[0].results[0]["recall@1"] == pytest.approx(wanted["recall@1"])
    assert command("train", "--resume", run.path, "--epochs", 2) == 0
    assert "search    2 query" in capsys.readouterr().out


def test_all_of_other_data_search_by_their_roles(folders: Path) -> None:
    items, _ = read_all(str(folders / "gallery"))
    assert items.searches[0].gallery is None
    (folders / "train").rename(folders.parent / "train")
    items, notes = read_all(str(folders))
    assert not notes
    assert items.searches[0].gallery is not None
    assert (len(items.searches[0].queries), len(items.searches[0].gallery)) == (2, 9)


def test_vectors_of_images_keep_their_roles(data: Path, tmp_path: Path) -> None:
    if data.suffix == ".parquet":
        made: dict[str, Any] = {"run": tmp_path / "run"}
        recallk.train(
            {"data": str(data), "embedding_size": 4, "select": "last", "batch_size": 8, "epochs": 1}, made["run"]
        )
    else:
        made = {"backbone": "test_resnet", "weights": "none", "image_size": 16}
    recallk.embed(str(data), tmp_path / "made.parquet", **made)
    before, after = (read_for_training(settings(path)).test for path in (data, tmp_path / "made.parquet"))
    assert [(r.role, r.label) for r in before.labelled.records] == [(r.role, r.label) for r in after.labelled.records]
    assert after.searches[0].queries.tolist() == before.searches[0].queries.tolist()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"role": ["query", "gallery", "shop", "query"]}, "row 3: role is 'shop'; write query or gallery"),
        (
            {"role": ["query", "gallery", "", "query"]},
            "row 3: query and gallery both, or neither, while others are one",
        ),
        ({"role": ["query"] * 4}, "all rows are queries: let there be a gallery too, or say no roles"),
        ({"is_query": [1, 1, 1, 0], "is_gallery": [0, 1, 0, 1]}, "row 2: query and gallery both, or neither, while"),
        ({"is_query": [1, "maybe", 1, 0]}, "row 2: is_query is 'maybe'; write true or false"),
        ({"role": ["query"] * 4, "is_query": [1] * 4}, "columns 'role' and 'is_query' say the same; remove one"),
        ({"split": ["train", "gallery", "gallery", "train"]}, "the test rows are a gallery: let there be queries too"),
    ],
)
@pytest.mark.parametrize("of", ["images", "vectors"])
def test_mistakes_are_one_line(tmp_path: Path, changed: dict[str, list[Any]], told: str, of: str) -> None:
    labels = {"label": [*"aabb"]}
    if of == "images":
        save_classes(tmp_path, ["a", "b"], images=2)
        paths = {"path": [f"{label}/{number}.png" for label in "ab" for number in range(2)]}
        data = written(tmp_path / "t.csv", paths | labels | changed)
    else:
        vectors = {"embedding": list(np.eye(4, dtype=np.float32))}
        texts = {name: [str(cell) for cell in cells] for name, cells in changed.items()}
        data = tmp_path / "t.parquet"
        parquet.write_table(pyarrow.table(vectors | labels | texts), data)
    with pytest.raises(InputError) as error:
        read_own(str(data))
    assert told in str(error.value)
    assert str(error.value).startswith(str(data))


def test_where_all_are_queries_and_gallery_all_search_each_other(tmp_path: Path) -> None:
    save_classes(tmp_path, ["a", "b", "c", "d"], images=2)
    paths = [f"{label}/{number}.png" for label in "abcd" for number in range(2)]
    labels, both = [*"aabbccdd"], [True] * 8
    data = written(tmp_path / "t.csv", {"path": paths, "label": labels, "is_query": both, "is_gallery": both})
    assert read_for_training(settings(data)).test.searches[0].gallery is None


@pytest.mark.parametrize("roles", [["query", ""], ["query", "query"], ["query", "gallery"]])
def test_roles_of_what_is_trained_on_count_where_all_have_one(tmp_path: Path, roles: list[str]) -> None:
    names = [f"c{number:02}" for number in range(60)]
    save_classes(tmp_path, [*names, "t"], images=4)
    rows = [(f"{name}/{n}.png", name, "train", roles[n % 2]) for name in names for n in range(4)]
    rows += [(f"t/{n}.png", "t", "test", "query" if n else "gallery") for n in range(4)]
    columns = dict(zip(("path", "label", "split", "role"), map(list, zip(*rows, strict=True)), strict=True))
    read = read_for_training(settings(written(tmp_path / "t.csv", columns), validation_fraction=0.9))
    assert read.validation is not None
    assert (read.validation.search.gallery is not None) == (roles == ["query", "gallery"])


def test_a_split_by_classes_needs_a_role_of_all_or_none(folders: Path) -> None:
    with pytest.raises(InputError, match="with split=classes any class may be tested on, and 12 items are neither"):
        read_for_training(settings(folders, split="classes"))


@pytest.mark.parametrize(
    "made",
    [
        ["train/a", "test/query/a", "test/gallery/a", "test/extra/a"],
        ["train/a", "test/query", "test/gallery"],
    ],
)
def test_roles_within_a_side_that_are_taken_as_classes_are_told(tmp_path: Path, made: list[str]) -> None:
    for folder in made:
        path = tmp_path / folder
        save_classes(path.parent, [path.name])
    _, notes = read_own(str(tmp_path))
    assert ["roles (query, gallery), and are taken as classes" in note.message for note in notes] == [True]


@pytest.mark.parametrize(
    "folders",
    [
        ["train/a", "query/b"],  # no gallery
        ["query/a", "gallery"],  # an image beside the classes
        ["query/a", "gallery/a", "more/a"],
        ["train/a", "test/b", "query/c", "gallery/c"],
        ["query/a", "queries/b", "gallery/a"],
    ],
)
def test_other_folders_are_classes(folders: list[str]) -> None:
    assert given_by_folders(folders) is None


def test_folders_within_a_test_folder_are_roles_where_both_are_there() -> None:
    said = given_by_folders(["train/a", "test/query/b", "test/gallery/b"])
    assert said is not None
    assert said["test/query/b"] == (Given("test", "query"), "b")
    said = given_by_folders(["train/a", "test/query/b", "test/gallery"])
    assert said is not None
    assert said["test/query/b"] == (Given("test"), "query/b")


def test_roles_that_are_taken_as_classes_are_told(tmp_path: Path) -> None:
    save_classes(tmp_path / "query", ["a"])
    save_classes(tmp_path / "gallery", ["a"])
    save_classes(tmp_path / "others", ["a"])
    _, notes = read_own(str(tmp_path))
    (note,) = notes
    assert "folders have the names of roles (query, gallery), and are taken as classes" in note.message


def test_instance_level_measures_refuse_what_has_a_gallery_of_its_own(folders: Path, tmp_path: Path) -> None:
    values = SMALL | {"data": str(folders), "select": "last", "batch_size": 6}
    recallk.train(values, tmp_path / "run")
    with pytest.raises(InputError, match="has queries and a gallery of its own: measure it without --benchmark own"):
        recallk.evaluate(tmp_path / "run", str(folders), benchmark="own")
