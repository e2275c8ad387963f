"""Items embedded by several processes, a share each: what comes back, what is told, and how it ends early."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recallk import InputError
from recallk.core import processes
from recallk.models.together import embed_together
from tests.embedders import TextEmbedder
from tests.processes import in_processes

TEXTS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


class Interrupted(BaseException):
    """As a signal would end an embedding."""


def embedder() -> TextEmbedder:
    torch.manual_seed(0)
    return TextEmbedder()


def ended_by(items: Sequence[Any], error: type[BaseException] | None = None) -> tuple[str, int]:
    """Return what ended the embedding, where `error` is raised in the last process, and how often all agreed."""
    agreed = 0

    def agree() -> None:
        nonlocal agreed
        agreed += 1
        by = processes.largest(int(error is Interrupted and processes.number() == processes.count() - 1))
        if by[0]:
            raise Interrupted

    def told(_: int) -> None:
        if error is not None and processes.number() == processes.count() - 1:
            raise error("now")

    try:
        embed_together(embedder(), items, agree=agree, advance=told)
    except (InputError, Interrupted) as ended:
        return f"{type(ended).__name__} {ended}", agreed
    return "nothing", agreed


def embedded() -> dict[str, Any]:
    told = list[int]()
    return {
        "all": embed_together(embedder(), TEXTS, chunk_size=2, advance=told.append),
        "told": told,
        "few": embed_together(embedder(), TEXTS[:1]),
        "none": embed_together(embedder(), []),
        "whole": ended_by(TEXTS),
        "mistake": ended_by([*TEXTS[:-1], 3]),
        "refused": ended_by(TEXTS, InputError),
        "interrupted": ended_by(TEXTS, Interrupted),
    }


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_has_all_and_all_end_alike(count: int) -> None:
    expected: Tensor = embedder().embed(TEXTS)
    for number, found in enumerate(in_processes(embedded, count)):
        for name, rows in {"all": 10, "few": 1, "none": 0}.items():
            wanted = expected[: rows if number == 0 else 0]
            torch.testing.assert_close(found[name], wanted, rtol=0, atol=1e-6)
        assert sum(found["told"]) == 10, "as if the others were as far"
        assert found["whole"] == ("nothing", 1)
        kind, who = ("InputError", "") if count == 1 else ("SharedError", f"process {count - 1}: ")
        assert found["mistake"][0].startswith(f"{kind} {who}")
        assert found["refused"] == (f"{kind} {who}now", 1)
        assert found["interrupted"] == ("Interrupted ", 1)
