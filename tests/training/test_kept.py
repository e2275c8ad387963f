"""Activations that are kept: the same gradients as without, in a budget that is obeyed."""

import random
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from recallk import InputError, RecallAtKLoss, large_batch_backward
from recallk.training.kept import KeptGraphs
from recallk.training.two_passes import TwoPasses, two_passes

LABELS = torch.randperm(24, generator=torch.Generator().manual_seed(2)) // 4
ALL = float("inf")
CHUNK = 5  # and a last one of 4


class Network(nn.Module):
    """Drops at random, and remembers: by batch norm, spectral norm, and a buffer that each embedding depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.4)
        self.last = nn.utils.parametrizations.spectral_norm(nn.Linear(96, 5))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(5))
        self.embedded = 0

    def forward(self, x: Tensor) -> Tensor:
        self.embedded += 1
        x = F.relu(self.norm(self.first(x)), inplace=True)
        features: Tensor = self.last(self.drop(x).flatten(1))
        self.mean.mul_(0.5).add_(features.detach().mean(0) + random.random() + np.random.random())
        return features + self.mean.clone()


def network(dtype: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(0)
    return Network().to(dtype).train()


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def loss_fn(embeddings: Tensor, labels: Tensor) -> Tensor:
    return RecallAtKLoss(rank_temperature=0.1)(embeddings, labels)  # type: ignore[no-any-return]


def seed_everything() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


def next_draws() -> list[float]:
    return [random.random(), np.random.random(), float(torch.rand(()))]


def of_chunk(dtype: torch.dtype = torch.float64) -> int:
    """Return the bytes that the first chunk's graph holds, as measured."""
    graphs = KeptGraphs(model := network(dtype), 1e9, torch.device("cpu"))
    graphs.embed(images(dtype)[:CHUNK], model)
    return graphs._bytes


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == len(list(model.parameters()))
    assert all(gradient.norm() > 0 for gradient in found)
    return found


