"""The API over a catalogue: what it answers, and that whatever is sent to it is refused in a sentence at worst."""

import io
import json
import random as randoms
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from recallk import InputError
from recallk.catalogue.index import Index
from recallk.catalogue.push import push
from recallk.catalogue.qdrant import AwayError, Collection
from recallk.catalogue.remote import Remote
from recallk.models.build import build
from recallk.models.settings import TextSettings
from recallk.serve import app as apps
from recallk.serve import limits
from recallk.serve.app import Search, _answer, make_app
from recallk.serve.gathered import Waiting
from recallk.serve.openapi import DESCRIPTION
from recallk.serve.requests import MOST_PAGES, MOST_QUERIES, MOST_RESULTS, Asked
from tests.catalogue.place import draw, draw_all, small_embedder
from tests.miniature_texts import offers, save_texts


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("serve")
    photos = draw_all(place / "photos", 12)
    rows = ["path,label,colour,price,note"]
    for number in range(12):
        label, colour = "abc"[number % 3], ("blue", "red")[number % 2]
        rows.append(f"{label}/{number}.png,{label},{colour},{number},<b>&{number}")
    (photos / "table.csv").write_text("\n".join(rows))
    return Index.build(small_embedder(), photos / "table.csv", place / "catalogue", workers=0).folder


@pytest.fixture(scope="module")
def client(kept: Path) -> Iterator[TestClient]:
    with TestClient(make_app(Index.open(kept), ["testserver"]), raise_server_exceptions=False) as found:
        yield found


def png(seed: int = 99, side: int = 20) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST).save(held, format="PNG")
    return held.getvalue()


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["results"]]


def test_an_image_finds_what_the_index_finds(client: TestClient, kept: Path, tmp_path: Path) -> None:
    query = draw(tmp_path / "query.png", 99)
    found = Index.open(kept).search([query], 5)
    answer = client.post("/search", files={"image": query.read_bytes()}, data={"k": "5"})
    assert ids(answer) == found.ids[0]
    first = answer.json()["results"][0]
    assert first["similarity"] == pytest.approx(float(found.similarities[0, 0]), abs=1e-5)
    assert first["label"] == found.hits[0][0].known["label"]
    assert "image" not in first


def test_images_and_weights_lie_as_a_cpu_takes_them(kept: Path) -> None:
    index = Index.open(kept)
    make_app(index, ["testserver"])
    kernels = [weight for weight in index.embedder.parameters() if weight.ndim == 4 and weight.shape[2] > 1]
    assert kernels
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)


def test_an_id_finds_the_others(client: TestClient, kept: Path) -> None:
    expected = Index.open(kept).search(["a/0.png"], 4).ids[0]
    assert ids(client.get("/search", params={"id": "a/0.png", "k": 4})) == expected
    assert ids(client.post("/search", json={"id": "a/0.png", "k": 4})) == expected
    assert ids(client.post("/search", json={"id": ["a/0.png"], "k": "4"})) == expected


def test_several_are_searched_together(client: TestClient, kept: Path) -> None:
    expected = Index.open(kept).search(["a/0.png", "b/1.png"], 4, together=True).ids[0]
    assert ids(client.get("/search", params={"id": ["a/0.png", "b/1.png"], "k": 4})) == expected
    both = client.post("/search", files=[("image", png(1)), ("image", png(2))], data={"id": "a/0.png"})
    assert len(ids(both)) == 11


def test_page_after_page(client: TestClient, kept: Path) -> None:
    expected = Index.open(kept).search(["a/0.png"], 11).ids[0]
    seen = list[str]()
    for offset in range(0, 12, 4):
        answer = client.get("/search", params={"id": "a/0.png", "k": 4, "offset": offset})
        seen += ids(answer)
        assert answer.json()["more"] == (offset < 8)
    assert seen == expected
    beyond = client.get("/search", params={"id": "a/0.png", "offset": 50})
    assert ids(beyond) == []
    assert not beyond.json()["more"]


def test_only_what_meets_a_condition(client: TestClient) -> None:
    answer = client.get("/search", params={"id": "a/0.png", "where": "colour = 'red' and price > 4"})
    assert sorted(each["price"] for each in answer.json()["results"]) == ["11", "5", "7", "9"]


