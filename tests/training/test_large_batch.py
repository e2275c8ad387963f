"""Two passes over chunks against one graph over the same chunks, and against one big pass."""

import doctest
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recallk import InputError, RecallAtKLoss, large_batch_backward
from recallk.training import large_batch

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


class Keywords(nn.Module):
    """Takes keywords, and returns a dictionary, as models of Hugging Face do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *, pixel_values: Tensor, **_: Tensor) -> dict[str, Tensor]:
        return {"last_hidden_state": pixel_values, "pooler_output": self.inner(pixel_values)}


@pytest.mark.parametrize("activation_memory", [0, 20_000, float("inf")])
def test_a_model_of_keywords_and_dictionaries(activation_memory: float) -> None:
    plain, model = network(), Keywords(network())
    expected = large_batch_backward(plain, images(), LABELS, loss_fn, 7)
    chunks = [{"pixel_values": part, "interpolate": torch.ones(len(part))} for part in torch.split(images(), 7)]
    settings: dict[str, Any] = {"activation_memory": activation_memory}
    loss = large_batch_backward(
        model, chunks, LABELS, loss_fn, embed=lambda own, chunk: own(**chunk)["pooler_output"], **settings
    )
    assert loss == expected
    assert_same(gradients(model), gradients(plain), 1e-12)


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


def in_one_graph(model: nn.Module, chunks: Any, labels: Tensor = LABELS) -> tuple[list[Tensor], Tensor]:
    """Return the gradients of the same chunks, each embedded once, and what random numbers come next."""
    torch.autograd.backward(loss_fn(torch.cat([model(chunk) for chunk in chunks]), labels))
    return gradients(model), next_draws()


def seed_everything() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


def next_draws() -> Tensor:
    return torch.tensor([random.random(), np.random.random(), float(torch.rand(()))])


class Drawn:
    """Chunks with noise from a global random state, drawn as they are read."""

    def __init__(self, noise: Callable[[tuple[int, ...]], Tensor]) -> None:
        self.noise = noise

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in torch.split(images(), 6):
            yield chunk + self.noise(tuple(chunk.shape))


class Noisy(nn.Module):
    """Adds noise to what the network makes of the images, in full or in proportion."""

    def __init__(self, noise: Callable[[tuple[int, ...]], Tensor], proportion: float = 1.0) -> None:
        super().__init__()
        self.network, self.noise, self.proportion = network(dropout=0.3), noise, proportion

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x)
        return features + self.proportion * self.noise(tuple(features.shape)) * features.detach().std()


def with_python(shape: tuple[int, ...]) -> Tensor:
    return torch.tensor([random.gauss(0, 1) for _ in range(int(np.prod(shape)))]).double().reshape(shape)


def with_numpy(shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.normal(size=shape))


def with_torch(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


GLOBAL = [with_python, with_numpy, with_torch]


def of_its_own() -> Callable[[tuple[int, ...]], Tensor]:
    """Return noise from a generator that nobody else knows of."""
    generator = np.random.default_rng(0)
    return lambda shape: torch.from_numpy(generator.normal(size=shape))


@pytest.mark.parametrize("noise", GLOBAL)
def test_data_that_draws_as_it_is_read_is_read_alike_twice(noise: Callable[..., Tensor]) -> None:
    model, twin = network(dropout=0.3), network(dropout=0.3)
    model[1].eval(), twin[1].eval()  # type: ignore[index]
    seed_everything()
    expected, drawn = in_one_graph(twin, Drawn(noise) if noise is not with_torch else read_two_ahead(Drawn(noise)))
    seed_everything()
    large_batch_backward(model, Drawn(noise), LABELS, loss_fn)
    assert torch.equal(next_draws(), drawn)
    assert_same(gradients(model), expected, 1e-10)


def read_two_ahead(chunks: Any) -> Iterator[Any]:
    """Read in the order of `large_batch_backward`, which looks whether there is a second chunk."""
    reading = iter(chunks)
    begin = [next(reading), next(reading)]
    yield from begin
    yield from reading


@pytest.mark.parametrize("noise", GLOBAL)
def test_a_model_that_draws_embeds_alike_twice(noise: Callable[..., Tensor]) -> None:
    model, twin = Noisy(noise), Noisy(noise)
    seed_everything()
    expected, drawn = in_one_graph(twin, torch.split(images(), 6))
    seed_everything()
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=6, batch_norm="per-chunk")
    assert torch.equal(next_draws(), drawn)
    assert_same(gradients(model), expected, 1e-10)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shuffling_loader_gives_one_order_twice(workers: int) -> None:
    loader: DataLoader[Tensor] = DataLoader(images(), batch_size=6, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
    model, twin = network(), network()
    model[1].eval(), twin[1].eval()  # type: ignore[index]
    seed_everything()
    expected, drawn = in_one_graph(twin, loader)
    seed_everything()
    large_batch_backward(model, loader, LABELS, loss_fn)
    assert torch.equal(next_draws(), drawn)
    assert_same(gradients(model), expected, 1e-10)


def one_value(chunks: list[Tensor]) -> None:
    chunks[2][1, 2, 3, 4] += 1e-12


def two_rows(chunks: list[Tensor]) -> None:
    chunks[1][[0, 1]] = chunks[1][[1, 0]]


def two_chunks(chunks: list[Tensor]) -> None:
    chunks[0], chunks[3] = chunks[3], chunks[0]


def as_dictionary(change: Any = None) -> Any:
    return lambda chunk, second: {"name": ["x", "y" if second and change else "x"], "pixels": [(chunk,)]}


class Otherwise:
    """Gives other values when it is read for the second time, of the same shapes."""

    def __init__(self, change: Callable[[list[Tensor]], None] | None, wrap: Any = lambda chunk, _: chunk) -> None:
        self.change, self.wrap, self.readings = change, wrap, 0

    def __iter__(self) -> Iterator[Any]:
        self.readings += 1
        chunks = [chunk.clone() for chunk in torch.split(images(), 6)]
        if self.readings == 2 and self.change is not None:
            self.change(chunks)
        for chunk in chunks:
            yield self.wrap(chunk, self.readings == 2)


class Unwrapping(nn.Module):
    """Takes a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, chunk: dict[str, Any]) -> Tensor:
        return self.network(chunk["pixels"][0][0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("change", [one_value, two_rows, two_chunks])
@pytest.mark.parametrize("nested", [False, True])
def test_a_second_reading_of_other_values_is_refused(change: Callable[[list[Tensor]], None], nested: bool) -> None:
    model = Unwrapping() if nested else network()
    chunks = Otherwise(change, as_dictionary()) if nested else Otherwise(change)
    with pytest.raises(InputError, match="another in the second reading"):
        large_batch_backward(model, chunks, LABELS, loss_fn)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_no_tensor_is_compared_too() -> None:
    large_batch_backward(Unwrapping(), Otherwise(None, as_dictionary()), LABELS, loss_fn)
    with pytest.raises(InputError, match="chunk 1 of the inputs is another"):
        large_batch_backward(Unwrapping(), Otherwise(None, as_dictionary("name")), LABELS, loss_fn)


def test_a_loader_that_shuffles_by_a_generator_of_its_own_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    loader: DataLoader[Tensor] = DataLoader(images(), batch_size=6, shuffle=True, generator=generator)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the same chunks"):
        large_batch_backward(network(), loader, LABELS, loss_fn)


def test_a_model_that_draws_by_a_generator_of_its_own_is_refused() -> None:
    with pytest.raises(InputError, match="embedded 24 of 24 rows differently"):
        large_batch_backward(Noisy(of_its_own()), images(), LABELS, loss_fn, chunk_size=6)


def test_passes_that_differ_by_rounding_are_accepted() -> None:
    rounding = 2**-8  # of bfloat16
    large_batch_backward(Noisy(of_its_own(), rounding), images(), LABELS, loss_fn, chunk_size=6)


def test_a_model_that_writes_into_its_input_is_refused() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.mul_(0.5))  # type: ignore[no-any-return]

    with pytest.raises(InputError, match="must not write into them"):
        large_batch_backward(InPlace(), images(), LABELS, loss_fn, chunk_size=6)


class Remembering(nn.Module):
    """A network whose embeddings depend on what it remembers of earlier chunks: in place, and by another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.mean: Tensor
        self.chunks: Tensor
        self.register_buffer("mean", torch.zeros(5, dtype=torch.float64))
        self.register_buffer("chunks", torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.inner(x)
        self.mean.data.mul_(0.5).add_(features.detach().mean(0))
        self.chunks = self.chunks + 1
        return features + self.mean.clone() * self.chunks


def instance_norm() -> nn.Module:
    model = network()
    model.register_module("1", nn.InstanceNorm2d(6, track_running_stats=True, affine=True, dtype=torch.float64))
    return model


def spectral_norm() -> nn.Module:
    model = network()
    nn.utils.parametrizations.spectral_norm(model.get_submodule("5"), n_power_iterations=1)
    return model


@pytest.mark.parametrize("make", [instance_norm, spectral_norm, Remembering])
@pytest.mark.parametrize("policy", ["frozen", "per-chunk"])
def test_whatever_a_model_remembers_moves_once_for_each_chunk(make: Callable[[], nn.Module], policy: Any) -> None:
    torch.manual_seed(0)
    model, twin = make(), make()
    twin.load_state_dict(model.state_dict())
    if policy == "frozen":
        for module in twin.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    expected, _ = in_one_graph(twin, torch.split(images(), 6))
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=6, batch_norm=policy)
    assert_same(gradients(model), expected, 1e-10)
    moved = [not torch.equal(new, old) for new, old in zip(model.buffers(), make().buffers(), strict=True)]
    assert any(moved)
    for (name, buffer), other in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=name)


def test_what_the_loss_writes_into_the_models_buffers_stays() -> None:
    model = network()
    model.register_buffer("queue", torch.zeros(BATCH, 5, dtype=torch.float64))

    def remembering(embeddings: Tensor, labels: Tensor) -> Tensor:
        model.queue.copy_(embeddings.detach())  # type: ignore[operator]
        return loss_fn(embeddings, labels)

    large_batch_backward(model, images(), LABELS, remembering, chunk_size=6)
    assert model.queue.norm() > 0  # type: ignore[operator]


class StopError(Exception):
    """What a model may raise."""


class Stopping(nn.Module):
    """Fails in the second pass over the second of two chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = network(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 4:
            raise StopError
        return self.inner(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    ("make", "batch", "error"),
    [
        (network, lambda: Otherwise(one_value), InputError),
        (network, lambda: Changing([12, 12], [12, 6, 6]), InputError),
        (Stopping, lambda: torch.split(images(), 12), StopError),
        (lambda: Noisy(of_its_own()), lambda: torch.split(images(), 6), InputError),
    ],
)
def test_a_failure_leaves_the_gradients_as_they_were(
    make: Callable[[], nn.Module], batch: Callable[[], Any], error: type[Exception], earlier: bool
) -> None:
    model = make().train()
    proxies = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    parameters = [*model.parameters(), proxies]
    if earlier:
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
    before = [parameter.grad for parameter in parameters]
    buffers = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(error):
        large_batch_backward(
            model,
            batch(),
            LABELS,
            lambda embeddings, labels: nn.functional.cross_entropy(embeddings @ proxies.T, labels),
            batch_norm="per-chunk",
        )
    for parameter, gradient in zip(parameters, before, strict=True):
        assert parameter.grad is gradient
        assert gradient is None or torch.equal(gradient, torch.ones_like(gradient))
    for buffer, old in zip(model.buffers(), buffers, strict=True):
        assert torch.equal(buffer, old)
    assert all(module.training for module in model.modules())


def test_a_loss_that_forgets_the_embeddings_leaves_no_gradient_in_its_own_parameters() -> None:
    proxies = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InputError, match="no gradient to the embeddings"):
        large_batch_backward(network(), images(), LABELS, lambda e, _: proxies.sum(), chunk_size=6)
    assert proxies.grad is None


@pytest.mark.parametrize("model", [nn.Flatten(), network().requires_grad_(False)])
def test_a_model_without_a_parameter_to_train(model: nn.Module) -> None:
    with pytest.raises(InputError, match="no parameter of the model is trained"):
        large_batch_backward(model, images(), LABELS, loss_fn)


@pytest.mark.parametrize("labels", [LABELS.tolist(), LABELS.numpy(), LABELS.numpy().astype(np.int16)[::-1]])
def test_labels_and_inputs_that_are_no_tensors(labels: Any) -> None:
    model, twin = network(), network()
    model[1].eval(), twin[1].eval()  # type: ignore[index]
    as_tensor = torch.tensor(np.array(labels))
    expected, _ = in_one_graph(twin, torch.split(images(), 6), as_tensor)
    large_batch_backward(model, images(), labels, loss_fn, chunk_size=6)
    assert_same(gradients(model), expected, 1e-10)
    model.zero_grad()
    array = images().numpy()
    array.setflags(write=False)
    loss = large_batch_backward(model, inputs=array, labels=labels, loss_fn=loss_fn, chunk_size=np.int64(6))  # type: ignore[arg-type]
    assert not loss.requires_grad
    assert_same(gradients(model), expected, 1e-10)


@dataclass
class Judged:
    classes: Tensor
    weight: float


SOFT = torch.softmax(torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(2)).double(), dim=1)
NAMES = [f"class {label}" for label in LABELS.tolist()]


