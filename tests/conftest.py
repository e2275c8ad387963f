"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.miniature_texts import save_sentence_model


@pytest.fixture(autouse=True, scope="session")
def _no_power_cut() -> Iterator[None]:
    """Leave out waiting for the disk, which no test can see, and all of them together wait for often."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model of sentence-transformers with random weights."""
    return save_sentence_model(tmp_path_factory.mktemp("sentence"))