def test_an_item_and_its_picture(client: TestClient) -> None:
    item = client.get("/items/a/0.png").json()
    assert (item["id"], item["label"], item["note"]) == ("a/0.png", "a", "<b>&0")
    assert item["picture"] == "/pictures/a%2F0.png"
    for side in (192, 768):
        answer = client.get(item["picture"], params={"side": side})
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.format == "JPEG"
            assert max(picture.size) <= side


def test_a_picture_is_pixels_and_nothing_that_was_hidden_in_the_file(
    client: TestClient, kept: Path, tmp_path: Path
) -> None:
    secret = b"<script>alert(1)</script>"
    image = kept.parent / "photos" / "c" / "2.png"
    before = image.read_bytes()
    try:
        image.write_bytes(before + secret)
        assert secret not in client.get("/pictures/c%2F2.png").content
    finally:
        image.write_bytes(before)


def test_pages_and_descriptions(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("page.css", "page.js"):
        assert f"/static/{name}" in page.text
        assert client.get(f"/static/{name}").status_code == 200
    assert client.get("/about").json() == {
        "name": "catalogue",
        "items": 12,
        "columns": ["id", "label", "image", "colour", "price", "note"],
        "of": "images",
    }
    assert client.get("/openapi.json").json() == json.loads(json.dumps(DESCRIPTION))
    api = client.get("/api").text
    for path in DESCRIPTION["paths"]:
        assert path.split("{")[0] in api
    assert client.get("/favicon.ico").status_code == 204


def test_nothing_is_asked_of_other_machines(client: TestClient) -> None:
    for path in ("/", "/static/page.css", "/static/page.js", "/api"):
        text = client.get(path).text
        assert "https://" not in text
        assert "http://" not in text.replace("http://127.0.0.1:8000", "")


def test_every_answer_says_what_a_browser_may_do_with_it(client: TestClient) -> None:
    for path in ("/", "/about", "/pictures/a%2F0.png", "/nowhere", "/search"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"


def test_another_name_of_the_host_is_refused(kept: Path) -> None:
    with TestClient(make_app(Index.open(kept), ["127.0.0.1"]), base_url="http://evil.example") as client:
        assert client.get("/about").status_code == 400


def test_a_catalogue_that_changes_is_seen(tmp_path: Path) -> None:
    index = Index.build(small_embedder(), draw_all(tmp_path / "photos"), tmp_path / "catalogue", workers=0)
    with TestClient(make_app(Index.open(index.folder), ["testserver"])) as client:
        assert client.get("/about").json()["items"] == 9
        index.remove(["a/0.png"])
        assert client.get("/about").json()["items"] == 8
        assert client.get("/items/a/0.png").status_code == 404
        index.add(draw(tmp_path / "more" / "d" / "new.png", 50).parents[1], workers=0)
        assert "d/new.png" in ids(client.get("/search", params={"id": "b/1.png"}))


def test_an_item_whose_image_is_gone(tmp_path: Path) -> None:
    index = Index.build(small_embedder(), draw_all(tmp_path / "photos", 3), tmp_path / "catalogue", workers=0)
    (tmp_path / "photos" / "a" / "0.png").unlink()
    with TestClient(make_app(Index.open(index.folder), ["testserver"])) as client:
        answer = client.get("/pictures/a%2F0.png")
        assert answer.status_code == 404
        assert str(tmp_path) not in answer.text
        assert client.get("/items/a%2F0.png").status_code == 200


def test_vectors_are_searched_by_ids(tmp_path: Path) -> None:
    from recallk.models.settings import VectorSettings
    from recallk.models.vector_embedder import VectorEmbedder

    np.save(tmp_path / "all.npy", np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    head = VectorEmbedder(VectorSettings(input_size=4, embedding_size=3)).eval()
    index = Index.build(head, tmp_path / "all.npy", tmp_path / "catalogue")
    with TestClient(make_app(Index.open(index.folder), ["testserver"])) as client:
        assert len(ids(client.get("/search", params={"id": "row 1"}))) == 5
        assert client.post("/search", files={"image": png()}).status_code == 400
        assert client.get("/pictures/row%201").status_code == 404


def test_texts_are_searched_by_words_and_by_ids(sentence_model: Path, tmp_path: Path) -> None:
    embedder = build(TextSettings(backbone=str(sentence_model), embedding_size=24)).eval()
    rows = [(text, label, f"o{number}") for number, (text, label) in enumerate(offers(1))]
    table = save_texts(tmp_path / "t.csv", [*rows, ("o1", "odd", "o99")], ("text", "label", "id"))
    index = Index.build(embedder, table, tmp_path / "catalogue")
    with TestClient(make_app(Index.open(index.folder), ["testserver"]), raise_server_exceptions=False) as client:
        assert client.get("/about").json()["of"] == "texts"
        assert ids(client.get("/search", params={"text": rows[3][0], "k": 1})) == ["o3"]
        assert ids(client.get("/search", params={"text": "o1", "k": 1}))[0] != "o1", "words, whatever ids there are"
        assert "o1" not in ids(client.get("/search", params={"id": "o1"})), "an item is not its own result"
        both = client.post("/search", json={"text": [rows[3][0], rows[4][0]], "id": ["o5"], "k": 5})
        assert {"o3", "o4"} <= set(ids(both)), "searched together"
        refusals: list[dict[str, Any]] = [{"text": " "}, {"text": 3}, {"text": []}]
        for given in refusals:
            assert client.post("/search", json=given).status_code == 400, given
        refused = client.post("/search", files={"image": png()})
        assert "the catalogue is of texts, and these are images" in refused.json()["error"]
        assert "no model" not in client.get("/search", params={"id": "red hat"}).text
        assert client.get("/search", params={"id": "red hat"}).status_code == 404, "no id"


def test_a_folder_that_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no catalogue"):
        make_app(Index.open(tmp_path), [])


def hostile() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Requests that nobody means well with: method, path, and what is sent."""
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, format="PNG")
    wide = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(wide, format="PNG")
    uploads: dict[str, bytes] = {
        "nothing": b"",
        "text": b"hello",
        "html": b"<html><script>alert(1)</script></html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "bomb": bomb.getvalue(),
        "large": wide.getvalue(),
        "zip": b"PK\x03\x04" + b"\0" * 100,
        "cut": png(side=200)[:300],
        "header": png()[:8],
        "elf": b"\x7fELF" + b"\0" * 100,
        "postscript": b"%!PS-Adobe-3.0\n(%pipe%id) (w) file\n",
        "gif": b"GIF89a" + b"\xff" * 50,
        "tiff": b"II*\0\xff\xff\xff\xff",
        "jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 60,
        "webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "pickle": b"cos\nsystem\n(S'id'\ntR.",
    }
    for content in uploads.values():
        yield "POST", "/search", {"files": {"image": content}}
        yield "POST", "/search", {"files": {"image": ("../../etc/passwd", content, "image/png")}}
    yield "POST", "/search", {"files": [("image", png())] * (MOST_QUERIES + 1)}
    yield "POST", "/search", {"files": {"file": png()}}
    yield "POST", "/search", {"files": {"id": png()}}
    yield "POST", "/search", {"files": {"where": png(), "image": png()}}
    yield "POST", "/search", {"data": {"image": "text"}}
    yield "POST", "/search", {"content": b"x" * 100, "headers": {"content-type": "multipart/form-data; boundary=x"}}
    yield "POST", "/search", {"content": b"x" * 100, "headers": {"content-type": "multipart/form-data"}}
    yield "POST", "/search", {"content": b"", "headers": {"content-type": "text/plain"}}
    yield "POST", "/search", {}
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff",
        b'{"id": 1}',
        b'{"id": [1]}',
        b'{"id": {}}',
        b'{"image": "x"}',
    ):
        yield "POST", "/search", {"content": body, "headers": {"content-type": "application/json"}}
    yield "POST", "/search", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}
    numbers: list[Any] = [True, None, [], {}, -1, 0, 1.5, "x", 10**30, MOST_RESULTS + 1, "1e3", " 5", "٣", float("inf")]
    for number in numbers:
        yield (
            "POST",
            "/search",
            {
                "content": json.dumps({"id": "a/0.png", "k": number}).encode(),
                "headers": {"content-type": "application/json"},
            },
        )
    for value in ("-1", "x", "1.5", "9" * 50, str(MOST_PAGES), "", "0x10", "%00"):
        yield "GET", "/search", {"params": {"id": "a/0.png", "offset": value}}
    for value in ("0", "-1", "x", "1000000000", "1e9", "", "NaN", "１"):
        yield "GET", "/search", {"params": {"id": "a/0.png", "k": value}}
    for name in (
        "",
        "nothing",
        "../../../etc/passwd",
        "/etc/passwd",
        "a/0.png\0",
        "a" * 5_000,
        "<script>",
        "..%2f..%2f",
        "~",
        "a/0.png/",
    ):
        yield "GET", "/search", {"params": {"id": name}}
        yield "GET", f"/items/{quote(name, safe='')}", {}
        yield "GET", f"/pictures/{quote(name, safe='')}", {}
    for path in (
        "/static/app.py",
        "/static/..%2fapp.py",
        "/static/../app.py",
        "/manifest.json",
        "/model/weights.safetensors",
        "//etc/passwd",
        "/pictures/../../etc/passwd",
        "/parts",
        "/docs",
        "/.env",
        "/static/",
    ):
        yield "GET", path, {}
    for side in ("0", "-1", "100000", "x", ""):
        yield "GET", "/pictures/a%2F0.png", {"params": {"side": side}}
    for where in (
        "1=1",
        "' or '1'='1",
        "label = 'a'; drop table items",
        "label = (select 1)",
        "read_csv('/etc/passwd')",
        "label union select 1",
        "'",
        '"',
        "(" * 500,
        "label like 5",
        "x = 1",
        "label",
        "label = label",
        "<script>alert(1)</script>",
        "x" * 3_000,
        "label = 'a' and",
        "not",
        "label in ()",
        "pg_sleep(10) = 1",
        "label = 'a' limit 1",
        "case when 1 then 2",
        "label = $1",
        "@@version = 1",
        "\0",
        "label = '\0",
        "load_extension('x')",
        "label glob '*'",
        "label regexp '(a+)+$'",
        "{{7*7}}",
        "${7*7}",
        "%s%s%n",
    ):
        yield "GET", "/search", {"params": {"id": "a/0.png", "where": where}}
    for key in ("limit", "callback", "__proto__", "K", "ID", "image"):
        yield "GET", "/search", {"params": {"id": "a/0.png", key: "1"}}
    yield "GET", "/search", {"params": [("id", "a/0.png"), ("k", "1"), ("k", "2")]}
    yield "GET", "/search", {"params": [("id", f"a/{n}.png") for n in range(MOST_QUERIES + 1)]}
    yield "GET", "/search", {}
    for name in (
        "../catalogue/manifest.json",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "a\\0.png",
        "con",
        "%2e%2e",
        "\r\nX: y",
    ):
        yield "POST", "/search", {"json": {"id": name}}
        yield "POST", "/search", {"files": {"image": png()}, "data": {"id": name}}
        yield "POST", "/search", {"json": {"id": ["a/0.png", name]}}
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND"):
        yield method, "/search", {}
        yield method, "/items/a%2F0.png", {}
    yield "POST", "/search", {"content": b"x", "headers": {"content-length": "99999999999"}}
    yield "POST", "/search", {"content": b"x", "headers": {"content-length": "-5"}}


def test_hostile_requests_are_refused_and_the_server_lives(client: TestClient) -> None:
    count = 0
    for method, path, sent in hostile():
        answer = client.request(method, path, **sent)
        assert 400 <= answer.status_code < 500, (method, path, str(sent)[:200], answer.status_code, answer.text[:200])
        told = (
            answer.text if answer.headers.get("content-type", "").startswith("text/plain") else answer.json()["error"]
        )
        assert told, (method, path)
        assert "\n" not in told.strip()
        assert "/tmp" not in told, told
        assert "Traceback" not in told
        count += 1
    assert count >= 200
    assert client.get("/about").status_code == 200
    assert len(ids(client.post("/search", files={"image": png()}))) == 12


def test_a_body_that_is_too_long_is_refused_while_it_comes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[int]()

    def endless() -> Iterator[bytes]:
        for number in range(400):
            sent.append(number)
            yield b"x" * 100_000

    boundary = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/search", content=endless(), headers=boundary)
    assert answer.status_code in (400, 413)
    answer = client.post("/search", files={"image": b"x" * (limits.MOST_BYTES + 1)})
    assert answer.status_code == 413
    assert "20 MB" in answer.json()["error"]


def test_a_mistake_of_ours_is_told_without_its_words(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(apps, "_answer_together", broken)
    with TestClient(make_app(Index.open(kept), ["testserver"]), raise_server_exceptions=False) as client:
        answer = client.get("/search", params={"id": "a/0.png"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "log" in answer.json()["error"]


def test_cells_that_json_does_not_have(tmp_path: Path) -> None:
    import datetime

    import pyarrow
    from pyarrow import parquet

    draw_all(tmp_path / "photos", 2)
    table = pyarrow.table(
        {
            "path": ["a/0.png", "b/1.png"],
            "label": ["x", "y"],
            "size": [float("nan"), float("inf")],
            "day": [datetime.date(2026, 1, 2), None],
            "whole": [2**60, None],
            "new": [True, None],
        }
    )
    parquet.write_table(table, tmp_path / "photos" / "table.parquet")
    index = Index.build(small_embedder(), tmp_path / "photos" / "table.parquet", tmp_path / "catalogue", workers=0)
    with TestClient(make_app(Index.open(index.folder), ["testserver"])) as client:
        item = client.get("/items/a%2F0.png").json()
    assert (item["size"], item["day"], item["whole"], item["new"]) == (None, "2026-01-02", 2**60, True)


def test_random_bytes_as_images(client: TestClient) -> None:
    chance = randoms.Random(0)
    good = png(side=60)
    for _ in range(60):
        content = bytearray(good)
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        answer = client.post("/search", files={"image": bytes(content[: chance.randint(1, len(content))])})
        assert answer.status_code in (200, 415)


def test_a_collection_is_served_as_the_catalogue_it_was_filled_from(kept: Path, tmp_path: Path) -> None:
    url = f"qdrant://{tmp_path}/store/items"
    push(kept, url)
    for model in (kept, None):
        collection = Collection(url)
        with TestClient(make_app(Remote(collection, model), ["testserver"])) as client:
            assert client.get("/about").json()["items"] == 12
            expected = Index.open(kept).search(["a/0.png"], 4).ids[0]
            assert ids(client.get("/search", params={"id": "a/0.png", "k": 4})) == expected
            answer = client.get("/search", params={"id": "a/0.png", "where": "colour = 'red' and price > 4"})
            assert sorted(each["price"] for each in answer.json()["results"]) == ["11", "5", "7", "9"]
            sent = client.post("/search", files={"image": png()}, data={"k": "5"})
            if model is None:
                assert sent.status_code == 400
                assert "--model" in sent.json()["error"]
            else:
                query = tmp_path / "query.png"
                query.write_bytes(png())
                assert ids(sent) == Index.open(kept).search([query], 5).ids[0]
            assert client.get("/pictures/a%2F0.png").status_code == 200
            assert client.get("/items/nothing").json() == {"error": "no item 'nothing' in it"}
        collection.close()


def test_a_collection_that_does_not_answer(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(kept, url := f"qdrant://{tmp_path}/store/items")
    remote = Remote(Collection(url), kept)
    with TestClient(make_app(remote, ["testserver"])) as client:
        asked = 0

        def refused(*_: Any, **__: Any) -> None:
            nonlocal asked
            asked += 1
            raise ConnectionError("refused")

        for name in ("retrieve", "query_batch_points", "count"):
            monkeypatch.setattr(remote._collection._client, name, refused)
        for path in ("/items/a%2F0.png", "/pictures/a%2F0.png", "/search?id=a%2F0.png", "/about"):
            answer = client.get(path)
            assert answer.status_code == 503, path
            assert "is the server there" in answer.json()["error"]
        asked, waiting = 0, [Waiting(Search(Asked(images=(b"",)), [Image.new("RGB", (20, 20))])) for _ in range(5)]
        _answer(remote, waiting)
        assert asked == 1  # and not once for each, of which every one may have to wait for it
        assert all(isinstance(each.error, AwayError) for each in waiting)