def soft_loss(embeddings: Tensor, targets: Any) -> Tensor:
    return nn.functional.cross_entropy(embeddings, targets)


def judged_loss(embeddings: Tensor, targets: Judged) -> Tensor:
    return targets.weight * loss_fn(embeddings, targets.classes)


def named_loss(embeddings: Tensor, targets: list[str]) -> Tensor:
    return loss_fn(embeddings, torch.tensor([int(name.split()[-1]) for name in targets]))


@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        (SOFT, soft_loss),
        (SOFT.numpy(), soft_loss),
        (SOFT.tolist(), soft_loss),
        (SOFT.to_sparse(), lambda e, targets: soft_loss(e, targets.to_dense())),
        ({"soft": SOFT, "prior": torch.ones(5).double()}, lambda e, t: soft_loss(e * t["prior"], t["soft"])),
        ((SOFT, LABELS), lambda e, t: soft_loss(e, t[0]) + loss_fn(e, t[1])),
        (Judged(LABELS, 2.0), judged_loss),
        (NAMES, named_loss),
        (tuple(NAMES), named_loss),
        (np.array(NAMES), lambda e, targets: named_loss(e, targets.tolist())),
        (
            [[label] * (1 + label % 2) for label in LABELS.tolist()],
            lambda e, t: loss_fn(e, torch.tensor([row[0] for row in t])),
        ),
        (None, lambda e, _: nn.functional.cosine_similarity(e[::2], e[1::2]).sum()),
        (object(), lambda e, _: e.square().sum()),
    ],
)
def test_a_loss_may_be_given_any_targets(labels: Any, loss: Callable[[Tensor, Any], Tensor]) -> None:
    model, twin = network(), network()
    model[1].eval(), twin[1].eval()  # type: ignore[index]
    as_given = SOFT if isinstance(labels, list | np.ndarray) and loss is soft_loss else labels
    torch.autograd.backward(loss(twin(images()), as_given))
    large_batch_backward(model, images(), labels, loss, chunk_size=7)
    assert_same(gradients(model), gradients(twin), 1e-10)


