"""The numbers of the authors' code (see README.md beside this file)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from recallk import recall_at_k_loss

GOLDEN = np.load(Path(__file__).with_name("authors_loss.npz"))
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


def load(case: str) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    def get(name: str) -> Any:
        return GOLDEN[f"{case}/{name}"]

    settings: dict[str, Any] = {
        "ks": get("ks").tolist(),
        "rank_temperature": float(get("rank_temperature")),
        "recall_temperature": get("recall_temperatures").tolist(),
        "query_in_database": True,
        "normalized": True,
    }
    if f"{case}/mix_pairs" in GOLDEN:
        settings["mix_pairs"] = torch.tensor(get("mix_pairs"))
        settings["mix_alpha"] = torch.tensor(get("mix_alpha"))
    embeddings = torch.tensor(get("embeddings"), requires_grad=True)
    return embeddings, torch.tensor(get("labels")), settings


def test_all_eight_cases_are_here() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize("implementation", ["definition", "tiled"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_authors_code(case: str, implementation: Literal["definition", "tiled"]) -> None:
    embeddings, labels, settings = load(case)
    loss = recall_at_k_loss(embeddings, labels, implementation=implementation, **settings)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    expected = torch.tensor(GOLDEN[f"{case}/grad"])
    assert loss.item() == pytest.approx(float(GOLDEN[f"{case}/loss"]), abs=1e-9, rel=1e-9)
    assert (gradient - expected).norm() <= 1e-7 * expected.norm()


def test_without_the_query_the_loss_is_another() -> None:
    """METHOD: on one batch the two readings of the database give clearly different losses."""
    embeddings, labels, settings = load("plain_m4")
    settings["query_in_database"] = False
    with_query = float(GOLDEN["plain_m4/loss"])
    assert recall_at_k_loss(embeddings, labels, **settings).item() < with_query - 0.1
