"""A catalogue that was pushed elsewhere is searched there as it is here; a push that was interrupted goes on."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from qdrant_client import QdrantClient, models

from recallk import InputError
from recallk.catalogue import push as pushing
from recallk.catalogue.index import Index
from recallk.catalogue.push import push
from recallk.catalogue.qdrant import Collection, Meaning, Point
from recallk.catalogue.qdrant_filter import filter_of
from recallk.catalogue.remote import Remote
from recallk.catalogue.where import where
from recallk.data.vector_files import read_any_vectors
from tests.catalogue.place import draw, draw_all, small_embedder
from tests.catalogue.test_approximate import head


@pytest.fixture
def index(tmp_path: Path) -> Index:
    photos = draw_all(tmp_path / "photos", 30)
    rows = ["path,label,colour,price"]
    for number in range(30):
        label = "abc"[number % 3]
        rows.append(
            f"{label}/{number}.png,{label},{('red', 'blue', '')[number % 3 - 1]},{number if number % 4 else 'sold'}"
        )
    (photos / "table.csv").write_text("\n".join(rows))
    return Index.build(small_embedder(), photos / "table.csv", tmp_path / "catalogue", workers=0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"qdrant://{tmp_path}/store/items"


class _Open:
    """A collection for a while: one process at a time can have the client's folder."""

    def __init__(self, url: str, model: Any = None) -> None:
        self._collection, self._model = Collection(url), model

    def __enter__(self) -> Remote:
        try:
            return Remote(self._collection, self._model)
        except BaseException:
            self._collection.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._collection.close()


def test_it_is_searched_there_as_here(index: Index, url: str, tmp_path: Path) -> None:
    done = push(index.folder, url)
    assert (done.items, done.sent, done.removed, done.k, done.queries) == (30, 30, 0, 10, 30)
    assert done.recall == done.usual_recall == 1.0
    query, condition = draw(tmp_path / "query.png", 99), "colour = 'red' and price < 20 or not label <> 'c'"
    with _Open(url, index.folder) as remote:
        assert (len(remote), remote.noun, remote.name, remote.columns) == (30, "images", "items", index.columns)
        for queries, how in [
            ([query], {}),
            ([query, "a/0.png"], {"k": 3}),
            (["a/0.png", "b/1.png"], {"k": 5, "together": True}),
            ([query], {"where": condition, "k": 30}),
            ([tmp_path / "photos" / "a" / "0.png"], {"k": 30}),
            (["c/2.png"], {"where": "price is null", "k": 3}),
        ]:
            here, there = index.search(queries, **how), remote.search(queries, **how)  # type: ignore[arg-type]
            assert there.ids == here.ids
            assert there.queries == here.queries
            np.testing.assert_allclose(there.similarities, here.similarities, atol=1e-5)
            for one, other in zip(here.hits[0], there.hits[0], strict=True):
                assert {**one.known, "image": None} == {**other.known, "image": None}
                assert isinstance(one.image, Path)
                assert isinstance(other.image, Path)
                assert one.image.resolve() == other.image.resolve()
        assert remote.hit("b/1.png").known == {
            **index.hit("b/1.png").known,
            "image": remote.hit("b/1.png").known["image"],
        }
        with pytest.raises(InputError, match="no item 'nothing'"):
            remote.hit("nothing")
        with pytest.raises(InputError, match="neither an id in qdrant"):
            remote.search(["nothing"])
        with pytest.raises(InputError, match="at least one"):
            remote.search([])
    with _Open(url) as remote:
        assert remote.search(["a/0.png"], 2).ids == index.search(["a/0.png"], 2).ids
        with pytest.raises(InputError, match="--model"):
            remote.search([query])