def test_targets_of_no_known_rows_are_handed_on_as_they_are() -> None:
    given: list[Any] = []

    def watching(embeddings: Tensor, targets: Any) -> Tensor:
        given.append(targets)
        return embeddings.square().sum()

    for labels in (None, {"names": NAMES}, {"few": [1, 2]}, (SOFT, [1, 2]), iter(NAMES), str):
        large_batch_backward(network(), images(), labels, watching, chunk_size=7)
        assert given.pop() == labels


def test_targets_are_asked_to_the_device_of_the_embeddings() -> None:
    class Asked:
        device: torch.device | None = None

        def to(self, device: torch.device) -> "Asked":
            self.device = device
            return self

    def watching(embeddings: Tensor, targets: dict[str, Asked]) -> Tensor:
        assert targets["it"].device == embeddings.device
        return embeddings.square().sum()

    targets = {"it": Asked()}
    large_batch_backward(network(), images(), targets, watching, chunk_size=7)
    assert targets["it"].device is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_targets_follow_the_embeddings_to_a_gpu() -> None:
    def dressed(embeddings: Tensor, targets: Any) -> Tensor:
        return judged_loss(embeddings, targets["judged"][0])

    given = {"judged": [Judged(LABELS, 2.0)]}
    large_batch_backward(network().cuda(), images(), given, dressed, chunk_size=7)
    assert given["judged"][0].classes.device.type == "cpu"


