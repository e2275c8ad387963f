from pathlib import Path
from typing import Any

import pytest
import yaml

from recallk import InputError
from recallk.training.config import make_config, read_config, to_yaml


def test_a_written_configuration_is_read_as_the_same(tmp_path: Path) -> None:
    config = make_config({"data": "x", "ks": [1, 5], "recall_temperature": [1, 2.5], "batch_size": 40})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert make_config(read_config(tmp_path / "config.yaml")) == config


def test_the_last_layer_wins() -> None:
    assert make_config({"data": "x", "epochs": 3}, {"epochs": "4"}).epochs == 4


def test_defaults_that_follow_from_other_keys() -> None:
    assert make_config({"data": "x"}).batch_norm == "frozen"
    assert make_config({"data": "x", "weights": "none"}).batch_norm == "per-chunk"
    assert make_config({"data": "x", "weights": "none", "batch_norm": "frozen"}).batch_norm == "frozen"
    assert make_config({"data": "x"}).resize == 256
    assert make_config({"data": "x", "image_size": "384"}).resize == 439


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch': did you mean epochs"),
        ({"zzz": 3}, "the keys are backbone"),
        ({"epochs": 0}, "epochs=0: input should be greater than or equal to 1"),
        ({"image_size": "big"}, "image_size='big'"),
        ({"epochs": "many"}, "epochs='many'"),
        ({"pooling": "max"}, "'average', 'gem' or 'token'"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"rank_temperature": 0}, "rank_temperature=0"),
        ({"crop_scale": (0.5, 0.2)}, "the smaller first"),
        ({"milestones": (5, 3)}, "rising epoch numbers"),
        ({"schedule": "cosine", "milestones": (3,)}, "choose one"),
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
        make_config({"data": "x"}, values)
    assert "\n" not in str(caught.value)


def test_data_is_needed() -> None:
    with pytest.raises(InputError, match="give --data PATH"):
        make_config({})


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "just words"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=r"r\.yaml: not "):
        read_config(tmp_path / "r.yaml")


def test_temperatures_of_the_ks() -> None:
    for given, expected in ((1, (1, 1)), ("0.5", (0.5, 0.5)), ((1, 3), (1, 3)), ("k", (4, 16))):
        config = make_config({"data": "x", "ks": (4, 16), "recall_temperature": given})
        assert config.recall_temperatures == expected
        assert make_config(yaml.safe_load(to_yaml(config))).recall_temperatures == expected