def test_what_is_there_is_not_sent_again_what_changed_is_and_what_is_gone_goes(index: Index, url: str) -> None:
    push(index.folder, url)
    assert push(index.folder, url).sent == 0
    photos = index.folder.parent / "photos"
    draw(photos / "a" / "0.png", 500)
    index.remove(["b/1.png", "c/2.png"])
    rows = (photos / "table.csv").read_text().splitlines()
    kept = [row for row in rows if "b/1.png" not in row and "c/2.png" not in row]
    kept[-1] = kept[-1].rsplit(",", 1)[0] + ",77"
    (photos / "table.csv").write_text("\n".join(kept))
    changed = index.update(photos / "table.csv", workers=0)
    assert (changed.embedded_again, changed.told_anew) == (1, 1)
    done = push(index.folder, url)
    assert (done.items, done.sent, done.removed) == (28, 2, 2)
    with _Open(url) as remote:
        assert remote.search(["a/3.png"], 28).ids == index.search(["a/3.png"], 28).ids
        assert remote.search(["a/3.png"], 28, where="price = 77").ids == [
            [index.search(["a/3.png"], where="price=77").ids[0][0]]
        ]


def test_a_push_that_fails_goes_on(index: Index, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_AT_ONCE", 4)
    whole, sent = Collection.put, list[int]()

    def put(self: Collection, points: Any) -> None:
        if len(sent) == 3:
            raise InputError("the network is gone")
        sent.append(len(points))
        whole(self, points)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "put", put)
        with pytest.raises(InputError, match="network"):
            push(index.folder, url)
    done = push(index.folder, url)
    assert (done.items, done.sent) == (30, 30 - sum(sent))


def test_a_collection_that_answers_wrongly_is_told(index: Index, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Collection.nearest
    monkeypatch.setattr(
        Collection, "nearest", lambda self, queries, *a, **b: whole(self, [[-x for x in q] for q in queries], *a, **b)
    )
    with pytest.raises(InputError, match=r"finds \d+\.\d % of what exact search finds; push again"):
        push(index.folder, url)


def test_mistakes(index: Index, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such folder; fill it"), _Open(url):
        pass
    push(index.folder, url)
    other = Index.build(head(), _vectors(tmp_path, 24), tmp_path / "other")
    with pytest.raises(InputError, match="filled by another model"):
        push(other.folder, url)
    with pytest.raises(InputError, match="of another model"), _Open(url, other.folder):
        pass
    client = QdrantClient(path=str(tmp_path / "store"))
    client.create_collection("foreign", models.VectorParams(size=8, distance=models.Distance.DOT))
    with pytest.raises(InputError, match="is already accessed"):
        push(index.folder, url)
    client.close()
    with pytest.raises(InputError, match="not filled by recallk index push"):
        push(index.folder, url.replace("/items", "/foreign"))
    for wrong in (
        "",
        "elsewhere",
        "qdrant://",
        "qdrant://host",
        "qdrant:///only",
        "qdrant://host:x/c",
        "qdrant://h/a/b",
        "csv:x",
        "qdrant://[::1/x",
    ):
        with pytest.raises(InputError) as told:
            push(index.folder, wrong)
        assert "qdrant://HOST" in str(told.value)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="is the server there"):
        push(index.folder, "qdrant://127.0.0.1:1/items")
    with pytest.raises(InputError, match="no catalogue"):
        push(tmp_path / "nothing", url)


CELLS: dict[str, list[Any]] = {
    "colour": ["red", "blue", "Red", None, ""],
    "price": ["3", "20", " 7.5", "sold", None, "-1e1"],
    "count": [1, 2, 30, None],
    "weight": [0.5, 2.0, None, float("nan")],
    "new": [True, False, None],
    "my own.column": ["x", "y", None],
}
LEAVES = st.one_of(
    st.tuples(
        st.sampled_from(["colour", "price", '"my own.column"']),
        st.sampled_from(["=", "<>"]),
        st.sampled_from(["'red'", "'3'", "'x'", "''"]),
    ).map(" ".join),
    st.tuples(
        st.sampled_from(["price", "count", "weight", "new", "colour"]),
        st.sampled_from(["=", "<>", "<", "<=", ">", ">="]),
        st.sampled_from(["2", "3", "0.5", "-10", "20"]),
    ).map(" ".join),
    st.sampled_from(["new = true", "new <> true", "2 < count", "count = '2'", "new = 'true'", "weight = '2'"]),
    st.sampled_from(["colour in ('red', 'blue')", "count in (1, 30)", "price between 3 and 8", "price not in ('3')"]),
    st.sampled_from(["colour is null", "price is not null", "weight is null"]),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda each: f"({' '.join(each)})"),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[pyarrow.Table, QdrantClient]]:
    """Items with all cells there are, beside one another, in a table and in a collection."""
    random, count = np.random.default_rng(0), 80
    columns = {name: [cells[i] for i in random.integers(0, len(cells), count)] for name, cells in CELLS.items()}
    table = pyarrow.table({"id": [str(number) for number in range(count)], **columns})
    client, payloads = QdrantClient(":memory:"), pushing._payloads(table)
    client.create_collection("c", models.VectorParams(size=1, distance=models.Distance.DOT))
    batch = models.Batch(ids=[*range(count)], vectors=[[1.0]] * count, payloads=[payloads(n) for n in range(count)])
    client.upsert("c", batch)
    yield table, client
    client.close()