def test_the_example_runs() -> None:
    tried = doctest.testmod(large_batch)
    assert tried.attempted
    assert not tried.failed


def test_it_needs_little_more_than_pytorch() -> None:
    heavy = {"lightning_fabric", "timm", "faiss", "torchvision", "PIL", "pydantic", "pytorch_metric_learning", "scipy"}
    code = f"import sys; import recallk.training.large_batch; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


class Returning(nn.Module):
    """Returns whatever a function makes of the embeddings."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = network(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": lambda x: x}, "an nn.Module is needed"),
        ({"model": Returning(lambda e: {"embeddings": e})}, "the model returns a dict"),
        (
            {"model": Returning(lambda e: (e, e))},
            r"the model returns a tuple.*embed=lambda .* says where",
        ),
        (
            {"embed": lambda model, chunk: {"embeddings": model(chunk)}},
            r"embed returns a dict: one tensor .* needed$",
        ),
        ({"embed": lambda model, chunk: model(chunk).sum(1)}, r"embed returns \(6,\)"),
        ({"embed": "pooler_output"}, "embed is of type str: a function of the model and a chunk is needed"),
        ({"model": Returning(lambda e: e.sum(1))}, r"the model returns \(6,\)"),
        ({"model": Returning(lambda e: e.long())}, "floating-point"),
        ({"inputs": None}, "inputs are of type NoneType"),
        ({"inputs": 3}, "inputs are of type int"),
        ({"inputs": "images"}, "inputs are of type str"),
        ({"inputs": {"pixels": images()}}, "inputs are of type dict"),
        ({"inputs": torch.tensor(3.0)}, "rows are needed"),
        ({"inputs": images()[:0], "labels": LABELS[:0]}, "rows are needed"),
        ({"inputs": [], "labels": []}, "the batch is empty"),
        ({"inputs": np.array(["a", "b"])}, "inputs are strings: numbers are needed"),
        ({"inputs": [[0.5] * 9] * BATCH}, "the model does not take chunk 1, of type list"),
        ({"inputs": [images().numpy()]}, "the model does not take chunk 1, of type ndarray"),
        ({"labels": None}, "labels are of type NoneType: integers"),
        ({"labels": ["cat"] * BATCH}, "labels are strings: integers"),
        ({"labels": 3}, "one label for each row"),
        ({"labels": "cat"}, "labels='cat': one label for each row"),
        ({"labels": LABELS[:5]}, "24 embeddings and 5 labels"),
        ({"labels": LABELS[None]}, "24 embeddings and 1 labels"),
        ({"labels": ["cat"] * 5}, "24 embeddings and 5 labels"),
        ({"labels": np.array(["cat"] * 5)}, "24 embeddings and 5 labels"),
        ({"labels": [[0, 1], [2]]}, "24 embeddings and 2 labels"),
        ({"labels": (0, 1)}, "24 embeddings and 2 labels"),
        ({"loss_fn": None}, "loss_fn is of type NoneType"),
        ({"loss_fn": lambda e, _: e.sum(1)}, r"the loss is of shape \(24,\)"),
        ({"loss_fn": lambda e, _: float(e.detach().sum())}, "the loss is of type float"),
        ({"backward": 2.0}, "backward is of type float"),
        ({"activation_memory": -1}, "activation_memory=-1: bytes are needed, 0 or more"),
        ({"activation_memory": float("nan")}, "activation_memory=nan"),
        ({"activation_memory": True}, "activation_memory=True"),
        ({"activation_memory": "4 GB"}, "activation_memory='4 GB'"),
        ({"chunk_size": "8"}, "chunk_size='8'"),
        ({"chunk_size": 2.5}, r"chunk_size=2\.5"),
        ({"chunk_size": None}, "chunk_size=None"),
        ({"batch_norm": ["frozen"]}, "'frozen' or 'per-chunk'"),
    ],
)
def test_arguments_of_the_wrong_type_are_one_line(changes: dict[str, Any], message: str) -> None:
    usual = {"model": network(), "inputs": images(), "labels": LABELS, "loss_fn": loss_fn, "chunk_size": 6}
    given: dict[str, Any] = usual | changes
    first = [given.pop(name) for name in ("model", "inputs", "labels", "loss_fn")]
    with pytest.raises(InputError, match=message) as caught:
        large_batch_backward(*first, **given)
    assert "\n" not in str(caught.value)


def test_without_gradients_it_cannot_work() -> None:
    with torch.no_grad(), pytest.raises(InputError, match="gradients are switched off"):
        large_batch_backward(network(), images(), LABELS, loss_fn)


@pytest.mark.parametrize("chunk_size", [6, BATCH])
def test_float16_with_a_scaler_gives_the_gradients_of_float32(chunk_size: int) -> None:
    """The embeddings' gradient is scaled once, by the loss; small ones survive, and unscaled they are the true ones."""
    single = images(torch.float32)

    def small_loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        return 1e-6 * loss_fn(embeddings.float(), labels)  # below what float16 can hold, without a scale

    expected, model = network(dtype=torch.float32), network(dtype=torch.float32)
    large_batch_backward(expected, single, LABELS, small_loss, chunk_size=chunk_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e4)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = large_batch_backward(
            model,
            single,
            LABELS,
            small_loss,
            chunk_size=chunk_size,
            backward=lambda loss: torch.autograd.backward(scaler.scale(loss)),
        )
    assert loss.item() < 1e-6  # not the scaled one
    scaler.unscale_(optimizer)
    assert_same(gradients(model), gradients(expected), 3e-2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    scaler.step(optimizer)
    scaler.update()
    assert any(not torch.equal(new, old) for new, old in zip(model.parameters(), before, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_states_of_a_gpu_are_replayed_and_go_on() -> None:
    model, twin = network(dropout=0.4).cuda(), network(dropout=0.4).cuda()
    seed_everything()
    expected, drawn = in_one_graph(twin, torch.split(images().cuda(), 6), LABELS.cuda())
    continued = torch.rand(3, device="cuda")
    seed_everything()
    large_batch_backward(model, images(), LABELS, loss_fn, chunk_size=6, batch_norm="per-chunk")
    assert torch.equal(next_draws(), drawn)
    assert torch.equal(torch.rand(3, device="cuda"), continued)
    assert_same(gradients(model), expected, 1e-10)


def test_random_numbers_go_on_after_those_that_the_loss_drew() -> None:
    def drawing(embeddings: Tensor, labels: Tensor) -> Tensor:
        return loss_fn(embeddings + torch.rand(()) + np.random.random() + random.random(), labels)

    model = network(dropout=0.3)
    seed_everything()
    drawing(torch.cat([model(chunk) for chunk in torch.split(images(), 6)]), LABELS)
    expected = next_draws()
    seed_everything()
    large_batch_backward(model, images(), LABELS, drawing, chunk_size=6, batch_norm="per-chunk")
    assert torch.equal(next_draws(), expected)
