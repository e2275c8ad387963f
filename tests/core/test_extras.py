"""What the extras bring, and what is said where one is missing."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

import recallk
from recallk import MissingExtraError, RecallkError
from recallk.core.extras import EXTRAS, Extra, require
from recallk.losses.build import build_loss
from recallk.losses.registry import CATALOGUE
from recallk.runs.config import make_config

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]


def packages(extra: str) -> set[str]:
    """Return the packages that pyproject.toml gives an extra, those of the extras that it names among them."""
    found = set()
    for requirement in OPTIONAL[extra]:
        if named := re.fullmatch(r"recallk\[(.*)\]", requirement):
            found |= {package for other in named[1].split(",") for package in packages(other)}
        else:
            found.add(re.split(r"[<>=~!;\[ ]", requirement)[0])
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_is_that_of_the_project(extra: Extra) -> None:
    assert packages(extra) == set(EXTRAS[extra].values())


def test_all_is_every_extra_and_for_developers_too() -> None:
    assert set(get_args(Extra)) == EXTRAS.keys() == OPTIONAL.keys() - {"all", "dev"}
    assert packages("all") == {package for brought in EXTRAS.values() for package in brought.values()}
    assert packages("all") < packages("dev")


@pytest.mark.parametrize(("extra", "module"), [(extra, module) for extra in EXTRAS for module in EXTRAS[extra]])
def test_each_missing_package_is_named(extra: Extra, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require(extra, "this")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as raised:
        require(extra, "this")
    package = EXTRAS[extra][module]
    assert str(raised.value) == f"this needs {package}, which is not installed: pip install 'recallk[{extra}]'"
    assert raised.value.name == module


def test_it_is_an_error_that_a_person_mends_and_one_of_imports() -> None:
    assert issubclass(MissingExtraError, RecallkError)
    assert issubclass(MissingExtraError, ImportError)


def test_a_name_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(recallk.load)
    monkeypatch.setitem(sys.modules, "timm", None)
    message = re.escape("recallk.load needs timm, which is not installed: pip install 'recallk[train]'")
    with pytest.raises(MissingExtraError, match=message):
        _ = recallk.load
    with pytest.raises(ImportError, match=message):
        from recallk import load  # noqa: F401
    assert callable(recallk.recall_at_k_loss)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_loss_says_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of our own are built, the others need their library."""
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    settings = make_config({"data": "photos", "loss": name})
    if CATALOGUE[name].extra is None:
        build_loss(settings, 8, 16, seed=0)
        return
    message = f"the loss {name} needs pytorch-metric-learning, which is not installed: pip install 'recallk[compare]'"
    with pytest.raises(MissingExtraError, match=re.escape(message)):
        build_loss(settings, 8, 16, seed=0)


def test_the_base_install_is_held_to_import_none_of_them() -> None:
    """Of all packages of extras, not only of those that were there when the contract was written."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = [contract for contract in contracts if "base install" in contract["name"]]
    assert [set(contract["forbidden_modules"]) for contract in forbidden] == [
        {module for brought in EXTRAS.values() for module in brought}
    ]


def test_clustering_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match="nmi needs faiss-cpu, which is not installed"):
        recallk.evaluation.nmi([[1.0, 0.0], [0.0, 1.0]], [0, 1])