def check_same(model: nn.Module, twin: nn.Module, tolerance: float) -> None:
    for one, other in zip(gradients(model), gradients(twin), strict=True):
        assert (one - other).norm() <= tolerance * other.norm()
    for (name, one), (_, other) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("policy", ["per-chunk", "frozen"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("chunks", "kept"), [(0, 0), (0.5, 0), (1, 1), (2.5, 2), (4.9, 5), (ALL, 5)])
def test_the_gradients_of_one_graph_whatever_is_kept(
    chunks: float, kept: int, dtype: torch.dtype, tolerance: float, policy: Any
) -> None:
    model, twin = network(dtype), network(dtype)
    if policy == "frozen":
        twin.norm.eval()
    seed_everything()
    embeddings = torch.cat([twin(chunk) for chunk in torch.split(images(dtype), CHUNK)])
    loss = loss_fn(embeddings, LABELS)
    torch.autograd.backward(loss)
    drawn = next_draws()
    seed_everything()
    memory = chunks * of_chunk(dtype) if chunks else 0
    seed_everything()
    found = two_passes(model, images(dtype), LABELS, loss_fn, CHUNK, batch_norm=policy, activation_memory=memory)
    assert next_draws() == drawn
    assert (found.chunks, found.kept) == (5, kept)
    assert model.embedded == 5 + 5 - kept
    torch.testing.assert_close(found.loss, loss.detach())
    check_same(model, twin, tolerance)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("chunks", [2.5, ALL])
def test_autocast(chunks: float, inside: bool) -> None:
    """To the last bit: chunk by chunk the same numbers, whatever casts of weights autocast has kept from before."""

    class InPrecision(Network):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16) if inside else nullcontext():
                return super().forward(x)

    def trained(memory: float) -> tuple[Network, TwoPasses]:
        torch.manual_seed(0)
        model = InPrecision()
        seed_everything()
        with nullcontext() if inside else torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                model.first(images(torch.float32))  # leaves a cast without a graph behind
            return model, two_passes(
                model, images(torch.float32), LABELS, loss_fn, CHUNK, batch_norm="per-chunk", activation_memory=memory
            )

    graphs = KeptGraphs(measured := InPrecision(), 1e9, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        graphs.embed(images(torch.float32)[:CHUNK], measured)
    (model, found), (twin, nothing) = trained(chunks * graphs._bytes), trained(0)
    assert 0 < found.kept <= 5
    assert (found.kept == 5) == (chunks == ALL)
    assert nothing.kept == 0
    check_same(model, twin, 0.0)


class Watched(torch.autograd.Function):
    """Saves what it is given, and tells how many bytes are saved at once."""

    now = most = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        held = x.clone()
        if x.requires_grad:
            Watched.now += held.nbytes
            Watched.most = max(Watched.most, Watched.now)
            weakref.finalize(held, Watched.freed, held.nbytes)
        ctx.save_for_backward(held)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (held,) = ctx.saved_tensors
        assert len(held) == len(upstream)
        return upstream

    @staticmethod
    def freed(size: int) -> None:
        Watched.now -= size


class Saving(nn.Module):
    """Saves 8 kB for each row, and little besides; none of it for rows that begin with 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1000, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        wide = self.layer(x)
        rows: Tensor = Watched.apply(wide) if bool((x != 0).any()) else wide
        return rows[:, :3]


ROW = 8_000 + 2 * 8


@pytest.mark.parametrize(
    ("sizes", "rows", "kept"),
    [
        ([4, 4, 4, 4], 9, 2),
        ([4, 4, 4, 4], 3, 0),
        ([4, 4, 4, 4], 16.1, 4),
        ([4, 8, 4], 9, 1),
        ([4, 8, 1], 12.1, 2),
        ([2, 8, 2], 4.1, 1),
        ([8, 1, 1], 8.1, 1),
        ([8, 1, 1], 9.1, 2),
    ],
)
def test_the_budget_is_obeyed(sizes: list[int], rows: float, kept: int) -> None:
    Watched.now = Watched.most = 0
    x = torch.randn(sum(sizes), 2, dtype=torch.float64)
    found = two_passes(
        Saving(), list(torch.split(x, sizes)), None, lambda e, _: e.square().sum(), activation_memory=rows * ROW
    )
    assert found.kept == kept
    one_chunk = max(sizes[kept:], default=0)  # in the second pass; the first chunk is tried
    assert Watched.most == 8_000 * max(sum(sizes[:kept]), one_chunk)
    assert Watched.most <= max(rows, one_chunk) * ROW
    assert Watched.now == 0  # freed without a garbage collection


def test_a_chunk_that_turns_out_not_to_fit_is_let_go() -> None:
    """The first one said that chunks cost nothing: one comes on top of the budget, not two."""
    Watched.now = Watched.most = 0
    x = torch.ones(16, 2, dtype=torch.float64)
    x[:4] = 0
    found = two_passes(Saving(), x, None, lambda e, _: (e + 1).square().sum(), 4, activation_memory=2_000)
    assert found.kept == 1
    assert Watched.most == 4 * 8_000
    assert Watched.now == 0


def test_what_is_measured_is_counted_once() -> None:
    """Neither parameters nor what several tensors share; of an expanded tensor and of a part, what there is."""

    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(500))
            self.table = torch.ones(2, 300)

        def forward(self, x: Tensor) -> Tensor:
            expanded = self.table[0].expand(100, 300)
            return x * self.weight + ((x[:, :300] * self.weight[:300]) * expanded[: len(x)]).sum()

    graphs = KeptGraphs(model := Sharing(), 1e9, torch.device("cpu"))
    everything = torch.ones(1000, 500)
    graphs.embed(everything[:10], model)
    assert graphs._bytes == 4 * (10 * 500 + 2 * 300)
    graphs.embed(everything[10:20], model)
    assert graphs._bytes == 4 * (20 * 500 + 2 * 300)


class Counted:
    """Chunks, of which the second reading may be changed; counts those that are asked for in each reading."""

    def __init__(self, chunks: list[Any]) -> None:
        self.first, self.second = chunks, list(chunks)
        self.asked: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        chunks = self.second if self.asked else self.first
        self.asked.append(0)
        for chunk in chunks:
            self.asked[-1] += 1
            yield chunk


class Skipping(Counted):
    """Need not give those again that are kept."""

    told = -1

    def second_reading(self, kept: int) -> Iterator[Any]:
        self.told = kept
        self.asked.append(0)
        for chunk in self.second[kept:]:
            self.asked[-1] += 1
            yield chunk


@pytest.mark.parametrize(
    ("make", "chunks", "size", "asked", "told"),
    [
        (Counted, 0, CHUNK, [5, 5], None),
        (Counted, 2.5, CHUNK, [5, 5], None),
        (Counted, ALL, CHUNK, [5], None),
        (Counted, 0, 24, [1], None),
        (Skipping, 0, CHUNK, [5, 5], 0),
        (Skipping, 2.5, CHUNK, [5, 3], 2),
        (Skipping, ALL, CHUNK, [5, 0], 5),
        (Skipping, 0, 24, [1, 0], 1),
    ],
)
def test_what_is_kept_need_not_be_read_again(
    make: type[Counted], chunks: float, size: int, asked: list[int], told: int | None
) -> None:
    model, twin, inputs = network(), network(), make(list(torch.split(images(), size)))
    memory = chunks * of_chunk() if chunks else 0
    for network_, batch in ((twin, inputs.first), (model, inputs)):
        seed_everything()
        large_batch_backward(network_, batch, LABELS, loss_fn, activation_memory=0 if network_ is twin else memory)
    assert inputs.asked == asked
    assert getattr(inputs, "told", None) == told
    check_same(model, twin, 0.0)


@pytest.mark.parametrize("make", [Counted, Skipping])
def test_what_is_read_again_is_compared(make: type[Counted]) -> None:
    def trained(second: list[Tensor]) -> None:
        inputs = make(list(torch.split(images(), CHUNK)))
        inputs.second = second
        large_batch_backward(network(), inputs, LABELS, loss_fn, activation_memory=2.5 * of_chunk())

    chunks = list(torch.split(images(), CHUNK))
    trained([chunks[1], chunks[0], *chunks[2:]])  # those are kept
    for second, message in (
        ([*chunks[:3], chunks[3] + 1, chunks[4]], "chunk 4 of the inputs is another"),
        ([*chunks[:4], chunks[0]], "chunk 5 of the inputs is another"),
        (chunks[:4], "gave 4 chunks after 5"),
        ([*chunks, chunks[0]], "more chunks than the first"),
    ):
        with pytest.raises(InputError, match=message):
            trained(second)


def test_rows_that_are_embedded_otherwise_are_counted_among_those_embedded_again() -> None:
    class Changing(Network):
        def forward(self, x: Tensor) -> Tensor:
            features: Tensor = super().forward(x)
            return features if self.embedded < 10 else 2 * features  # the second pass over the last of 9 chunks

    torch.manual_seed(0)
    model = Changing().double()
    graphs = KeptGraphs(model, 1e9, torch.device("cpu"))
    graphs.embed(images()[:3], model)
    model.embedded = 0
    with pytest.raises(InputError, match="embedded 3 of 6 rows differently"):
        large_batch_backward(model, images(), LABELS, loss_fn, 3, activation_memory=6.5 * graphs._bytes)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_that_draws_is_read_alike(workers: int) -> None:
    loader: DataLoader[Tensor] = DataLoader(images(), CHUNK, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
    results = []
    for memory in (0, 2.5 * of_chunk(), ALL):
        model = network()
        seed_everything()
        large_batch_backward(model, loader, LABELS, loss_fn, activation_memory=memory)
        results.append((model, next_draws()))
    for model, drawn in results[1:]:
        check_same(model, results[0][0], 0.0)
        assert drawn == results[0][1]


class Failing(Saving):
    """Fails when it is called for the sixth time, in the second pass."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 6:
            raise ArithmeticError
        return super().forward(x)


@pytest.mark.parametrize("when", ["in the loss", "in the second pass"])
def test_a_failure_leaves_nothing_behind(when: str) -> None:
    Watched.now = 0
    model = Failing()
    model.layer.weight.grad = before = torch.ones_like(model.layer.weight)

    def loss(embeddings: Tensor, _: Any) -> Tensor:
        if when == "in the loss":
            assert Watched.now == 8 * 8_000
            raise ArithmeticError
        return embeddings.square().sum()

    x = torch.randn(16, 2, dtype=torch.float64)
    with pytest.raises(ArithmeticError) as caught:
        large_batch_backward(model, x, None, loss, 4, activation_memory=9 * ROW)
    assert Watched.now == 0  # while the traceback holds all that is in it
    assert caught.tb is not None
    assert model.layer.weight.grad is before
    assert torch.equal(before, torch.ones_like(before))


class WritingInPlace(nn.Module):
    """Writes into a buffer that the graphs of earlier chunks need."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.scale += 1
        rows: Tensor = self.layer(x)
        return rows * self.scale


@pytest.mark.parametrize("memory", [1e9, ALL])
def test_a_model_that_writes_into_what_is_kept_is_refused(memory: float) -> None:
    model = WritingInPlace()
    large_batch_backward(model, torch.randn(8, 2), None, lambda e, _: e.square().sum(), 4)
    model.zero_grad()
    scale = model.scale.clone()
    with pytest.raises(InputError, match="let it use a clone, or take activation_memory=0"):
        large_batch_backward(model, torch.randn(8, 2), None, lambda e, _: e.square().sum(), 4, activation_memory=memory)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(model.scale, scale)


def test_layers_that_save_memory_themselves() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.Sequential(nn.Flatten(), nn.Linear(108, 20), nn.Dropout(0.4), nn.Tanh(), nn.Linear(20, 5))

        def forward(self, x: Tensor) -> Tensor:
            rows: Tensor = checkpoint(self.inner, x, use_reentrant=False)
            return rows

    def trained(memory: float) -> nn.Module:
        model = Checkpointed().double()
        seed_everything()
        large_batch_backward(model, images(), LABELS, loss_fn, CHUNK, activation_memory=memory)
        return model

    for memory in (10_000, ALL):
        check_same(trained(memory), trained(0), 0.0)
