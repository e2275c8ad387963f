import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from recallk import InputError
from recallk.runs.config import read_config, to_yaml
from recallk.runs.image_config import FROM_NOTHING, FROM_WEIGHTS
from recallk.runs.recipes import find_recipe
from tests.configs import image_config


def test_a_written_configuration_is_read_as_the_same(tmp_path: Path) -> None:
    config = image_config({"data": "x", "ks": [1, 5], "recall_temperature": [1, 2.5], "batch_size": 40})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert image_config(read_config(tmp_path / "config.yaml")) == config


def test_a_whole_batch_is_read_again(tmp_path: Path) -> None:
    config = image_config({"data": "x", "batch_size": "all", "items_per_class": 4})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert image_config(read_config(tmp_path / "config.yaml")) == config


def test_the_last_layer_wins() -> None:
    assert image_config({"data": "x", "epochs": 3}, {"epochs": "4"}).epochs == 4


def test_defaults_that_follow_from_other_keys() -> None:
    assert image_config({"data": "x"}).batch_norm == "frozen"
    assert image_config({"data": "x", "weights": "none"}).batch_norm == "per-chunk"
    assert image_config({"data": "x", "weights": "none", "batch_norm": "frozen"}).batch_norm == "frozen"
    assert image_config({"data": "x"}).resize == 256
    assert image_config({"data": "x", "image_size": "384"}).resize == 439
    assert image_config({"data": "x"}).schedule == "cosine"
    assert image_config({"data": "x", "milestones": (3,)}).schedule == "milestones"
    assert image_config({"data": "x"}).learning_rate == FROM_WEIGHTS
    assert image_config({"data": "x", "weights": "file.safetensors"}).learning_rate == FROM_WEIGHTS
    assert image_config({"data": "x", "weights": "none"}).learning_rate == FROM_NOTHING > FROM_WEIGHTS
    assert image_config({"data": "x", "weights": "none", "learning_rate": "0.5"}).learning_rate == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch': did you mean epochs"),
        ({"zzz": 3}, "the keys are data, "),
        ({"epochs": 0}, "epochs=0: input should be greater than or equal to 1"),
        ({"image_size": "big"}, "image_size='big'"),
        ({"epochs": "many"}, "epochs='many'"),
        ({"pooling": "max"}, "'average', 'gem' or 'token'"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"rank_temperature": 0}, "rank_temperature=0"),
        ({"crop_scale": (0.5, 0.2)}, "the smaller first"),
        ({"milestones": (5, 3)}, "rising epoch numbers"),
        ({"schedule": "cosine", "milestones": (3,)}, "choose one"),
        ({"schedule": "exponential", "milestones": (3,)}, "milestones are given, and schedule=exponential: choose one"),
        ({"epoch_factor": 0.9}, "epoch_factor is for schedule=exponential, and schedule=cosine: choose one"),
        ({"whitening": "learned"}, "whitening=learned is what head=whitening begins as, and head=linear"),
        ({"epoch_factor": 0.9, "schedule": "cosine"}, "and schedule=cosine: choose one"),
        ({"epoch_factor": None, "schedule": "exponential"}, "schedule=exponential needs an epoch_factor"),
        ({"epoch_factor": 0, "schedule": "exponential"}, "epoch_factor=0: "),
        ({"epoch_factor": 1.1, "schedule": "exponential"}, "epoch_factor=1.1: "),
        ({"pooling_rate_factor": 10, "pooling": "average"}, "pooling_rate_factor is for the power of pooling=gem"),
        ({"pooling_weight_decay": 0, "pooling": "token"}, "pooling_weight_decay is for the power of pooling=gem"),
        ({"trained_blocks": -1}, "trained_blocks=-1: "),
        ({"trained_blocks": 0, "head": "none"}, "trained_blocks=0 and head=none leave nothing to train"),
        ({"head": "mlp"}, "'linear', 'whitening' or 'none'"),
        ({"whitening": "zca"}, "'pca' or 'learned'"),
        ({"batch_size": "all", "items_per_class": 2}, "items_per_class=2 is for batches that are drawn"),
        ({"batch_size": 42}, "no multiple of items_per_class=4"),
        ({"ks": (1, 2), "recall_temperature": (1, 1, 1)}, "3 values for 2 ks"),
        ({"ks": ()}, "ks="),
        ({"chunk_size": 1, "batch_norm": "per-chunk"}, "choose 2 or more"),
        ({"resize": 100}, "smaller than image_size=224"),
        ({"data": None}, "data=None"),
    ],
)
def test_a_wrong_key_or_value_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        image_config({"data": "x"}, values)
    assert "\n" not in str(caught.value)


