"""What is measured: the losses by name, the batches they get, and which of them go together in a run."""

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from recallk.loss.mixup import SimilarityMixup
from recallk.loss.of_batch import Implementation
from recallk.loss.recall_at_k import recall_at_k_loss

Loss = Callable[[Tensor], Tensor]

FLOOR = "three products"
TRIPLES_K = 1
AGAINST_THE_DEFINITION, FINITE = "definition in float64", "only that it is finite"
_NOISE = 2.5  # positives have a similarity of about 0.14 and stand between ranks 1 and 100: the loss has a slope


@dataclass(frozen=True)
class Case:
    """One implementation on one batch.

    `classes` is the number of items a class, or "zipf": 1 to 50, sizes s with a probability proportional to 1 / s.
    `implementation` is one of ours, one of `ALTERNATIVES`, `FLOOR`, or MODULE:FUNCTION of `(embeddings, labels)`.
    """

    implementation: str
    batch: int
    classes: str = "4"
    mixup: bool = False
    dimensions: int = 512

    @property
    def name(self) -> str:
        return self.implementation + (" with mixup" if self.mixup else "")

    @property
    def series(self) -> tuple[str, bool, str]:
        return self.implementation, self.mixup, self.classes

    @property
    def checked_against(self) -> str:
        return FINITE if self.implementation in ("SmoothAPLoss", "FastAPLoss") else AGAINST_THE_DEFINITION


def ours() -> list[str]:
    """Return the names of our own implementations that compute the loss on this machine's CPU."""
    return [name for name in get_args(Implementation) if name not in ("auto", "definition", "fused")]


