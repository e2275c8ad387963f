"""The gradient of a whole batch in chunks, against one big pass; readings that differ are refused."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import recallk
from recallk import InputError
from tests.fuzz.case import Case, FaultError, Place, Rng, pick

large_batch_backward: Any = recallk.large_batch_backward  # called with what its types forbid
reader: Any = DataLoader  # of a list
LABELS = torch.arange(24) // 3


class Noisy(nn.Module):
    """A linear layer whose input is scaled by a random number for each chunk."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.layer, self.draw = nn.Linear(6, 4).double(), draw

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x * (0.2 + self.draw()))
        return out


def data() -> Tensor:
    return torch.randn(24, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def chunked(size: int = 5) -> list[Tensor]:
    return list(torch.split(data(), size))


def seed() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)


def loss_fn(embeddings: Tensor, labels: Tensor) -> Tensor:
    return recallk.recall_at_k_loss(embeddings, labels, rank_temperature=0.1)


def gradients(model: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def check_against_one_pass(
    model: nn.Module, inputs: Any, chunks: Callable[[], Any], labels: Any, size: int, memory: float = 0
) -> None:
    """Compare loss and gradients with those of one pass over all chunks at once."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seed()
    model.zero_grad()
    expected_loss = loss_fn(torch.cat([model(chunk) for chunk in chunks()]), torch.as_tensor(labels))
    expected_loss.backward()  # type: ignore[no-untyped-call]
    expected, statistics = gradients(model), {n: v.clone() for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    model.zero_grad()
    seed()
    loss = large_batch_backward(model, inputs, labels, loss_fn, size, batch_norm="per-chunk", activation_memory=memory)
    if not abs(float(loss) - float(expected_loss)) <= 1e-9:
        raise FaultError(f"loss {float(loss)} instead of {float(expected_loss)}")
    for name, found, right in zip(dict(model.named_parameters()), gradients(model), expected, strict=True):
        if not (found - right).norm() <= 1e-7 * (1 + right.norm()):
            cosine = float(torch.cosine_similarity(found.flatten(), right.flatten(), 0))
            raise FaultError(f"gradient of {name}: cosine {cosine:.3f} to the true one")
    for name, value in model.state_dict().items():
        if not torch.allclose(value, statistics[name]):
            raise FaultError(f"{name} is {value.flatten()[:3]} instead of {statistics[name].flatten()[:3]}")


def replayed(name: str, draw: Callable[[], float]) -> Case:
    """Return a model that draws from another generator than PyTorch's."""

    def act(place: Place) -> None:
        model = Noisy(draw)
        check_against_one_pass(model, data(), chunked, LABELS, 5)

    return Case(f"large batch, {name} in the model", act)


class Drawn:
    """Chunks with noise that is drawn anew in each reading."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw = draw

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in chunked():
            yield chunk + self.draw()


def drawn_data(name: str, draw: Callable[[], float]) -> Case:
    def act(place: Place) -> None:
        torch.manual_seed(0)
        model, chunks = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4)).double(), Drawn(draw)
        check_against_one_pass(model, chunks, lambda: chunks, LABELS, 5)

    return Case(f"large batch, {name} in the data", act)


def _shuffled(place: Place) -> None:
    model = nn.Linear(6, 4).double()
    loader = DataLoader(
        TensorDataset(data()), batch_size=5, shuffle=True, collate_fn=lambda rows: torch.stack([r[0] for r in rows])
    )
    check_against_one_pass(model, loader, lambda: loader, LABELS, 5)


def _instance_norm(place: Place) -> None:
    layers = (nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), nn.Linear(6, 4))
    check_against_one_pass(nn.Sequential(*layers).double(), data(), chunked, LABELS, 5)


def half_gradient(fault: str) -> Case:
    """Return a call that is refused half-way: the gradients must be what they were."""

    def act(place: Place) -> None:
        model = nn.Linear(6, 4).double()
        before = [torch.full_like(p, 3.0) for p in model.parameters()]
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.grad = value.clone()
        reading = [0]

        class Chunks:
            def __iter__(self) -> Iterator[Tensor]:
                reading[0] += 1
                chunks = chunked(6)
                if reading[0] == 2:
                    if fault == "fewer":
                        del chunks[-1]
                    elif fault == "more":
                        chunks.append(chunks[0])
                    elif fault == "shape":
                        chunks[2] = chunks[2][:3]
                    else:
                        chunks[2] = chunks[2] + 1
                yield from chunks

        try:
            large_batch_backward(model, Chunks(), LABELS, loss_fn)
        finally:
            found = [p.grad for p in model.parameters()]
            if any(g is None or not torch.equal(g, value) for g, value in zip(found, before, strict=True)):
                raise FaultError("half a gradient stays")

    return Case(f"large batch, second reading differs: {fault}", act, "must")


def refused(what: str, **given: Any) -> Case:
    def act(place: Place) -> None:
        arguments = {"model": nn.Linear(6, 4).double(), "inputs": data(), "labels": LABELS, "loss": loss_fn, "size": 5}
        arguments |= given
        large_batch_backward(*arguments.values())

    return Case(f"large batch, {what}", act, "must")


def plain(rng: Rng) -> Case:
    """Return a network with random and normalising layers, any chunk size, any form of inputs."""
    count, size = int(rng.integers(4, 30)), int(rng.integers(2, 31))
    size = size if count % size != 1 else 2 if count % 2 == 0 else 3 if count % 3 != 1 else count
    labels = torch.from_numpy(rng.permutation(np.arange(count) // 2))
    between: tuple[list[nn.Module], ...] = ([nn.Dropout(0.3)], [nn.BatchNorm1d(8)], [nn.LayerNorm(8), nn.Tanh()], [])
    layers = [nn.Linear(6, 8), *pick(rng, between)]
    form, of_labels = pick(rng, ("tensor", "list", "loader")), pick(rng, ("tensor", "list", "array"))
    start, memory = int(rng.integers(1000)), float(pick(rng, (0, 1_000, 4_000, 16_000, np.inf)))

    def act(place: Place) -> None:
        torch.manual_seed(start)
        model = nn.Sequential(*layers, nn.Linear(8, 4)).double()
        x = torch.randn(count, 6, dtype=torch.float64)
        chunks = list(torch.split(x, size))
        inputs = {"tensor": x, "list": chunks, "loader": reader(chunks, batch_size=None)}[form]
        given = {"tensor": labels, "list": labels.tolist(), "array": labels.numpy()}[of_labels]
        # a reader draws a number when it begins, and so must the one pass
        check_against_one_pass(model, inputs, lambda: inputs if form == "loader" else chunks, given, size, memory)

    kinds = ", ".join(type(layer).__name__ for layer in layers)
    return Case(
        f"large batch of {count} in {size}, {form}, labels as {of_labels}, {kinds}, {memory:g} bytes", act, "must not"
    )


def _no_scalar(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings.sum(1)


def _pair(embeddings: Tensor, labels: Tensor) -> Any:
    raise InputError("the loss says no")


FIRST = [
    Case("large batch, DataLoader(shuffle=True)", _shuffled),
    replayed("random", random.random),
    replayed("numpy.random", np.random.random),
    drawn_data("random", random.random),
    drawn_data("numpy.random", np.random.random),
    Case("large batch, InstanceNorm's statistics", _instance_norm, "must not"),
    *map(half_gradient, ("values", "fewer", "more", "shape")),
    refused("a model without parameters", model=nn.Flatten()),
    refused("all parameters frozen", model=nn.Linear(6, 4).double().requires_grad_(False)),
    refused("labels None", labels=None),
    refused("labels too few", labels=LABELS[:5]),
    refused("inputs None", inputs=None),
    refused("inputs an iterator", inputs=iter(chunked())),
    refused("chunk_size 0", size=0),
    refused("a loss for each item", loss=_no_scalar),
    refused("a loss that refuses", loss=_pair),
]
