"""The examples in the docstrings of the loss and the metrics run, and print what they say."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["loss.recall_at_k", "loss.mixup", "evaluation.metrics"])
def test_examples(module: str) -> None:
    failed, tried = doctest.testmod(import_module(f"recallk.{module}"))
    assert tried
    assert not failed
