"""What is compared: losses, the values of a setting, ablations."""

import re
from pathlib import Path

import pytest

from recallk import InputError
from recallk.training.config import make_config
from recallk.training.contenders import (
    ablation_as_contenders,
    ablations,
    losses_as_contenders,
    sweep_as_contenders,
)
from recallk.training.recipes import find


def test_mixup_is_added_to_ours_by_name() -> None:
    one, other = losses_as_contenders(["recall@k", " recall@k+mixup"])
    assert (one.changes, other.name) == ({"loss": "recall@k"}, "recall@k+mixup")
    assert other.changes == {"loss": "recall@k", "mixup": True}
    (wrong,) = losses_as_contenders(["contrastive+mixup"])
    with pytest.raises(InputError, match="not with contrastive"):
        make_config({"data": "x"}, wrong.changes)


def test_a_sweep_takes_values_as_yaml() -> None:
    assert [c.changes for c in sweep_as_contenders("batch-size=64,256")] == [{"batch_size": 64}, {"batch_size": 256}]
    assert [c.changes for c in sweep_as_contenders("mixup=true,false")] == [{"mixup": True}, {"mixup": False}]
    assert [c.changes for c in sweep_as_contenders("ks=[1],[1,2,4]")] == [{"ks": [1]}, {"ks": [1, 2, 4]}]
    for wrong in ("batch_size", "batch_sise=3", "batch_size=", "batch_size=64,", "ks=[1,2"):
        with pytest.raises(InputError, match=re.escape(f"--sweep {wrong}")):
            sweep_as_contenders(wrong)


@pytest.mark.parametrize("name", ablations())
def test_every_ablation_fits_the_recipe_of_the_documents(name: str) -> None:
    contenders = ablation_as_contenders(name)
    assert len(contenders) >= 2
    configs = [make_config(find("glyphs").values, contender.changes) for contender in contenders]
    assert all(one != other for n, one in enumerate(configs) for other in configs[:n])
    if name != "batch-size":  # elsewhere one contender is what the defaults are, and says so
        default = make_config(find("glyphs").values)
        named = [c.name for c, config in zip(contenders, configs, strict=True) if config == default]
        assert len(named) == 1
        assert "paper" in named[0] or name == "mixup"


def test_the_ablations_of_the_paper_are_there() -> None:
    assert {"batch-size", "ks", "rank-temperature", "recall-temperature", "query", "mixup"} <= set(ablations())


def test_an_ablation_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("small: {batch_size: 64}\nas it is: {}\n")
    assert [(c.name, c.changes) for c in ablation_as_contenders(str(mine))] == [
        ("small", {"batch_size": 64}),
        ("as it is", {}),
    ]
    mine.write_text("batch_size: 64\n")
    with pytest.raises(InputError, match="a table of contenders"):
        ablation_as_contenders(str(mine))
    with pytest.raises(InputError, match=r"no ablation 'mixing': give a YAML file, or one of .*mixup"):
        ablation_as_contenders("mixing")
