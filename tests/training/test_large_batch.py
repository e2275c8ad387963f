"""Two passes over chunks against one graph over the same chunks, and against one big pass."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recallk import InputError, RecallAtKLoss, large_batch_backward

BATCH = 24
LABELS = torch.arange(BATCH) // 4


def network(*, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(96, 5)]
    model = nn.Sequential(*layers).to(dtype)
    with torch.no_grad():  # statistics as after some training
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.train()


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, 3, 6, 6, generator=torch.Generator().manual_seed(1)).to(dtype)


def loss_fn(embeddings: Tensor, labels: Tensor) -> Tensor:
    return RecallAtKLoss(rank_temperature=0.1)(embeddings, labels)  # type: ignore[no-any-return]


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in found), "a vacuous gradient"
    return [gradient for gradient in found if gradient is not None]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("chunk_size", [1, 6, 7, BATCH])
def test_the_gradients_of_one_big_pass(chunk_size: int, dtype: torch.dtype, tolerance: float) -> None:
    model = network(dtype=dtype)
    model[1].eval()  # type: ignore[index]
    expected_loss = loss_fn(model(images(dtype)), LABELS)
    torch.autograd.backward(expected_loss)
    expected = gradients(model)
    model.train()
    model.zero_grad()
    loss = large_batch_backward(model, images(dtype), LABELS, loss_fn, chunk_size=chunk_size)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(expected_loss.item(), rel=tolerance)
    assert_same(gradients(model), expected, tolerance)
    assert model[1].training  # type: ignore[index]


@pytest.mark.parametrize("chunk_size", [2, 6, 7, BATCH])
def test_dropout_and_per_chunk_batch_norm(chunk_size: int) -> None:
    """One graph from the same chunks under the same random state, statistics included."""
    model, twin = network(dropout=0.4), network(dropout=0.4)
    torch.manual_seed(7)
    embeddings = torch.cat([twin(chunk) for chunk in torch.split(images(), chunk_size)])
    torch.autograd.backward(loss_fn(embeddings, LABELS))
    torch.manual_seed(7)
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=chunk_size, batch_norm="per-chunk")
    assert_same(gradients(model), gradients(twin), 1e-10)
    for (name, buffer), expected in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=name)
    # and the random numbers go on as if each chunk had been embedded once
    continued = torch.rand(3)
    torch.manual_seed(7)
    for chunk in torch.split(images(), chunk_size):
        model(chunk)
    assert torch.equal(continued, torch.rand(3))


def test_frozen_statistics_do_not_move() -> None:
    model = network()
    before = [buffer.clone() for buffer in model.buffers()]
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=6)
    for buffer, old in zip(model.buffers(), before, strict=True):
        assert torch.equal(buffer, old)


@pytest.mark.parametrize("autocast", [True, False])
def test_autocast_wraps_both_passes(autocast: bool) -> None:
    def context() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext()

    model = network(dtype=torch.float32)
    model[1].eval()  # type: ignore[index]
    with context():
        embeddings = torch.cat([model(chunk) for chunk in torch.split(images(torch.float32), 6)])
        loss = loss_fn(embeddings, LABELS)
    torch.autograd.backward(loss)
    expected = gradients(model)
    model.zero_grad()
    with context():
        large_batch_backward(model, images(torch.float32), LABELS, loss_fn, chunk_size=6)
    # gradients of a bfloat16 graph are rounded at other places when chunks add up
    assert_same(gradients(model), expected, 2e-2 if autocast else 1e-5)


def test_gradients_add_up_and_a_scaled_backward_scales_them() -> None:
    model = network()
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=6)
    once = [gradient.clone() for gradient in gradients(model)]
    large_batch_backward(
        model, images(), LABELS, loss_fn, chunk_size=6, backward=lambda loss: torch.autograd.backward(loss * 3)
    )
    assert_same(gradients(model), [4 * gradient for gradient in once], 1e-10)


def test_a_loss_with_parameters_gets_its_gradient() -> None:
    proxies = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)

    def proxy_loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(embeddings @ proxies.T, labels)

    large_batch_backward(network(), images(), LABELS, proxy_loss, chunk_size=5)
    assert proxies.grad is not None
    assert proxies.grad.norm() > 0


class Changing:
    """Gives other chunks when it is read again."""

    def __init__(self, *readings: list[int]) -> None:
        self.readings = list(readings)

    def __iter__(self) -> Iterator[Tensor]:
        yield from torch.split(images(), self.readings.pop(0))


@pytest.mark.parametrize(
    ("batch", "settings", "message"),
    [
        (images()[:20], {}, "20 embeddings and 24 labels"),
        (images(), {"chunk_size": 0}, "at least 1 row"),
        (images(), {"batch_norm": "train"}, "'frozen' or 'per-chunk'"),
        (iter([images()]), {}, "only once"),
        (Changing([12, 12], [10, 14]), {}, "the same chunks"),
        (Changing([12, 12], [12, 6, 6]), {}, "the same chunks"),
        (Changing([8, 8, 8], [8, 8, 4, 4]), {}, "the same chunks"),
    ],
)
def test_bad_input(batch: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        large_batch_backward(network(), batch, LABELS, loss_fn, **settings)


def test_a_second_reading_that_is_too_short_or_too_long() -> None:
    class Uneven:
        def __init__(self, counts: list[int]) -> None:
            self.counts = counts

        def __iter__(self) -> Iterator[Tensor]:
            yield from torch.split(images(), 8)[: self.counts.pop(0)]

    with pytest.raises(InputError, match="gave 2 chunks after 3"):
        large_batch_backward(network(), Uneven([3, 2]), LABELS, loss_fn)
    with pytest.raises(InputError, match="more chunks"):
        large_batch_backward(network(), Uneven([2, 3]), LABELS[:16], loss_fn)


def test_no_gradient_is_an_error() -> None:
    model = network()
    with pytest.raises(InputError, match="does not depend"):
        large_batch_backward(model, images(), LABELS, lambda e, _: e.detach().sum())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter"):
        large_batch_backward(model, images(), LABELS, loss_fn)


@pytest.mark.parametrize(("chunk_size", "times"), [(BATCH, 1), (BATCH + 1, 1), (BATCH // 2, 4), (BATCH // 4, 8)])
def test_a_batch_of_one_chunk_is_embedded_once(chunk_size: int, times: int) -> None:
    model, calls = network(dropout=0.5), []
    model.register_forward_hook(lambda *_: calls.append(1))
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=chunk_size, batch_norm="per-chunk")
    assert len(calls) == times


def test_only_one_chunk_of_activations_is_alive() -> None:
    """What a graph keeps is released before the next chunk is embedded."""
    alive, most = 0, 0

    class Counting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            nonlocal alive, most
            if x.requires_grad:
                alive += len(x)
                most = max(most, alive)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            nonlocal alive
            alive -= len(gradient)
            return gradient

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            return Counting.apply(self.inner(x))  # type: ignore[no-any-return]

    large_batch_backward(Watched(), images(), LABELS, loss_fn, chunk_size=4)
    assert most == 4
