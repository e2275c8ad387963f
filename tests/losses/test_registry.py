"""What is known of each loss; a mistake in its name or settings is one line; the registry is light."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recallk import InputError
from recallk.losses.registry import CATALOGUE, MOST_BYTES, check_batch, describe, settings_of
from recallk.runs.config import make_config, read_config, to_yaml


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "arcfce"}, "loss='arcfce': no such loss: did you mean arcface.*the losses are recall@k, contrastive"),
        ({"loss": {"name": "zzz"}}, "the losses are recall@k"),
        ({"loss": {"margin": 3}}, "give a name, or in a recipe a table"),
        ({"loss": 3}, "loss=3: give a name"),
        ({"loss": {"name": "arcface", "margn": 3}}, "unknown setting 'margn' of arcface: its settings are margin, sc"),
        ({"loss": {"name": "n-pair", "margin": 3}}, "of n-pair: it has no settings"),
        ({"loss": {"name": "arcface", "scale": 0}}, "scale is a number above 0"),
        ({"loss": {"name": "triplet", "margin": "wide"}}, "margin is a number, 0 or more"),
        ({"loss": {"name": "histogram", "n_bins": 1.5}}, "n_bins is a whole number above 0"),
        ({"loss": "circle", "mixup": True}, "mixup=true goes with loss=recall@k alone, not with circle"),
        ({"loss": "memory-recall@k", "mixup": True}, "not with memory-recall@k"),
        ({"loss_rate_factor": 0}, "loss_rate_factor=0"),
    ],
)
def test_a_wrong_loss_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_config({"data": "x"}, values)
    assert "\n" not in str(caught.value)


def test_a_loss_with_settings_is_written_and_read(tmp_path: Path) -> None:
    config = make_config({"data": "x", "loss": {"name": "arcface", "margin": "2e1"}})
    assert settings_of(config.loss) == {"margin": 20.0, "scale": 64.0}
    assert describe(config.loss) == "arcface (margin 20, scale 64)"
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert make_config(read_config(tmp_path / "config.yaml")) == config
    assert make_config({"data": "x", "loss": {"name": "arcface"}}).loss == "arcface"


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.growth is not None])
@pytest.mark.parametrize("items", [2, 16])
def test_a_batch_too_large_for_a_loss_is_refused(name: str, items: int) -> None:
    growth = CATALOGUE[name].growth
    assert growth is not None
    largest = growth.largest_batch(items, MOST_BYTES)
    check_batch(name, largest, items)
    with pytest.raises(InputError, match=f"loss={name}.* GB .*choose batch_size={largest} or less"):
        check_batch(name, largest + items, items)


def test_a_memory_holds_at_least_a_batch() -> None:
    with pytest.raises(InputError, match="a memory of 40 is smaller than the batch of 44 items: raise memory_size"):
        check_batch({"name": "memory-recall@k", "memory_size": 40}, 44, 4)


def test_the_registry_is_light() -> None:
    heavy = {"torch", "pytorch_metric_learning", "pydantic"}
    code = f"import sys; import recallk.losses.registry; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_an_entry_says_fits_together(name: str) -> None:
    entry = CATALOGUE[name]
    assert entry.name == name
    assert set(entry.may_be_zero) <= set(entry.settings)
    assert all(value > 0 or key in entry.may_be_zero for key, value in entry.settings.items())
    assert entry.own_parameters or entry.needs != "classes"
