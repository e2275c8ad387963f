"""Random problems for the loss: sizes, unequal classes, ties, duplicates, galleries and mixup."""

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from recallk import SimilarityMixup


@dataclass
class LossProblem:
    embeddings: Tensor
    labels: Tensor
    gallery: Tensor | None = None
    gallery_labels: Tensor | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@st.composite
def loss_problems(draw: st.DrawFn, dtype: torch.dtype = torch.float64, steep: bool = False) -> LossProblem:
    """Draw a problem; a `steep` one has large classes, of which only the nearest positives count."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    dimensions = draw(st.integers(1, 12))
    sizes = draw(
        st.lists(st.integers(1, 18 if steep else 7), min_size=1, max_size=3 if steep else 8).filter(
            lambda s: max(s) > 1
        )
    )
    labels = torch.repeat_interleave(torch.arange(len(sizes)) * 7 - 11, torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    kind = draw(st.sampled_from(["random", "ties", "duplicates", "close"]))

    def points(count: int) -> Tensor:
        x = torch.randn(count, dimensions, generator=generator, dtype=dtype)
        if kind == "ties":
            x = x.sign() + 0.0
        elif kind == "duplicates":
            x = x[torch.randint(0, max(1, count // 2), (count,), generator=generator)]
        elif kind == "close":
            x = 0.02 * x + 1
        return x

    ks = sorted(draw(st.sets(st.integers(1, 3 if steep else 40), min_size=1, max_size=4)))
    temperatures = st.sampled_from([0.01, 0.05, 0.2] if steep else [0.25, 1.0, 3.0])
    settings = {
        "ks": ks,
        "rank_temperature": draw(st.sampled_from([0.01, 0.1, 1.0])),
        "recall_temperature": [draw(temperatures) for _ in ks],
        "query_in_database": draw(st.booleans()),
    }
    problem = LossProblem(points(len(labels)), labels, settings=settings)
    form = draw(st.sampled_from(["plain", "mixup", "gallery"]))
    if form == "mixup":
        pairs, alpha = SimilarityMixup().draw(labels, generator)
        some = torch.rand(len(pairs), generator=generator) < draw(st.sampled_from([0.5, 1.1]))
        settings["mix_pairs"], settings["mix_alpha"] = pairs[some], alpha[some].to(dtype)
        settings["mix_relatives"] = draw(st.sampled_from(["keep", "exclude"]))
    elif form == "gallery":
        count = draw(st.integers(1, 60 if steep else 25))
        problem.gallery = points(count)
        problem.gallery_labels = labels[torch.randint(0, len(labels), (count,), generator=generator)]
        if draw(st.booleans()):
            rows = rows_of_some(labels, problem.gallery_labels, generator)
            assume(_has_positive(labels, problem.gallery_labels, rows))
            settings["query_rows"] = rows
    return problem


def rows_of_some(labels: Tensor, gallery_labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw for some queries a row of the gallery with their label; two may have the same."""
    same = (labels[:, None] == gallery_labels).double()
    weights = torch.cat([same, torch.ones(len(labels), 1)], 1)  # or none at all
    rows = torch.multinomial(weights, 1, generator=generator)[:, 0]
    return torch.where(rows < len(gallery_labels), rows, -1)


def _has_positive(labels: Tensor, gallery_labels: Tensor, rows: Tensor) -> bool:
    relevant = labels[:, None] == gallery_labels
    return bool((relevant.sum(1) > (rows >= 0)).any())
