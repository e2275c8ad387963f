"""Every loss of the catalogue builds, draws by its generator alone, and fits two passes."""

import copy
import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk import InputError, MissingExtraError, large_batch_backward
from recallk.losses.build import build_loss
from recallk.losses.registry import CATALOGUE
from recallk.runs.config import make_config
from tests.losses.made import CLASSES, NAMES, batch, module


@pytest.mark.parametrize("name", NAMES)
def test_two_passes_give_the_gradients_of_one(name: str) -> None:
    class Unit(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(super().forward(x), dim=1)

    torch.manual_seed(0)
    model, loss = Unit(12, 8), module(name)
    twin, twin_loss = copy.deepcopy(model), copy.deepcopy(loss)
    for step in range(3):  # a memory is empty in the first, and full in the last
        x, labels = batch(step, 12)
        value = loss(model(x), labels, generator=torch.Generator().manual_seed(step))
        value.backward()
        drawn = partial(twin_loss, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(large_batch_backward(twin, x, labels, drawn, chunk_size=7), value.detach())
    pairs = zip([*model.parameters(), *loss.parameters()], [*twin.parameters(), *twin_loss.parameters()], strict=True)
    for one, two in pairs:
        assert one.grad is not None
        assert one.grad.abs().max() > 1e-6
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_follows_from_the_generator_and_moves_nothing_else(name: str) -> None:
    x, labels = batch(0)

    def values() -> list[float]:
        return [module(name)(x, labels, generator=torch.Generator().manual_seed(seed)).item() for seed in range(4)]

    before = torch.get_rng_state()
    first = values()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert values() == first
    assert (len(set(first)) > 1) == (name in ("margin", "metrix", "proxy-synthesis"))


def test_own_parameters_follow_from_the_seed() -> None:
    def proxies(seed: int) -> Tensor:
        config = make_config({"data": "x", "loss": "proxy-nca", "seed": seed})
        return next(build_loss(config, CLASSES, config.embedding_size, config.seed).parameters())

    assert torch.equal(proxies(1), proxies(1))
    assert not torch.equal(proxies(1), proxies(2))


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_builds_a_finite_loss_with_a_gradient(name: str) -> None:
    loss = module(name)
    assert bool(list(loss.parameters())) == CATALOGUE[name].own_parameters
    x, labels = batch(5)
    for _ in range(3):  # a memory is full in the last
        leaf = x.clone().requires_grad_()
        value = loss(leaf, labels, generator=torch.Generator().manual_seed(0))
        assert value.shape == ()
        assert value.isfinite()
        value.backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.norm() > 0


OF_BATCHES = ("symmetrical-synthesis", "metrix", "blackbox-recall", "blackbox-ap", "proxy-synthesis")
"""Of our own code, without a memory."""


@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [2, 2, 2, 2], [5], [0, 0, 0, 1], [3, 3]])
def test_batches_without_positives_or_negatives_are_finite(name: str, labels: list[int]) -> None:
    leaf = batch(0)[0][: len(labels)].clone().requires_grad_()
    value = module(name)(leaf, torch.tensor(labels), generator=torch.Generator().manual_seed(0))
    value.backward()
    assert value.isfinite()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    if len(set(labels)) == len(labels) and name not in ("metrix", "proxy-synthesis"):
        assert value == 0


@pytest.mark.parametrize("name", OF_BATCHES)
def test_items_that_are_the_same_and_rows_of_zeros_are_finite(name: str) -> None:
    x, labels = batch(0)
    leaf = torch.cat([x, x, -x, torch.zeros(4, 8)]).requires_grad_()
    classes = torch.cat([labels, labels, labels, torch.tensor([0, 0, 1, 2])])
    value = module(name)(leaf, classes, generator=torch.Generator().manual_seed(1))
    value.backward()
    assert value.isfinite()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", OF_BATCHES)
def test_autocast_does_not_round_the_similarities(name: str) -> None:
    x, labels = batch(2)

    def value() -> Tensor:
        found: Tensor = module(name)(x, labels, generator=torch.Generator().manual_seed(0))
        return found

    expected = value()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(value(), expected)


@pytest.mark.parametrize("name", OF_BATCHES)
def test_a_loss_of_ours_that_diverges_says_so(name: str) -> None:
    x, labels = batch(0)
    with pytest.raises(InputError, match="hold NaN or infinity: after steps of training, lower the learning rate"):
        module(name)(x * torch.nan, labels)


@pytest.mark.parametrize("name", NAMES)
def test_the_library_is_imported_for_its_own_losses_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)  # as where it is not installed
    if CATALOGUE[name].extra is None:
        module(name)
        return
    with pytest.raises(MissingExtraError, match="pip install 'recallk\\[compare\\]'") as caught:
        module(name)
    assert caught.value.name == "pytorch_metric_learning"
