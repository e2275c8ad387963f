"""The examples in the docstrings of comparisons run, and print what they say."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["compare", "contenders", "folder", "outcomes"])
def test_examples(module: str) -> None:
    failed, tried = doctest.testmod(import_module(f"recallk.comparison.{module}"))
    assert tried
    assert not failed
