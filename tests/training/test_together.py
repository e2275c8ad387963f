"""Two and three processes with unequal shares of a batch, against one graph over the whole of it in one process."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recallk import InputError, RecallAtKLoss, large_batch_backward
from recallk.core import processes
from recallk.training.together import Together
from recallk.training.two_passes import two_passes
from tests.processes import in_processes

LABELS = torch.randperm(24, generator=torch.Generator().manual_seed(2)) // 4
SHARES = {1: [24], 2: [7, 17], 3: [7, 14, 3]}
CHUNK = 4  # so that processes have 2, 5 or 4, and 1 chunks
TOLERANCE = 1e-10

Grown = tuple[list[Tensor | None], dict[str, Tensor]]


def images() -> Tensor:
    return torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Network(nn.Module):
    """Has layers with every kind of memory, one of them used twice for each chunk, and parameters that are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.twice, self.cumulative = nn.BatchNorm2d(6, momentum=0.3), nn.BatchNorm2d(6, momentum=None)
        self.instance = nn.InstanceNorm2d(6, track_running_stats=True)
        self.last, self.unused = nn.Linear(96, 5), nn.Linear(2, 2)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + len(x)
        x = self.twice(self.first(x)).relu()
        x = self.cumulative(self.twice(self.again(x))).relu()
        features: Tensor = self.last(self.instance(x).flatten(1))
        return features


def network() -> Network:
    torch.manual_seed(0)
    model = Network().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.num_batches_tracked.fill_(3)  # type: ignore[union-attr]
    return model.train()


def loss_fn(embeddings: Tensor, labels: Tensor) -> Tensor:
    """The loss of all rows, as each process computes it."""
    everything = processes.gather_rows(embeddings, parts=False)
    return RecallAtKLoss(rank_temperature=0.1)(everything, processes.gather(labels))  # type: ignore[no-any-return]


def own_rows() -> slice:
    shares = SHARES[processes.count()]
    start = sum(shares[: processes.number()])
    return slice(start, start + shares[processes.number()])


def grown(model: nn.Module) -> Grown:
    return [p.grad for p in model.parameters()], {name: buffer.clone() for name, buffer in model.named_buffers()}


def in_one_graph(count: int, batch_norm: str) -> Grown:
    """Return what the same chunks, in the order of the processes, make of the model in one process."""
    model = network()
    if batch_norm == "frozen":
        model.twice.eval()
        model.cumulative.eval()
    chunks = [chunk for share in torch.split(images(), SHARES[count]) for chunk in torch.split(share, CHUNK)]
    torch.autograd.backward(loss_fn(torch.cat([model(chunk) for chunk in chunks]), LABELS))
    return grown(model)


POLICIES: tuple[Any, ...] = "per-chunk", "frozen"


def as_a_user(as_views: bool) -> list[Grown]:
    results, rows = [], own_rows()
    for batch_norm in POLICIES:
        model = network()
        parallel = DistributedDataParallel(model, gradient_as_bucket_view=as_views, find_unused_parameters=True)
        large_batch_backward(parallel, images()[rows], LABELS[rows], loss_fn, CHUNK, batch_norm=batch_norm)
        results.append(grown(model))
    return results


def by_hand() -> list[Grown]:
    results, rows = [], own_rows()
    for batch_norm in POLICIES:
        model = network()
        together = Together(model)
        done = two_passes(
            model, images()[rows], LABELS[rows], loss_fn, CHUNK, batch_norm=batch_norm, activation_memory=15_000
        )
        together.synchronise(chunks=done.chunks)
        results.append(grown(model))
    return results


@pytest.mark.parametrize(
    ("count", "way", "settings"),
    [
        (2, as_a_user, [False]),
        pytest.param(3, as_a_user, [True], marks=pytest.mark.slow),
        (3, by_hand, []),
        (1, by_hand, []),
    ],
)
def test_processes_end_as_one_with_the_whole_batch(count: int, way: Callable[..., Any], settings: list[bool]) -> None:
    everywhere: list[list[Grown]] = in_processes(way, count, *settings)
    for number, batch_norm in enumerate(POLICIES):
        check([results[number] for results in everywhere], *in_one_graph(count, batch_norm), batch_norm)


def check(everywhere: list[Grown], gradients: list[Tensor | None], buffers: dict[str, Tensor], batch_norm: str) -> None:
    for found, remembered in everywhere:
        for (name, _), gradient, expected in zip(network().named_parameters(), found, gradients, strict=True):
            if name.startswith("unused"):
                assert gradient is None
                continue
            assert gradient is not None
            assert expected is not None
            assert expected.norm() > 0
            assert (gradient - expected).norm() <= TOLERANCE * expected.norm(), name
        for name, buffer in remembered.items():
            expected = buffers[name] if name != "seen" else torch.tensor(SHARES[len(everywhere)][0])
            torch.testing.assert_close(buffer, expected, rtol=TOLERANCE, atol=TOLERANCE, msg=name)
            assert torch.equal(buffer, everywhere[0][1][name]), name
    for name, before in network().named_buffers():
        moves = (
            name == "seen"
            or name.startswith("instance.running")
            or (batch_norm == "per-chunk" and name.startswith(("twice", "cumulative")))
        )
        assert torch.equal(everywhere[0][1][name], before) != moves, name