def batch_of(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return embeddings `(B, D)` of unit length, scattered around their class, and labels `(B,)`, classes in a row."""
    generator = torch.Generator().manual_seed(1)
    labels = _labels(case.batch, case.classes)
    centres = F.normalize(torch.randn(int(labels[-1]) + 1, case.dimensions, generator=generator), dim=1)
    noise = torch.randn(len(labels), case.dimensions, generator=generator) / case.dimensions**0.5
    return F.normalize(centres[labels] + _NOISE * noise, dim=1).to(dtype), labels


def _labels(items: int, classes: str) -> Tensor:
    if classes != "zipf":
        return torch.arange(items) // int(classes)
    # as many (query, positive) pairs as equal classes of 25 have, which is what these sizes have on average
    wanted = 24 * items
    sizes = torch.arange(1, 51)
    generator = torch.Generator().manual_seed(2)
    for _ in range(100_000):
        drawn = sizes[torch.multinomial(1 / sizes, items, replacement=True, generator=generator)]
        drawn = drawn[: int((torch.cumsum(drawn, 0) < items).sum()) + 1]
        drawn[-1] -= drawn.sum() - items
        if abs(int((drawn * (drawn - 1)).sum()) / wanted - 1) < 0.005:
            return torch.repeat_interleave(torch.arange(len(drawn)), drawn)
    raise RuntimeError(f"no {items} items in Zipf classes have about {wanted} pairs")


def pairs(labels: Tensor) -> int:
    """Return the number of (query, positive) pairs."""
    counts = torch.bincount(labels)
    return int((counts * (counts - 1)).sum())


def _mixing(case: Case, labels: Tensor) -> dict[str, Any]:
    if not case.mixup:
        return {}
    pairs, alpha = SimilarityMixup().draw(labels, torch.Generator().manual_seed(3))
    return {"mix_pairs": pairs, "mix_alpha": alpha}


def loss_of(case: Case, labels: Tensor, authors: Path | None = None) -> Loss:
    """Return the loss that the case measures, from embeddings `(B, D)` to a scalar."""
    name = case.implementation
    if name in get_args(Implementation):
        settings = {"implementation": name, **_mixing(case, labels)}
        return lambda x: recall_at_k_loss(x, labels, **settings)
    if name in ALTERNATIVES:
        return ALTERNATIVES[name](labels, authors)
    module, function = name.split(":")
    own = getattr(importlib.import_module(module), function)
    return lambda x: own(x, labels)


def definition_of(case: Case, labels: Tensor) -> Loss:
    """Return what the case's loss is held against."""
    ks = (TRIPLES_K,) if case.implementation == "all triples" else (1, 2, 4, 8, 16)
    mixing = _mixing(case, labels)
    return lambda x: recall_at_k_loss(x, labels, ks=ks, implementation="definition", **mixing)


def _metric_learning(name: str) -> Callable[[Tensor, Path | None], Loss]:
    def make(labels: Tensor, _: Path | None) -> Loss:
        from pytorch_metric_learning import losses

        loss = getattr(losses, name)()
        return lambda x: loss(x, labels)

    return make


def _all_triples(labels: Tensor, _: Path | None) -> Loss:
    """Compare every item with every other for every query, as open-metric-learning's surrogate does: one k."""
    itself = torch.eye(len(labels), dtype=torch.bool)
    positive = (labels[:, None] == labels) & ~itself

    def loss(embeddings: Tensor) -> Tensor:
        x = F.normalize(embeddings, dim=1)
        similarity = x @ x.T
        above = torch.sigmoid((similarity[:, None, :] - similarity[:, :, None]) / 0.01)  # (query, x, z)
        rank = 1 + above.masked_fill(itself[None], 0).sum(2)
        hits = torch.sigmoid(TRIPLES_K - rank) * positive
        recall = hits.sum(1).clamp(max=TRIPLES_K) / positive.sum(1).clamp(max=TRIPLES_K)
        return 1 - recall.mean()

    return loss


def _authors(labels: Tensor, checkout: Path | None) -> Loss:
    """Take the loss from a checkout of the authors' code, which runs on CUDA alone: stay on the CPU instead."""
    criterion = _authors_class(checkout)
    size = int((labels == labels[0]).sum())
    ks = [1, 2, 4, 8, 16]
    loss = criterion(
        anneal=0.01,
        batch_size=len(labels),
        num_id=len(labels) // size,
        feat_dims=512,
        k_vals=ks,
        k_temperatures=[1.0] * len(ks),
        mixup=0,
    )

    def all_queries(embeddings: Tensor) -> Tensor:
        x = F.normalize(embeddings, dim=1)
        total = torch.zeros(())
        for query in range(len(labels)):
            total = total + loss(x, query)
        return total

    return all_queries


def _authors_class(checkout: Path | None) -> Any:
    if checkout is None:
        raise ValueError("the authors' code needs the path of a checkout: --authors PATH")
    for path in sorted(checkout.rglob("loss*.py")):
        if "class RecallatK" in path.read_text():
            torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
            spec = importlib.util.spec_from_file_location("authors_losses", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.RecallatK
    raise ValueError(f"{checkout} holds no loss*.py with a class RecallatK")


def floor_of(embeddings: Tensor) -> Callable[[], None]:
    """Return the least that any of these losses computes: three products of B x B x D, into memory at hand.

    One product gives the similarities, two bring a gradient of theirs back. Beyond 16,000 items in blocks of rows.
    """
    x = embeddings.detach()
    rows = len(x) if len(x) <= 16_000 else 4_000
    blocks = [x[first : first + rows] for first in range(0, len(x), rows)]
    similarities, query_gradient, gradient = (
        x.new_empty(rows, len(x)),
        x.new_empty(rows, x.shape[1]),
        torch.empty_like(x),
    )

    def products() -> None:
        for block in blocks:
            s = similarities[: len(block)]
            torch.matmul(block, x.T, out=s)
            torch.matmul(s, x, out=query_gradient[: len(block)])
            torch.matmul(s.T, block, out=gradient)

    return products


ALTERNATIVES: dict[str, Callable[[Tensor, Path | None], Loss]] = {
    "authors": _authors,
    "all triples": _all_triples,
    "SmoothAPLoss": _metric_learning("SmoothAPLoss"),
    "FastAPLoss": _metric_learning("FastAPLoss"),
}

CUBED = ("all triples", "SmoothAPLoss")

BATCHES = (400, 1_000, 2_000, 4_000, 8_000, 16_000)
GROWTH = 60_000  # all training images of Stanford Online Products, nearly


def plan(quick: bool, authors: bool, also: tuple[str, ...] = ()) -> list[Case]:
    """Return the cases of a run, each series by rising batch: it ends where a batch is too much for it."""
    batches = (400, 1_000, 4_000) if quick else BATCHES
    cases = [Case(FLOOR, b) for b in batches]
    for name in ours():
        cases += [Case(name, b) for b in (batches if quick else (*BATCHES, GROWTH))]
        cases += [Case(name, b, mixup=True) for b in batches]
        cases += [Case(name, 1_000 if quick else 4_000, classes) for classes in ("25", "zipf")]
    others = ["definition", *(name for name in ALTERNATIVES if name != "authors" or authors), *also]
    most = 400 if quick else math.inf
    return cases + [Case(name, b) for name in others for b in batches if b <= most]
