"""A catalogue: what it finds, beside a loop over what it says it holds, through every change."""

import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import recallk
from recallk import InputError
from recallk.catalogue import changes, state
from recallk.catalogue.changes import Changed
from recallk.catalogue.index import Index
from recallk.core.progress import silent
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.vector_embedder import VectorEmbedder
from tests.catalogue.place import by_hand, draw, draw_all, said, small_embedder


@pytest.fixture(scope="module")
def embedder() -> ImageEmbedder:
    return small_embedder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_all(tmp_path / "photos")


@pytest.fixture
def index(embedder: ImageEmbedder, photos: Path, tmp_path: Path) -> Index:
    return Index.build(embedder, photos, tmp_path / "catalogue", workers=0)


def test_it_holds_all_images_with_their_classes(index: Index, photos: Path, embedder: ImageEmbedder) -> None:
    files = sorted(photos.rglob("*.png"))
    names = [file.relative_to(photos).as_posix() for file in files]
    assert len(index) == len(files)
    assert sorted(said(index)) == sorted(names)
    for file, name in zip(files, names, strict=True):
        hit = index.hit(name)
        assert hit.known["label"] == file.parent.name
        assert isinstance(hit.image, Path)
        assert hit.image.samefile(file)
        vector = embedder.embed([file])[0].numpy().astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(said(index)[name], vector)
    assert names[0] in index
    assert "no such item" not in index


@pytest.mark.parametrize("k", [1, 4, 100])
def test_a_file_that_is_not_in_it(index: Index, embedder: ImageEmbedder, tmp_path: Path, k: int) -> None:
    query = draw(tmp_path / "query.png", 99)
    found = index.search([query], k)
    assert found.ids == [by_hand(index, embedder.embed([query])[0].numpy(), k)]
    assert found.similarities.shape == (1, min(k, len(index)))
    assert found.queries == ["query.png"]
    assert found.images == [query]
    assert [hit.similarity for hit in found.hits[0]] == found.similarities[0].tolist()


def test_an_item_is_not_its_own_result_by_its_id_or_its_file(index: Index, photos: Path) -> None:
    name = "a/3.png"
    by_id, by_file = index.search([name], 3), index.search([photos / name], 3)
    assert by_id.ids == [by_hand(index, said(index)[name], 3, but=name)]
    assert name not in by_file.ids[0]
    assert by_file.ids == by_id.ids
    link = photos.parent / "link.png"
    link.symlink_to(photos / name)
    assert name not in index.search([link], 3).ids[0]


def test_ids_and_files_in_one_search_stay_in_their_order(index: Index, tmp_path: Path) -> None:
    query = draw(tmp_path / "query.png", 99)
    names = ["a/0.png", str(query), "b/1.png"]
    assert index.search(names, 2).ids == [index.search([name], 2).ids[0] for name in names]


def test_images_in_memory(index: Index, tmp_path: Path) -> None:
    query = draw(tmp_path / "query.png", 99)
    assert index.search([Image.open(query)], 3).ids == index.search([query], 3).ids


def test_several_together_are_searched_by_their_mean(index: Index) -> None:
    names = ["a/0.png", "b/1.png"]
    vectors = [said(index)[name] for name in names]
    mean = sum(vector / np.linalg.norm(vector) for vector in vectors)
    found = index.search(names, 4, together=True)
    assert found.ids == [[name for name in by_hand(index, mean, 9) if name not in names][:4]]
    assert found.queries == ["a/0.png + b/1.png"]


def test_only_what_meets_a_condition(index: Index, tmp_path: Path) -> None:
    query = draw(tmp_path / "query.png", 99)
    all_of_them = index.search([query], 9).ids[0]
    assert index.search([query], 9, where="label = 'b'").ids == [[name for name in all_of_them if name[0] == "b"]]
    assert index.search([query], 9, where="label = 'z'").ids == [[]]