@settings(max_examples=300, deadline=None)
@given(condition=CONDITIONS)
def test_a_filter_takes_what_the_condition_takes(filled: Any, condition: str) -> None:
    table, client = filled
    expected = np.flatnonzero(where(table, condition)).tolist()
    found = client.scroll("c", scroll_filter=filter_of(condition, table.column_names), limit=1000)[0]
    assert sorted(point.id for point in found) == expected


@pytest.mark.parametrize(
    "condition",
    [
        "colour like 'r%'",
        "colour < 'red'",
        "nothing = 1",
        "colour",
        "1 = 1",
        "colour = (select 1)",
        ";",
        "",
        "a = 1 " * 900,
    ],
)
def test_what_a_filter_cannot_say_is_told(filled: Any, condition: str) -> None:
    with pytest.raises(InputError, match="where") as told:
        filter_of(condition, filled[0].column_names)
    assert "\n" not in str(told.value)


def _vectors(folder: Path, dimensions: int) -> Path:
    path = folder / "vectors.npy"
    np.save(path, np.random.default_rng(0).standard_normal((40, dimensions)).astype(np.float32))
    return path


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_a_file_for_other_programs(index: Index, tmp_path: Path, kind: str) -> None:
    index.remove(["a/0.png"])
    path = tmp_path / f"pushed.{kind}"
    (tmp_path / f"{path.name}.0123abcd.unfinished").write_text("of one that was killed")
    (tmp_path / f"{path.name}.89abcdef.unfinished" / "data").mkdir(parents=True)
    other = tmp_path / "mine.parquet.0123abcd.unfinished"
    other.touch()
    done = push(index.folder, f"{kind}:{path}")
    assert (done.items, done.sent, done.recall) == (29, 29, None)
    table = parquet.read_table(path) if kind == "parquet" else lance.dataset(str(path)).to_table()
    assert table.column_names == [*index.columns, "embedding"]
    rows, vectors = index.vectors()
    np.testing.assert_array_equal(
        np.stack(table["embedding"].to_numpy(zero_copy_only=False)).astype(np.float32), vectors
    )
    assert table["id"].to_pylist() == [index.hit_of_row(row).id for row in rows.tolist()]
    assert Path(table["image"][0].as_py()).is_file()
    if kind == "parquet":  # which recallk itself reads
        read, _ = read_any_vectors(path)
        np.testing.assert_array_equal(read.array, vectors)
        assert read.labels == table["label"].to_pylist()
    with pytest.raises(InputError, match="exists already"):
        push(index.folder, f"{kind}:{path}")
    for wrong in (f"{kind}:", f"{kind}:{tmp_path}/none/x"):
        with pytest.raises(InputError, match="in a folder that exists"):
            push(index.folder, wrong)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["photos", "catalogue", path.name, other.name])