def on_top() -> tuple[list[Tensor], list[bool]]:
    """Gradients that differ from process to process, and are there before a second call."""
    model = network()
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True, find_unused_parameters=True)
    rows = own_rows()
    torch.autograd.backward(parallel(images()[:3]).square().sum())  # as after a usual step: in the buckets
    earlier = [parameter.grad for parameter in model.parameters()]
    for gradient in earlier:
        if gradient is not None:
            gradient.fill_(processes.number())
    large_batch_backward(parallel, images()[rows], LABELS[rows], loss_fn, CHUNK)
    kept = [parameter.grad is gradient for parameter, gradient in zip(model.parameters(), earlier, strict=True)]
    return [p.grad - processes.number() for p in model.parameters() if p.grad is not None], kept


def test_earlier_gradients_are_added_to_and_not_averaged() -> None:
    (first, kept), (second, kept_too) = in_processes(on_top, 2)
    assert all(kept)
    assert all(kept_too)
    assert first
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)
        assert one.norm() > 0


def some_unused() -> list[Tensor | None]:
    """Each process uses a part of its own, and nobody the last one; one gradient is sparse."""
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(3, 2, bias=False), nn.Embedding(4, 2, sparse=True), nn.Linear(3, 2)])
    together = Together(model)
    used = model[0](torch.ones(1, 3)) if processes.is_first() else model[1](torch.tensor([2]))
    torch.autograd.backward(used.sum())
    together.synchronise(chunks=1)
    return [parameter.grad for parameter in model.parameters()]


def test_a_parameter_that_is_used_somewhere_has_a_gradient_everywhere() -> None:
    looked_up = torch.zeros(4, 2)
    looked_up[2] = 0.5
    for linear, embedding, *unused in in_processes(some_unused, 2):
        assert linear is not None
        assert embedding is not None
        assert torch.equal(linear, torch.full((2, 3), 0.5))
        assert torch.equal(embedding, looked_up)
        assert unused == [None, None]


def exchanges() -> tuple[list[int], Tensor | None]:
    """Count the numbers that go through each sum over the processes, in a batch of many chunks."""
    sizes, add_up = list[int](), processes.add_up

    def counted(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return add_up(tensor)

    processes.add_up = counted
    proxies = torch.full((6, 5), 0.1, dtype=torch.float64, requires_grad=True)

    def proxy_loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(embeddings @ proxies.T, labels)

    model, rows = network(), own_rows()
    large_batch_backward(DistributedDataParallel(model), images()[rows], LABELS[rows], proxy_loss, 1)
    assert sum(p.numel() for p in model.parameters() if p.grad is not None) in sizes
    return sizes, proxies.grad


def test_gradients_are_exchanged_once_and_proxies_are_left_alone() -> None:
    (sizes, one), (_, other) = in_processes(exchanges, 2)
    statistics = 2 * 6  # of the layer that normalises each item by itself
    gradients = sum(p.numel() for name, p in network().named_parameters() if not name.startswith("unused"))
    assert sorted(sizes) == sorted([gradients, statistics, 1])  # and the count of its updates
    assert one is not None
    assert other is not None
    assert not torch.equal(one, other)


def failing() -> str:
    """One process fails in its second pass, and ends."""
    model, rows = network(), own_rows()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [parameter.grad for parameter in model.parameters()]
    parallel, chunks = DistributedDataParallel(model), [images()[rows][:2].clone(), images()[rows][2:].clone()]

    def spoiling(embeddings: Tensor, labels: Tensor) -> Tensor:
        loss = loss_fn(embeddings, labels)
        chunks[1] += float(not processes.is_first())
        return loss

    try:
        large_batch_backward(parallel, chunks, LABELS[rows], spoiling, batch_norm="per-chunk")
    except InputError as error:
        for (name, buffer), (_, expected) in zip(model.named_buffers(), network().named_buffers(), strict=True):
            assert torch.equal(buffer, expected), name
        for parameter, gradient in zip(model.parameters(), before, strict=True):
            assert gradient is not None
            assert parameter.grad is gradient
            assert torch.equal(gradient, torch.ones_like(parameter))
        return str(error)
    return ""


def test_a_failure_leaves_nothing_behind_in_any_process() -> None:
    first, second = in_processes(failing, 2)
    assert "another process of this run has ended" in first
    assert "chunk 2 of the inputs is another" in second


def refused() -> str:
    """The error for a module whose processes are not all there are."""
    parallel = DistributedDataParallel(network())
    parallel.process_group = torch.distributed.new_group([0, 1])  # type: ignore[assignment]
    with pytest.raises(InputError) as caught:
        large_batch_backward(parallel, images(), LABELS, loss_fn, CHUNK)
    return str(caught.value)


def refused_layer() -> str:
    with pytest.raises(InputError) as caught:
        Together(nn.Sequential(nn.Linear(3, 2), nn.SyncBatchNorm(2)))
    Together(nn.Sequential(nn.Linear(3, 2), nn.SyncBatchNorm(2).eval()))
    return str(caught.value)


def test_what_cannot_be_done_is_said() -> None:
    assert all("in a process group of its own" in message for message in in_processes(refused, 2))
    assert all("SyncBatchNorm exchanges something" in message for message in in_processes(refused_layer, 2))
