"""Pretrained weights without a network, out of a cache, and from a place that is slow."""

import http.server
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from recallk import InputError
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import ImageSettings

SETTINGS: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "resize": 32, "embedding_size": 8}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No name is found, and the caches are empty; returns the cache of the hub."""

    def nowhere(*place: Any, **options: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def state_of(backbone: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    state: dict[str, torch.Tensor] = timm.create_model(backbone).state_dict()
    return state


@pytest.mark.parametrize(
    "backbone", ["test_resnet", "resnet50.tv_in1k", "legacy_seresnet18.in1k", "convnext_tiny_in22ft1k"]
)
def test_no_network_is_told_soon_and_once(
    no_network: Path, backbone: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.WARNING)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"Name or service not known.*--weights PATH.*--weights none") as caught:
        build(ImageSettings(**(SETTINGS | {"backbone": backbone, "image_size": 64, "resize": 64})), "pretrained")
    assert time.monotonic() - started < 8
    assert "\n" not in str(caught.value)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_what_the_hubs_client_logs_is_not_shown(slow_hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it fetches, that is: afterwards it may log again."""
    seen: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: seen.append(record.getMessage()))
    client = logging.getLogger("huggingface_hub.utils._http")
    client.addHandler(handler)

    def lost(name: str, **options: Any) -> None:
        client.warning("Retrying in 1s [Retry 1/5].")
        raise OSError("lost")

    monkeypatch.setattr(timm, "create_model", lost)
    with pytest.raises(InputError, match=r"could not be fetched \(lost\)"):
        build(ImageSettings(**SETTINGS), "pretrained")
    assert seen == []
    client.warning("later")
    assert seen == ["later"]
    client.removeHandler(handler)


def test_a_network_that_somebody_registered_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ImageSettings(**SETTINGS)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: None)
    build(settings, "none")
    with pytest.raises(InputError, match="timm has no weights for test_resnet; "):
        build(settings, "pretrained")


def test_threads_are_quiet_each_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    """And leave the loggers as they were, in whichever order they end."""
    from recallk.models.fetching import quiet

    caplog.set_level(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("timm", "timm.models", "huggingface_hub", "huggingface_hub.utils")]

    def state() -> list[tuple[int, int, bool]]:
        return [(logger.level, len(logger.filters), logger.isEnabledFor(logging.WARNING)) for logger in loggers]

    def log(message: str) -> None:
        for logger in loggers:
            logger.warning(message)

    inside, over = threading.Event(), threading.Event()

    def longer() -> None:
        with quiet():
            inside.set()
            over.wait(10)
            log("quiet")

    before = state()
    thread = threading.Thread(target=longer)
    with quiet():
        thread.start()
        inside.wait(10)
        log("quiet")
    log("told")
    over.set()
    thread.join()
    assert state() == before
    assert {record.getMessage() for record in caplog.records} == {"told"}


def test_a_network_without_weights() -> None:
    with pytest.raises(InputError, match="timm has no weights for darknet17; ") as caught:
        build(ImageSettings(**(SETTINGS | {"backbone": "darknet17"})), "pretrained")
    assert "--weights none" in str(caught.value)


def fill_hub_cache(cache: Path, state: dict[str, torch.Tensor], name: str) -> None:
    repository = cache / "models--timm--test_resnet.r160_in1k"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    if name.endswith("safetensors"):
        save_file(state, snapshot / name)
    else:
        torch.save(state, snapshot / name)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_in_the_hubs_cache_needs_no_network(no_network: Path, name: str) -> None:
    state = state_of("test_resnet")
    fill_hub_cache(no_network, state, name)
    started = time.monotonic()
    backbone = build(ImageSettings(**SETTINGS), "pretrained").backbone
    assert time.monotonic() - started < 8
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_file_in_torchs_cache_needs_no_network(no_network: Path) -> None:
    folder = no_network.parent / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = state_of("resnet18.tv_in1k")
    torch.save(state, folder / timm.get_pretrained_cfg("resnet18.tv_in1k").url.rpartition("/")[2])
    backbone = build(ImageSettings(**(SETTINGS | {"backbone": "resnet18.tv_in1k"})), "pretrained").backbone
    assert torch.equal(backbone.get_parameter("conv1.weight"), state["conv1.weight"])


def test_a_broken_file_in_the_cache(no_network: Path) -> None:
    fill_hub_cache(no_network, state_of("test_resnet"), "model.safetensors")
    (path,) = no_network.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="the weights of test_resnet could not be") as caught:
        build(ImageSettings(**SETTINGS), "pretrained")
    assert "\n" not in str(caught.value)


@pytest.fixture
def slow_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that takes a second to answer anything."""
    awake = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            awake.wait(1)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *message: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    awake.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_slow_network_is_a_network(slow_hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.models import fetching

    monkeypatch.setattr(fetching, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    fetched: list[bool] = []
    create = timm.create_model

    def created(name: str, pretrained: bool, pretrained_cfg_overlay: Any, **options: Any) -> Any:
        assert pretrained_cfg_overlay is None
        fetched.append(pretrained)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", created)
    build(ImageSettings(**SETTINGS), "pretrained")
    assert fetched[0]