def test_an_exponential_schedule_has_a_factor_by_itself() -> None:
    assert image_config({"data": "x", "schedule": "exponential"}).epoch_factor == 0.99
    assert image_config({"data": "x"}).epoch_factor is None


def test_data_is_needed() -> None:
    with pytest.raises(InputError, match=r"give --data PATH .* or a file of vectors"):
        image_config({})


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "just words"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=r"r\.yaml: not "):
        read_config(tmp_path / "r.yaml")


def test_temperatures_of_the_ks() -> None:
    for given, expected in ((1, (1, 1)), ("0.5", (0.5, 0.5)), ((1, 3), (1, 3)), ("k", (4, 16))):
        config = image_config({"data": "x", "ks": (4, 16), "recall_temperature": given})
        assert config.recall_temperatures == expected
        assert image_config(yaml.safe_load(to_yaml(config))).recall_temperatures == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 10_000_000),
        ("learning_rate", "1e39"),
        ("learning_rate", "-0.0"),
        ("learning_rate", "1e-300"),
        ("weight_decay", "nan"),
        ("weight_decay", "1e39"),
        ("host_memory_gb", "inf"),
        ("host_memory_gb", "1e300"),
        ("test_fraction", "nan"),
        ("ks", ["1e12"]),
        ("ks", [10**12]),
        ("ks", ["²"]),
        ("evaluate_ks", [10**12]),
        ("ks", list(range(1, 1000))),
        ("seed", 2**63),
        ("split_seed", 10**30),
        ("accelerator", "tpu"),
        ("workers", 10**6),
        ("batch_size", 10**12),
        ("chunk_size", 10**12),
        ("milestones", [10**9]),
        ("data", ""),
        ("weights", ""),
        ("epochs", [[[[1]]]]),
        ("loss", {"name": "memory-recall@k", "memory_size": 10**15}),
    ],
)
def test_what_no_machine_could_follow_is_one_line(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key) as caught:
        image_config({"data": "x"}, {key: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_long_value_is_shown_in_short() -> None:
    with pytest.raises(InputError) as caught:
        image_config({"data": "x", "epochs": "\x1b[2J" * 10_000})
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "data: x\nepochs: 3\nepochs: 4",
        "loss: {name: arcface, name: circle}",
        "1: 2",
        "null: 3",
        "[a]: 3",
        "a: " + "[" * 3000,
        "a: " + "[" * 50 + "]" * 50,
        "data:\n\t- x",
        "\x00\x01",
        "data: !!python/object/apply:os.system [true]",
        "a: " + "1" * 10_000,
        "x" * 2_000_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=r"r\.yaml: ") as caught:
        read_config(tmp_path / "r.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_that_is_no_text_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"data: \xff\xfe")
    with pytest.raises(InputError, match=r"r\.yaml: not YAML"):
        read_config(tmp_path / "r.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="a pipe or a device"):
        read_config(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="no such file"):
        read_config(tmp_path / "none.yaml")


def test_a_runs_own_configuration_is_a_recipe(tmp_path: Path) -> None:
    config = image_config({"data": "x", "ks": (1, 3), "milestones": (2, 5), "loss": {"name": "arcface", "margin": 3}})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert image_config(find_recipe(str(tmp_path / "config.yaml")).values) == config
    (tmp_path / "loop.yaml").write_text(f"recipe: {tmp_path}/loop.yaml\ndata: x\n")
    assert find_recipe(str(tmp_path / "loop.yaml")).values["data"] == "x"
