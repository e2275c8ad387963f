"""What is compared: losses, the values of a setting, ablations."""

import re
from pathlib import Path

import pytest

from recallk import InputError
from recallk.comparison.contenders import (
    Contender,
    ablation_as_contenders,
    ablations,
    losses_as_contenders,
    sweep_as_contenders,
)
from recallk.runs.config import make_config
from recallk.runs.recipes import find_recipe


def test_mixup_is_added_to_ours_by_name() -> None:
    one, other = losses_as_contenders(["recall@k", " recall@k+mixup"])
    assert (one.changes, other.name) == ({"loss": "recall@k", "mixup": False}, "recall@k+mixup")
    assert other.changes == {"loss": "recall@k", "mixup": True}
    (wrong,) = losses_as_contenders(["contrastive+mixup"])
    with pytest.raises(InputError, match="not with contrastive"):
        make_config({"data": "x"}, wrong.changes)


def test_a_sweep_takes_values_as_yaml() -> None:
    assert [c.changes for c in sweep_as_contenders("batch-size=64,256")] == [{"batch_size": 64}, {"batch_size": 256}]
    assert [c.changes for c in sweep_as_contenders("mixup=true,false")] == [{"mixup": True}, {"mixup": False}]
    assert [c.changes for c in sweep_as_contenders("ks=[1],[1,2,4]")] == [{"ks": [1]}, {"ks": [1, 2, 4]}]
    texts = [c.name for c in sweep_as_contenders(" ks = [1, 2] , [4]") + sweep_as_contenders("batch_size='64',0x40")]
    assert texts == ["ks=[1, 2]", "ks=[4]", "batch_size='64'", "batch_size=0x40"]
    (one, _) = sweep_as_contenders("loss={name: memory-contrastive, memory_size: 4},contrastive")
    assert one.changes == {"loss": {"name": "memory-contrastive", "memory_size": 4}}
    for wrong in (
        "batch_size",
        "batch_sise=3",
        "batch_size=",
        "batch_size=64,",
        "batch_size=64,,3",
        "ks=[1,2",
        "ks=1],[2",
    ):
        with pytest.raises(InputError, match=re.escape(f"--sweep {wrong}")):
            sweep_as_contenders(wrong)


@pytest.mark.parametrize("name", ablations())
def test_every_ablation_fits_the_recipe_of_the_documents(name: str) -> None:
    contenders = ablation_as_contenders(name)
    assert len(contenders) >= 2
    configs = [make_config(find_recipe("glyphs").values, contender.changes) for contender in contenders]
    assert all(one != other for n, one in enumerate(configs) for other in configs[:n])
    if name != "batch-size":  # elsewhere one contender is what the defaults are, and says so
        default = make_config(find_recipe("glyphs").values)
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


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../..", "a/b", "/etc", "a\\b", ".hidden", "two\nlines", "\x1b[2J", "\x00", "x" * 300, "\u0645" * 200,
     "\u202egnp.exe", "\udcff", "comparison.yaml", "comparison.csv", "-rf", "\U0001f600" * 90, "x. "],
)  # fmt: skip
def test_a_name_is_one_safe_folder(tmp_path: Path, name: str) -> None:
    folder = Contender(name, {}).folder
    assert (tmp_path / folder).resolve().parent == tmp_path.resolve()
    assert folder.isprintable()
    assert len(folder.encode()) <= 100
    assert not folder.startswith((".", "comparison."))
    (tmp_path / folder).mkdir()


def test_long_names_keep_their_difference() -> None:
    assert Contender("x" * 300 + "1", {}).folder != Contender("x" * 300 + "2", {}).folder


@pytest.mark.parametrize("name", ["recall@k+mixup", "mixup, k 1 to 256 (tau = k)", "ks=[1,2]", "\u65e5\u672c", "0.5"])
def test_a_usual_name_is_its_folder(name: str) -> None:
    assert Contender(name, {}).folder == name


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_a_name_is_needed(name: str) -> None:
    with pytest.raises(InputError, match="without a name"):
        _ = Contender(name, {}).folder


@pytest.mark.parametrize("key", ["null", "~", "off", "yes", "2020-01-01", "? [1, 2]\n"])
def test_a_name_that_yaml_takes_for_no_text_is_refused(tmp_path: Path, key: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"{key}: {{batch_size: 64}}\n")
    with pytest.raises(InputError, match=str(mine)) as caught:
        ablation_as_contenders(str(mine))
    assert "\n" not in str(caught.value)


def test_numbers_and_several_lines_are_names(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text('64: {batch_size: 64}\n0.5: {}\n"two\\nlines": {}\n')
    assert [contender.name for contender in ablation_as_contenders(str(mine))] == ["64", "0.5", "two lines"]
    mine.write_text("one: {1: 2}\n")
    with pytest.raises(InputError, match="a table of contenders"):
        ablation_as_contenders(str(mine))


@pytest.mark.parametrize(
    "value", ["2001-99-99", "[" * 5000, "!!python/object:os.system {}", "{", "&a [1],*a", "9" * 5000, "1 # 2", "\x00"]
)
def test_a_value_that_is_none(value: str) -> None:
    with pytest.raises(InputError, match="--sweep"):
        sweep_as_contenders(f"learning_rate={value}")


@pytest.mark.parametrize("name", ["../recipes/glyphs", "mixup\x00", "", "/"])
def test_an_ablation_is_one_of_those_listed(name: str) -> None:
    with pytest.raises(InputError, match="no ablation"):
        ablation_as_contenders(name)
