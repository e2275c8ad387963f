"""Damaged runs and files of weights: one line, no code run, no memory taken."""

import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from recallk import InputError, load
from recallk.models.build import build
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.settings import ImageSettings

SETTINGS: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "resize": 32, "embedding_size": 8}
IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    embedder = build(ImageSettings(**SETTINGS), "none")
    save_file(embedder.state_dict(), folder / "model.safetensors")
    values = ImageSettings(**SETTINGS).model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(values | {"epochs": 3}))
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def assert_one_line(run: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(run)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def values(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return read


def test_a_run_of_before_there_was_a_mean_is_loaded_as_it_was_trained(run: Path) -> None:
    keys = ("mean", "std", "interpolation")
    old = {key: value for key, value in values(run).items() if key not in keys}
    (run / "config.yaml").write_text(yaml.safe_dump(old))
    embedder = load(run)
    assert isinstance(embedder, ImageEmbedder)
    torch.testing.assert_close(embedder.mean.flatten() / 255, torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(embedder.std.flatten() / 255, torch.tensor([0.229, 0.224, 0.225]))
    settings = embedder.settings.model_dump()
    assert [settings[key] for key in keys] == [(0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear"]


@pytest.mark.parametrize("missing", ["mean", "std", "interpolation", "pooling", "backbone", "resize"])
def test_a_run_that_lacks_one_key_is_damaged(run: Path, missing: str) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in values(run).items() if k != missing}))
    assert_one_line(run, f"not the configuration of a run .no {missing}")


NONSENSE: list[Any] = [None, -1, 0, 10**9, 10**10, 10**400, 1.5, float("inf"), "x", "", [], [1, 2, 3], {"a": 1}]


@pytest.mark.parametrize("key", ["backbone", "pooling", "embedding_size", "image_size", "resize", "interpolation"])
@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: f"{value!r:.12}")
def test_nonsense_in_a_runs_configuration(run: Path, key: str, value: Any) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(values(run) | {key: value}))
    assert_one_line(run, "config.yaml: not the config|timm has no model|another architecture")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