def interrupt(index: Index, to: str, times: int, seconds: float) -> int:
    """Push in processes that are killed; return how many came to their end."""
    random, ended = np.random.default_rng(0), 0
    for _ in range(times):
        child = os.fork()
        if not child:
            try:
                push(index.folder, to)
            finally:
                os._exit(0)
        time.sleep(float(random.random() * seconds))
        os.kill(child, signal.SIGKILL)
        ended += os.waitpid(child, 0)[1] == 0
    return ended


def interrupted(index: Index, tmp_path: Path, times: int) -> None:
    url = f"qdrant://{tmp_path}/store/items"
    interrupt(index, url, times, 0.6)
    done = push(index.folder, url)
    assert done.items == 30
    assert done.recall == 1.0
    with _Open(url) as remote:
        assert remote.search(["a/3.png"], 30).ids == index.search(["a/3.png"], 30).ids
    path = tmp_path / "pushed.parquet"
    for _ in range(times):
        interrupt(index, f"parquet:{path}", 1, 0.05)
        if path.exists():
            assert parquet.read_table(path).num_rows == 30
            path.unlink()


def test_some_interruptions(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_AT_ONCE", 2)
    interrupted(index, tmp_path, 8)


@pytest.mark.slow
def test_a_hundred_interruptions(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_AT_ONCE", 2)
    interrupted(index, tmp_path, 100)


def test_an_empty_catalogue_and_one_of_vectors(tmp_path: Path, url: str) -> None:
    index = Index.build(head(), _vectors(tmp_path, 24), tmp_path / "catalogue")
    assert push(index.folder, url).items == 40
    query = np.random.default_rng(5).standard_normal((2, 24)).astype(np.float32)
    with _Open(url, index.folder) as remote:
        np.save(tmp_path / "query.npy", query)
        for queries in (query, [tmp_path / "query.npy"]):
            assert remote.search(queries, 4).ids == index.search(queries, 4).ids
        names = [index.hit_of_row(row).id for row in (0, 7)]  # they have no files to be known by
        assert remote.search(names, 4).ids == index.search(names, 4).ids
        together = remote.search(names, 4, together=True).ids
        assert together == index.search(names, 4, together=True).ids
    index.remove([name for names in index.search(query[:1], 40).ids for name in names])
    done = push(index.folder, url)
    assert (done.items, done.removed) == (0, 40)


def test_what_its_metadata_say(tmp_path: Path) -> None:
    collection = Collection(f"qdrant://{tmp_path}/store/x", fill=True)
    meaning = Meaning(items="images", embedder="e", columns=("id",))
    assert collection.meaning() is None
    collection.create(2, meaning)
    assert collection.meaning() == meaning
    collection.rename(meaning.model_copy(update={"columns": ("id", "label")}))
    assert collection.meaning() == Meaning(items="images", embedder="e", columns=("id", "label"))
    collection.put([Point("a", [1.0, 0.0], {"known": {"id": "a"}}, "m")])
    assert collection.marks() == {"a": "m"}
    collection.close()


def test_a_collection_that_is_changed_meanwhile_is_seen(index: Index, url: str) -> None:
    push(index.folder, url)
    collection = Collection(url)
    remote, meaning = Remote(collection, index.folder), collection.meaning()
    assert meaning is not None
    assert remote.refreshed() is remote
    collection.rename(meaning.model_copy(update={"columns": (*meaning.columns, "new")}))
    assert remote.refreshed().columns == (*index.columns, "new")
    collection.rename(meaning.model_copy(update={"embedder": "another"}))
    with pytest.raises(InputError, match="of another model"):
        remote.refreshed()
    collection.close()


def test_a_server_that_keeps_no_metadata_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = QdrantClient.create_collection
    monkeypatch.setattr(QdrantClient, "create_collection", lambda *a, metadata, **b: whole(*a, **b))
    collection = Collection(url, fill=True)
    with pytest.raises(InputError, match=r"Qdrant 1\.16 or newer"):
        collection.create(2, Meaning(items="images", embedder="e", columns=("id",)))
    assert collection.meaning() is None
    collection.close()


def test_what_is_large_is_sent_in_pieces(index: Index, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, whole = list[int](), Collection.put
    monkeypatch.setattr(pushing, "_BYTES", 2_000)

    def put(self: Collection, points: Any) -> None:
        sizes.append(len(points))
        whole(self, points)

    monkeypatch.setattr(Collection, "put", put)
    assert push(index.folder, url).sent == sum(sizes) == 30
    assert max(sizes) < 10


def test_long_conditions_are_no_deeper_than_short_ones(filled: Any) -> None:
    table, client = filled
    texts, numbers = ", ".join(f"'{n}'" for n in range(150)), ", ".join(map(str, range(150)))
    chain = " or ".join(f"count = {n}" for n in range(80))
    for condition in (f"id in ({texts})", f"price in ({numbers})", f"not id in ({texts})", chain):
        made = filter_of(condition, table.column_names)
        assert made.model_dump_json().count("[") < 1000
        depth = most = 0
        for sign in made.model_dump_json(exclude_none=True):
            depth += (sign in "[{") - (sign in "]}")
            most = max(most, depth)
        assert most < 12
        found = client.scroll("c", scroll_filter=made, limit=1000)[0]
        assert sorted(point.id for point in found) == np.flatnonzero(where(table, condition)).tolist()


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_cells_that_are_no_numbers_and_large_ones(tmp_path: Path, url: str, kind: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((30, 24)).astype(np.float32)
    table = pyarrow.table(
        {
            "embedding": list(vectors),
            "weight": [float("nan"), None, *range(28)],
            "sku": [1152921504606846977 + number for number in range(30)],
        }
    )
    parquet.write_table(table, tmp_path / "source.parquet")
    index = Index.build(head(), tmp_path / "source.parquet", tmp_path / "catalogue")
    assert push(index.folder, f"{kind}:{tmp_path}/pushed.{kind}").sent == 30
    assert push(index.folder, url).sent == 30
    assert len(index.search(vectors[:1], 40, where="sku > 5 and weight >= 0").hits[0]) == 28


@pytest.mark.parametrize(
    ("url", "key", "expected"),
    [
        ("qdrant://shop.example/c", None, ("shop.example", 6333, False, None)),
        ("qdrant://shop.example:80/c", "secret", ("shop.example", 80, True, "secret")),
        ("qdrant://[::1]:7000/c", None, ("[::1]", 7000, False, None)),
    ],
)
def test_a_server_is_spoken_to_as_its_address_says(
    url: str, key: str | None, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, Any]()
    monkeypatch.setattr("qdrant_client.QdrantClient", lambda **given: seen.update(given))
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("QDRANT_API_KEY", key)
    assert Collection(url).name == "c"
    assert tuple(seen[name] for name in ("host", "port", "https", "api_key")) == expected


def test_the_server_searches_exactly_unless_told_otherwise(
    index: Index, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(index.folder, url)
    asked, whole = list[bool](), QdrantClient.query_batch_points

    def query(self: Any, name: str, requests: Any) -> Any:
        asked.extend(request.params.exact for request in requests)
        return whole(self, name, requests)

    monkeypatch.setattr(QdrantClient, "query_batch_points", query)
    with _Open(url) as remote:
        remote.search(["a/0.png"], 2)
        remote.search(["a/0.png"], 2, approximate=True)
    assert asked == [True, False]