def test_it_is_found_again_wherever_the_program_stands(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    again = Index.open("catalogue")
    assert said(again).keys() == said(index).keys()
    image = again.hit("a/0.png").image
    assert isinstance(image, Path)
    assert image.is_file()


def test_the_model_goes_with_it(index: Index, tmp_path: Path) -> None:
    query = draw(tmp_path / "query.png", 99)
    before = index.search([query], 5)
    shutil.copytree(index.folder, tmp_path / "elsewhere" / "copy")
    copy = Index.open(tmp_path / "elsewhere" / "copy")
    after = copy.search([query], 5)
    assert after.ids == before.ids
    torch.testing.assert_close(after.similarities, before.similarities)


def test_further_columns_of_a_table_are_kept(embedder: ImageEmbedder, photos: Path, tmp_path: Path) -> None:
    rows = ["path,label,Colour,price", "a/0.png,x,red,9.5", "b/1.png,y,blue,", "c/2.png,x,red,30"]
    (photos / "table.csv").write_text("\n".join(rows))
    index = Index.build(embedder, photos / "table.csv", tmp_path / "kept", workers=0)
    assert index.columns == ("id", "label", "image", "Colour", "price")
    assert index.hit("a/0.png").known["price"] == "9.5"
    assert "price" not in index.hit("b/1.png").known
    assert index.search(["b/1.png"], 9, where="colour = 'red' and price < 20").ids == [["a/0.png"]]


def test_a_gallery_alone_is_kept_where_there_are_queries(embedder: ImageEmbedder, tmp_path: Path) -> None:
    draw_all(tmp_path / "own" / "query")
    draw_all(tmp_path / "own" / "gallery", 6)
    index = Index.build(embedder, tmp_path / "own", tmp_path / "kept", workers=0)
    assert sorted(said(index)) == sorted(f"gallery/{'abc'[n % 3]}/{n}.png" for n in range(6))


def test_a_list_of_files(embedder: ImageEmbedder, photos: Path, tmp_path: Path) -> None:
    files = [photos / "a" / "0.png", photos / "b" / "1.png"]
    index = Index.build(embedder, files, tmp_path / "kept", workers=0)
    assert sorted(said(index)) == sorted(map(str, files))
    image = index.hit(str(files[0])).image
    assert isinstance(image, Path)
    assert image.samefile(files[0])


def test_what_is_drawn(embedder: ImageEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.data import source
    from recallk.data.item import Record

    pixels = [np.full((16, 16), grey, np.uint8) for grey in (0, 90, 200)]
    monkeypatch.setattr(source, "DRAWN", {"glyphs": lambda: [Record(each, "x") for each in pixels]})
    index = Index.build(embedder, "glyphs", tmp_path / "kept", workers=0)
    assert sorted(said(index)) == ["x/1", "x/2", "x/3"]
    for number, grey in enumerate((0, 90, 200), 1):
        kept = index.hit(f"x/{number}").image
        assert isinstance(kept, bytes)
        assert (np.asarray(Image.open(BytesIO(kept))) == grey).all()
    index.remove(["x/2", "x/1"])  # what is left is written anew
    kept = Index.open(index.folder).hit("x/3").image
    assert isinstance(kept, bytes)
    assert (np.asarray(Image.open(BytesIO(kept))) == 200).all()


def test_adding(index: Index, embedder: ImageEmbedder, tmp_path: Path) -> None:
    before = said(index)
    more = draw(tmp_path / "more" / "d" / "new.png", 50).parents[1]
    assert index.add(more, workers=0) == Changed(10, added=1)
    after = said(index)
    assert after.keys() == before.keys() | {"d/new.png"}
    assert all((after[name] == before[name]).all() for name in before)
    query = draw(tmp_path / "query.png", 99)
    assert index.search([query], 10).ids == [by_hand(index, embedder.embed([query])[0].numpy(), 10)]
    with pytest.raises(InputError, match=r"'d/new.png' is there already"):
        index.add(more, workers=0)
    assert len(Index.open(index.folder)) == 10


def test_removing(index: Index, tmp_path: Path) -> None:
    before = said(index)
    assert index.remove(["a/0.png", "b/1.png", "a/0.png"]) == Changed(7, removed=2)
    assert said(index).keys() == before.keys() - {"a/0.png", "b/1.png"}
    assert "a/0.png" not in index
    query = draw(tmp_path / "query.png", 99)
    assert not {"a/0.png", "b/1.png"} & {*index.search([query], 9).ids[0]}
    with pytest.raises(InputError, match=r"no item 'a/0.png'"):
        index.remove(["c/2.png", "a/0.png"])
    assert "c/2.png" in Index.open(index.folder)
    assert index.remove([]) == Changed(7)


def test_an_update_embeds_what_is_new_or_has_other_content_and_nothing_else(
    index: Index, photos: Path, embedder: ImageEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = said(index)
    draw(photos / "a" / "0.png", 70)
    draw(photos / "d" / "new.png", 71)
    os.utime(photos / "b" / "1.png")  # touched, and the same
    (photos / "c" / "2.png").unlink()
    seen = list[str]()
    whole = type(index.embedder).embed

    def embed(self: Any, items: Any, **how: Any) -> Any:
        seen.extend(item.name for item in items)
        return whole(self, items, **how)

    with monkeypatch.context() as patch:
        patch.setattr(type(index.embedder), "embed", embed)
        assert index.update(photos, workers=0) == Changed(10, added=1, embedded_again=1)
    assert sorted(seen) == ["0.png", "new.png"]
    after = said(index)
    assert after.keys() == before.keys() | {"d/new.png"}
    assert (after["a/0.png"] != before["a/0.png"]).any()
    np.testing.assert_array_equal(after["a/0.png"], embedder.embed([photos / "a/0.png"])[0].half().float().numpy())
    assert index.update(photos, workers=0) == Changed(10)
    assert index.update(photos, workers=0, remove_missing=True) == Changed(9, removed=1)
    assert "c/2.png" not in index


def test_an_update_takes_other_columns_without_embedding(
    embedder: ImageEmbedder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = photos / "table.csv"
    table.write_text("path,label,price\na/0.png,x,9\nb/1.png,y,10\n")
    index = Index.build(embedder, table, tmp_path / "kept", workers=0)
    before = said(index)
    table.write_text("path,label,price,new\na/0.png,x,8,yes\nb/1.png,y,10,\n")
    with monkeypatch.context() as patch:
        patch.setattr(type(embedder), "embed", None)
        assert index.update(table, workers=0) == Changed(2, told_anew=1)
    assert index.hit("a/0.png").known["price"] == "8"
    assert index.hit("a/0.png").known["new"] == "yes"
    assert all((said(index)[name] == before[name]).all() for name in before)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_many_changes_leave_what_they_say(
    embedder: ImageEmbedder, tmp_path: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are put together, rows that are removed let go; a dictionary beside it says the same."""
    monkeypatch.setattr(state, "MOST_PARTS", 3)
    monkeypatch.setattr(changes, "BLOCK", 2)
    random = np.random.default_rng(0)
    index = Index.build(embedder, draw_all(tmp_path / "first", 5), tmp_path / "kept", dtype=dtype, workers=0)
    known = {name: tmp_path / "first" / name for name in said(index)}
    for number in range(12):
        if number % 3 == 2:
            gone = sorted(known)[int(random.integers(len(known)))]
            index.remove([gone])
            del known[gone]
        else:
            file = draw(tmp_path / f"more{number}" / f"x{number}" / "one.png", 100 + number)
            index.add(file.parents[1], workers=0)
            known[f"x{number}/one.png"] = file
        again = Index.open(index.folder)
        for opened in (index, again):
            assert said(opened).keys() == known.keys()
    assert len(list((index.folder / "parts").iterdir())) <= 4
    stored = np.float32 if dtype == "float32" else np.float16
    for name, file in known.items():
        vector = embedder.embed([file])[0].numpy().astype(stored).astype(np.float32)
        np.testing.assert_allclose(said(index)[name], vector, atol=1e-6)
    query = draw(tmp_path / "query.png", 99)
    assert index.search([query], 4).ids == [by_hand(index, embedder.embed([query])[0].numpy(), 4)]


def test_an_index_that_is_open_goes_on_until_it_is_refreshed(index: Index, tmp_path: Path) -> None:
    other = Index.open(index.folder)
    query = draw(tmp_path / "query.png", 99)
    before = other.search([query], 9).ids
    index.remove(sorted(said(index))[:6])  # so many that what is left is written anew, and all files are others
    assert other.search([query], 9).ids == before
    assert other.hit(before[0][0]).known["label"]
    other.refresh()
    assert len(other) == 3
    assert other.search([query], 9).ids == index.search([query], 9).ids


def test_a_catalogue_that_is_made_anew_by_another_model(index: Index, photos: Path, tmp_path: Path) -> None:
    """Its vectors are compared with those of its own model, whatever was in memory."""
    query = draw(tmp_path / "query.png", 99)
    index.search([query])  # its model is in memory
    shutil.rmtree(index.folder)
    other = small_embedder()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(torch.linspace(0.5, 1.5, weight.numel()).reshape(weight.shape))
    new = Index.build(other, photos, index.folder, workers=0)
    assert index.refreshed().search([query], 9).ids == new.search([query], 9).ids
    (photos / "d").mkdir()
    draw(photos / "d" / "new.png", 98)
    index.update(photos, workers=0)
    vector = other.embed([photos / "d" / "new.png"])[0].half().float().numpy()
    np.testing.assert_allclose(said(index)["d/new.png"], vector, atol=1e-3)
    assert index.refreshed() is index


def test_removing_all_leaves_an_empty_one_that_can_be_filled(index: Index, photos: Path, tmp_path: Path) -> None:
    index.remove(list(said(index)))
    assert len(index) == 0
    with pytest.raises(InputError, match="the catalogue is empty"):
        index.search([draw(tmp_path / "query.png", 99)])
    assert index.add(photos, workers=0) == Changed(9, added=9)


def test_vectors_with_a_head(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 6)).astype(np.float32)
    np.save(tmp_path / "all.npy", vectors)
    lines = ["label,id,text,size", *(f"c{n % 4},item {n},text {n},{n}" for n in range(40))]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    small = {"embedding_size": 4, "epochs": 1, "chunk_size": 64, "batch_size": 8, "test_fraction": 0.5}
    recallk.train({"data": str(tmp_path / "all.npy"), **small}, tmp_path / "run")
    index = Index.build(tmp_path / "run", tmp_path / "all.npy", tmp_path / "kept")
    assert index.noun == "vectors"
    assert index.columns == ("id", "label", "text", "size")
    found = index.search(["item 3"], 3)
    assert found.ids == [by_hand(index, said(index)["item 3"], 3, but="item 3")]
    assert found.images == [None]
    np.save(tmp_path / "queries.npy", vectors[:2])
    by_file = index.search([tmp_path / "queries.npy"], 2)
    assert [row[0] for row in by_file.ids] == ["item 0", "item 1"]
    assert index.search(vectors[:2], 2).ids == by_file.ids
    assert isinstance(index.embedder, VectorEmbedder)
    with pytest.raises(InputError, match=r"neither an id in .* nor a .parquet"):
        index.search(["item 99"])
    assert index.search(["item 3"], 9, where="size < 2").ids[0] in (["item 0", "item 1"], ["item 1", "item 0"])


@pytest.mark.parametrize(
    ("queries", "told"),
    [
        ([], "no query"),
        ("a/0.png", "a list is needed"),
        (["nowhere.png"], "neither an id in .* nor a file"),
    ],
)
def test_queries_that_make_no_sense(index: Index, queries: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        index.search(queries)


def test_what_cannot_be_made(index: Index, embedder: ImageEmbedder, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a catalogue already"):
        Index.build(embedder, photos, index.folder, workers=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is no catalogue; choose another folder"):
        Index.build(embedder, photos, tmp_path / "full", workers=0)
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="dtype='float64'"):
        Index.build(embedder, photos, tmp_path / "kept", dtype="float64", workers=0)  # type: ignore[arg-type]
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="vectors, and the model of the catalogue embeds images"):
        Index.build(embedder, tmp_path / "vectors.npy", tmp_path / "kept", workers=0)
    (photos / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png"):
        Index.build(embedder, photos, tmp_path / "kept", workers=0)
    assert not (tmp_path / "kept").exists()
    with pytest.raises(InputError, match=r"no catalogue .no such folder"):
        Index.open(tmp_path / "kept")
    with pytest.raises(InputError, match=r"no catalogue .no manifest.json in it"):
        Index.open(photos)


def test_a_table_may_say_ids_and_texts(embedder: ImageEmbedder, photos: Path, tmp_path: Path) -> None:
    (photos / "table.csv").write_text(
        "path,label,ID,text,role\na/0.png,x,7,a cup,gallery\na/3.png,x,8,,query\nb/1.png,y,007,,gallery\n"
    )
    index = Index.build(embedder, photos / "table.csv", tmp_path / "kept", workers=0)
    assert sorted(said(index)) == ["007", "7"]
    assert index.columns == ("id", "label", "role", "image", "text")
    assert index.hit("7").known["text"] == "a cup"
    image = index.hit("007").image
    assert isinstance(image, Path)
    assert image.samefile(photos / "b" / "1.png")
    for rows, told in (
        ("a/0.png,x,7\nb/1.png,y,7", "the id '7' is there twice"),
        ("a/0.png,x,7\nb/1.png,y,", "row 2: empty id"),
    ):
        (photos / "table.csv").write_text(f"path,label,id\n{rows}\n")
        with pytest.raises(InputError, match=told):
            Index.build(embedder, photos / "table.csv", tmp_path / "other", workers=0)


@pytest.mark.parametrize("name", ["Image", "Similarity", "picture"])
def test_a_column_that_says_something_else_here(
    embedder: ImageEmbedder, photos: Path, tmp_path: Path, name: str
) -> None:
    (photos / "table.csv").write_text(f"path,label,{name}\na/0.png,x,7\n")
    with pytest.raises(InputError, match=f"a column '{name}'"):
        Index.build(embedder, photos / "table.csv", tmp_path / "kept", workers=0)


def test_progress_is_told(embedder: ImageEmbedder, photos: Path, tmp_path: Path) -> None:
    told = list[tuple[str, int, int]]()
    Index.build(embedder, photos, tmp_path / "kept", workers=0, advance=lambda *what: told.append(what))
    assert ("embedding", 9, 9) in told
    assert ("looking for changes", 9, 9) in told
    assert silent is not None