CONFIGURATIONS: dict[str, bytes] = {
    "empty": b"",
    "a list": b"[1, 2]",
    "text": b"hello",
    "not YAML": b"a: [1, 2\nb: }",
    "tab": b"\tbackbone: x",
    "a tag": b"!!python/object/apply:os.system ['true']",
    "binary": bytes(range(256)) * 8,
    "not UTF-8": "backbone: é".encode("latin-1"),
    "NUL": b"backbone: test_resnet\0",
    "escape": b'backbone: "\\e[2J"',
    "nested": b"a: " + b"[" * 5_000,
    "nested maps": b"a: " + b"{a: " * 5_000,
    "laughs": LAUGHS.encode() + b"embedding_size: *i\nbackbone: test_resnet",
    "merges": MERGES.encode() + b"backbone: test_resnet\npooling: *i",
    "a number of 9,000 digits": b"embedding_size: " + b"9" * 9_000,
    "a date": b"backbone: 2024-99-99",
    "two documents": b"a: 1\n---\nb: 2\n",
    "an unknown anchor": b"a: *nothing",
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_damaged_configurations(run: Path, name: str) -> None:
    (run / "config.yaml").write_bytes(CONFIGURATIONS[name])
    assert_one_line(run, "config.yaml: not the configuration of a run")


def test_a_large_configuration_is_not_read(run: Path) -> None:
    (run / "config.yaml").write_bytes(b"#" * 1_000_001 + b"\n" + (run / "config.yaml").read_bytes())
    assert_one_line(run, "not the configuration of a run .larger than a megabyte")


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing", "no link"])
def test_what_is_no_file(run: Path, name: str, kind: str) -> None:
    path = run / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "no link":
        path.symlink_to(run / "nowhere")
    assert_one_line(run, "a folder, not a file|a pipe or a device, not a file|is it the folder of a finished run")


def with_header(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "short": lambda data: data[:7],
    "header cut": lambda data: data[:100],
    "cut": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "header of exabytes": lambda data: b"\xff" * 8 + data[8:],
    "header longer than the file": lambda data: with_header(b"{}", length=10**7),
    "header no JSON": lambda data: with_header(b"{" * 50),
    "header not UTF-8": lambda data: with_header(b"\xff\xfe" * 50),
    "header a list": lambda data: with_header(b"[1, 2]"),
    "header nested": lambda data: with_header(b"[" * 20_000),
    "no tensors": lambda data: with_header(b"{}"),
    "offsets outside": lambda data: with_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,10000000000]}}'),
    "a shape of nonsense": lambda data: with_header(
        b'{"a":{"dtype":"F32","shape":[9000000000,9000000000],"data_offsets":[0,4]}}', b"abcd"
    ),
    "an unknown type": lambda data: with_header(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', b"abcd"),
    "a pickle": lambda data: pickle.dumps({"a": 1}),
    "an archive": lambda data: b"PK\x03\x04" + data,
    "text": lambda data: b"damaged",
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_weights(run: Path, name: str) -> None:
    path = run / "model.safetensors"
    path.write_bytes(FILES[name](path.read_bytes()))
    assert_one_line(run, r"model\.safetensors: .*damaged")


Change = Callable[[dict[str, torch.Tensor]], object]
FIRST = "backbone.conv1.0.weight"
TENSORS: dict[str, tuple[str, Change]] = {
    "missing": ("1 of 95 tensors are missing, first head.bias", lambda state: state.pop("head.bias")),
    "further": ("1 of 95 tensors are not of it, first x", lambda state: state.update(x=torch.zeros(2))),
    "another shape": ("have other shapes, first head.bias", lambda state: state.update({"head.bias": torch.zeros(3)})),
    "half": ("another type of number", lambda state: state.update({FIRST: state[FIRST].half()})),
    "double": ("another type of number", lambda state: state.update({FIRST: state[FIRST].double()})),
    "whole numbers": ("another type of number", lambda state: state.update({FIRST: state[FIRST].int()})),
    "NaN": ("NaN or infinity in 1 of 95", lambda state: state[FIRST].view(-1)[3:4].fill_(torch.nan)),
    "infinity": ("NaN or infinity in 1 of 95", lambda state: state[FIRST].view(-1)[3:4].fill_(torch.inf)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_weights_that_are_not_the_networks(run: Path, name: str) -> None:
    message, change = TENSORS[name]
    state = load_file(run / "model.safetensors")
    change(state)
    save_file(state, run / "model.safetensors")
    assert_one_line(run, rf"model\.safetensors: .*{message}")


def test_another_network_than_the_weights_are_of(run: Path) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(values(run) | {"backbone": "test_vit"}))
    assert_one_line(run, r"another architecture than test_vit")


def test_runs_changed_at_random_are_loaded_or_refused_in_one_line(run: Path, whole: Path) -> None:
    rng = random.Random(0)
    refused: list[str] = []
    for _ in range(60):
        for file in whole.iterdir():
            (run / file.name).write_bytes(file.read_bytes())
        path = run / rng.choice(["config.yaml", "model.safetensors"])
        data = bytearray(path.read_bytes())
        reach = min(len(data), 4_000)  # with the header, where a change tells
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(reach)] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            assert load(run)(IMAGES).shape[0] == 2
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all(message.isprintable() for message in refused)


@pytest.mark.parametrize("path", [None, 3, 2.5, b"runs/x", ["runs/x"], "x" * 300, "a\0b", Path(__file__)])
def test_what_is_no_folder(path: Any) -> None:
    with pytest.raises(InputError, match=r"run folder|path of a run's folder") as caught:
        load(path)
    assert "\n" not in str(caught.value)


# files for --weights


class Hostile:
    """A pickle that would make a file if it were believed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights.ckpt", "weights", "weights.safetensors"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_file_of_weights_runs_no_code(tmp_path: Path, name: str, plain: bool) -> None:
    hostile = {"state_dict": Hostile(tmp_path / "was run")}
    if plain:
        (tmp_path / name).write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, tmp_path / name)
    with pytest.raises(InputError, match="not a file of weights") as caught:
        build(ImageSettings(**SETTINGS), str(tmp_path / name))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "was run").exists()


def checkpoint(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {"model": state, "optimizer": {"state": {}}, "epoch": 3}


CONTENTS: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], Any]]] = {
    "a list": ("not a file of weights", lambda state: list(state.values())),
    "a tensor": ("not a file of weights", lambda state: state["fc.weight"]),
    "a number": ("not a file of weights", lambda state: 3),
    "nothing": ("are missing", lambda state: {}),
    "numbers by name": ("are missing", lambda state: dict.fromkeys(state, 1.0)),
    "tensors by number": ("are missing|not a file", lambda state: dict(enumerate(state.values()))),
    "whole numbers": ("another type of number", lambda state: {key: value.int() for key, value in state.items()}),
    "sparse": ("another type of number", lambda state: {k: v.to_sparse() if v.ndim else v for k, v in state.items()}),
    "NaN": ("NaN or infinity", lambda state: state | {"conv1.0.weight": state["conv1.0.weight"] * torch.nan}),
    "an embedder": ("are missing", lambda state: {f"backbone.{key}": value for key, value in state.items()}),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_with_something_else(tmp_path: Path, name: str) -> None:
    message, make = CONTENTS[name]
    import timm

    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save(make(state), tmp_path / "weights.bin")
    with pytest.raises(InputError, match=message) as caught:
        build(ImageSettings(**SETTINGS), str(tmp_path / "weights.bin"))
    assert "\n" not in str(caught.value)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(checkpoint(halves), tmp_path / "good.bin")
    build(ImageSettings(**SETTINGS), str(tmp_path / "good.bin"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "text", "cut.pth", "cut.safetensors", "empty.pth", "image.png"])
def test_no_file_of_weights(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind.startswith("cut"):
        (torch.save if kind.endswith("pth") else save_file)({"a": torch.zeros(999)}, path)
        path.write_bytes(path.read_bytes()[:700])
    else:
        path.write_bytes(b"" if kind.startswith("empty") else b"no weights")
    with pytest.raises(InputError, match="not a file") as caught:
        build(ImageSettings(**SETTINGS), str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("weights", ["pretrainde", "x" * 300, "a\0b", "~nobody-here/x"])
def test_a_name_of_no_file(weights: str) -> None:
    with pytest.raises(InputError) as caught:
        build(ImageSettings(**SETTINGS), weights)
    assert "\n" not in str(caught.value)
