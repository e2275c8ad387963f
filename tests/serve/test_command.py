"""`recallk serve`, up to where it would go on for ever."""

import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from recallk.catalogue import state as states
from recallk.catalogue.approximate import OpenApproximate
from recallk.catalogue.index import Index
from recallk.catalogue.push import push
from tests.catalogue.place import draw_all, small_embedder
from tests.catalogue.test_approximate import head, source
from tests.cli.test_cli import recallk
from tests.retrieval.test_approximate import clustered


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return Index.build(small_embedder(), draw_all(tmp_path / "photos", 3), tmp_path / "catalogue", workers=0).folder


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be served, and where, in place of doing so."""
    import uvicorn

    found = list[Any]()

    def run(self: Any, sockets: Any) -> None:
        found.extend([self.config.app, sockets[0].getsockname()])
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


def test_it_listens_on_this_machine_alone(kept: Path, served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("serve", kept, "--port", "0") == 0
    host, port = served[1]
    assert host == "127.0.0.1"
    printed = capsys.readouterr().out
    assert f"open http://127.0.0.1:{port} in a browser" in printed
    assert "no passwords" not in printed


def test_another_address_is_said_to_be_open_to_all(
    kept: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recallk("serve", kept, "--host", "0.0.0.0", "--port", "0") == 0
    assert served[1][0] == "0.0.0.0"
    assert "there are no passwords" in capsys.readouterr().out


def test_a_port_that_is_taken_is_told(kept: Path, served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert recallk("serve", kept, "--port", port) == 2
    assert f"127.0.0.1, port {port}: cannot be listened at (Address already in use)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no catalogue (no such folder)"),
        (["{kept}/model"], "no catalogue (no manifest.json in it)"),
        (["{kept}", "--host", "no such host.invalid"], "cannot be listened at"),
        (["{kept}", "--host", "203.0.113.1"], "cannot be listened at"),
        (["{kept}", "--port", "70000"], "--port"),
    ],
)
def test_mistakes(
    words: list[str], told: str, kept: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recallk("serve", *(word.format(kept=kept) for word in words)) == 2
    assert told in capsys.readouterr().err
    assert not served


def test_an_approximate_search_is_served(
    tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.build(head(), source(tmp_path, clustered(300)), tmp_path / "catalogue")
    assert recallk("serve", index.folder, "--approximate", "--port", "0") == 2
    assert "recallk index approximate" in capsys.readouterr().err
    index.approximate("ivf")
    assert recallk("serve", index.folder, "--approximate", "--port", "0") == 0
    searched, whole = list[bool](), OpenApproximate.nearest

    def seen(*words: Any) -> Any:
        searched.append(True)
        return whole(*words)

    monkeypatch.setattr(OpenApproximate, "nearest", seen)
    with TestClient(served[0], base_url="http://127.0.0.1") as client:
        answer = client.get("/search", params={"id": "i7", "k": 4})
        assert len(answer.json()["results"]) == 4
        assert searched == [True]
        monkeypatch.setattr(states, "MOST_REMOVED", 0.0)
        index.remove(["i3"])  # drops it: until it is built again the search is exact
        assert len(client.get("/search", params={"id": "i7", "k": 4}).json()["results"]) == 4
        assert searched == [True]


def test_a_collection_is_served_with_a_model(kept: Path, tmp_path: Path, served: list[Any]) -> None:
    url = f"qdrant://{tmp_path}/store/items"
    push(kept, url)
    assert recallk("serve", url, "--model", kept, "--port", "0") == 0
    with TestClient(served[0], base_url="http://127.0.0.1") as client:
        image = (tmp_path / "photos" / "a" / "0.png").read_bytes()
        answer = client.post("/search", files={"image": image}, data={"k": "1"}).json()
        assert [each["id"] for each in answer["results"]] == ["a/0.png"]
