"""Losses that were seen to go wrong; always among the first cases."""

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

import recallk
from tests.fuzz import reference
from tests.fuzz.case import Case, FaultError, Place
from tests.fuzz.losses import Loss, check_loss, loss_of


def scaled(dtype: torch.dtype, scale: float, implementation: str = "auto") -> Case:
    """Return the issue's problem: eight rows of four, of lengths whose squares leave the range."""

    def act(place: Place) -> None:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
        check_loss(x.to(dtype), torch.arange(8) // 4, {}, implementation)

    return Case(f"loss of rows times {scale:g}, {dtype}, {implementation}", act, "must not")


def tiny_temperature(temperature: float) -> Case:
    """Return a temperature at which a sigmoid is a step."""

    def act(place: Place) -> None:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(8) // 4
        loss = loss_of(x, labels, rank_temperature=temperature)
        expected = np.mean(reference.losses(x.double().numpy(), labels.numpy(), rank_temperature=temperature))
        if not abs(float(loss) - expected) <= 1e-3:
            raise FaultError(f"loss {float(loss)} instead of {expected}")

    return Case(f"rank temperature {temperature:g}", act)


def twice_differentiated(implementation: str, reduction: str) -> Case:
    def act(place: Place) -> None:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
        labels = torch.arange(8) // 4

        def gradient(at: Tensor) -> tuple[Tensor, Tensor]:
            loss = loss_of(at, labels, implementation=implementation, reduction=reduction, rank_temperature=0.1).mean()
            return loss, torch.autograd.grad(loss, at, create_graph=True)[0]

        def penalised(at: Tensor) -> Tensor:
            loss, slope = gradient(at)
            return loss + slope.pow(2).sum()

        along = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
        found = float((torch.autograd.grad(penalised(x), x)[0] * along).sum())
        step = 1e-6 * along
        expected = float((penalised(x + step) - penalised(x - step)).detach() / 2e-6)
        if not abs(found - expected) <= 1e-5 * (1 + abs(expected)):
            raise FaultError(f"with a penalty on the gradient, slope {found} instead of {expected}")

    return Case(f"second derivatives, {implementation}, {reduction}", act, also=(RuntimeError, NotImplementedError))


def _threads(place: Place) -> None:
    def state() -> list[str]:
        places = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
        return [place.fp32_precision for place in places]

    before, x, labels = state(), torch.randn(60, 8), torch.arange(60) // 4
    threads = [threading.Thread(target=lambda: [loss_of(x, labels) for _ in range(40)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if state() != before:
        raise FaultError(f"precision of products is {state()} after the loss in threads, was {before}")


def large_class(mixup: bool) -> Case:
    """One class that is far larger than the others: time may not grow with the square or cube of it."""

    def act(place: Place) -> None:
        sizes = [100, *[4] * 75] if mixup else [4000]
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        x = torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
        loss = Loss(mixup=recallk.SimilarityMixup() if mixup else None)(x, labels)
        loss.backward()
        if x.grad is None or not 0 <= float(loss.detach()) <= 1 or not x.grad.isfinite().all():
            raise FaultError(f"loss {float(loss.detach())}")

    return Case("mixup, one class of 100 among 400" if mixup else "one class of 4,000", act, "must not")


def _single_k(place: Place) -> None:
    x, labels, five = torch.randn(8, 4), torch.arange(8) // 4, 5
    loss = loss_of(x, labels, ks=five)
    if float(loss) != float(loss_of(x, labels, ks=(5,))):
        raise FaultError("ks=5 is not ks=(5,)")


def _forms(form: str) -> Case:
    def act(place: Place) -> None:
        rng = np.random.default_rng(0)
        x, labels = rng.standard_normal((12, 4)).astype(np.float32), np.arange(12) // 3
        rows: Any = {"lists": x.tolist(), "arrays": x, "array labels": torch.from_numpy(x)}[form]
        given: Any = labels.tolist() if form == "lists" else labels
        found = float(loss_of(rows, given))
        if not abs(found - np.mean(reference.losses(x.astype(np.float64), labels))) < 2e-3:
            raise FaultError(f"loss {found}")

    return Case(f"loss of {form}", act, "must not")


FIRST = [
    scaled(torch.float32, 1e20),
    scaled(torch.float32, 1e-30),
    scaled(torch.float64, 1e200),
    scaled(torch.float64, 1e-200),
    scaled(torch.float32, 1e20, "definition"),
    tiny_temperature(1e-39),
    tiny_temperature(1e-45),
    *(twice_differentiated("tiled", reduction) for reduction in ("mean", "none")),
    twice_differentiated("definition", "mean"),
    Case("loss in eight threads", _threads, "must not"),
    large_class(mixup=True),
    large_class(mixup=False),
    *map(_forms, ("lists", "arrays", "array labels")),
    Case("loss of None", lambda place: loss_of(None, None), "must"),
    Case("ks=5", _single_k),
]
