"""Our loss as one of pytorch-metric-learning: values and gradients, memory and trainers, and what is refused."""

import importlib
import sys
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses, miners, regularizers, trainers
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import Tensor
from torch.utils.data import TensorDataset

import recallk
from recallk import InputError, MissingExtraError, RecallAtKLoss, SimilarityMixup, recall_at_k_loss
from recallk.core import processes
from recallk.integrations import pytorch_metric_learning as ours
from recallk.integrations.pytorch_metric_learning import CrossBatchMemory, RecallAtKMetricLoss
from tests.processes import in_processes

pytestmark = pytest.mark.xdist_group("integrations")


def batch(seed: int, items: int = 12) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(items, 8, generator=random, dtype=torch.float64)
    return x.requires_grad_(), torch.randint(0, 4, (items,), generator=random)


def assert_same(value: Tensor, expected: Tensor, x: Tensor) -> None:
    """The same loss, and the same gradient in the embeddings."""
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    (gradient,), (other) = torch.autograd.grad(value, x), torch.autograd.grad(expected, x)[0]
    assert other.abs().sum() > 0
    torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("apart", [False, True])
def test_values_and_gradients_are_those_of_the_loss(apart: bool) -> None:
    x, labels = batch(0)
    loss = RecallAtKMetricLoss(RecallAtKLoss(ks=(1, 3)))
    gallery = batch(1, 20) if apart else (None, None)
    value = loss(x, labels, None, *gallery)
    assert_same(value, recall_at_k_loss(x, labels, *gallery, ks=(1, 3), implementation="definition"), x)
    assert isinstance(loss, losses.BaseMetricLossFunction)
    torch.testing.assert_close(RecallAtKMetricLoss()(x, labels), recall_at_k_loss(x, labels))


def test_mixup_and_a_regularizer_go_with_it() -> None:
    x, labels = batch(0)
    torch.manual_seed(1)
    value = RecallAtKMetricLoss(RecallAtKLoss(mixup=SimilarityMixup()))(x, labels)
    torch.manual_seed(1)
    torch.testing.assert_close(value, RecallAtKLoss(mixup=SimilarityMixup())(x, labels))
    both = RecallAtKMetricLoss(embedding_regularizer=regularizers.LpRegularizer(), embedding_reg_weight=0.5)
    torch.testing.assert_close(both(x, labels), recall_at_k_loss(x, labels) + 0.5 * x.norm(dim=1).mean())


@pytest.mark.parametrize("items", [1, 12, 20])
def test_the_memory_is_a_gallery_apart_in_which_no_item_is_its_own_positive(items: int) -> None:
    """The latest 30 items, put together by hand, whatever has been overwritten."""
    memory = CrossBatchMemory(RecallAtKMetricLoss(RecallAtKLoss(ks=(1, 2, 4))), embedding_size=8, memory_size=30)
    batches = [batch(20, 12), *(batch(seed, items) for seed in range(7))]
    waiting = []
    for number, (x, labels) in enumerate(batches):
        gallery = torch.cat([x for x, _ in batches[: number + 1]])[-30:].detach()
        gallery_labels = torch.cat([labels for _, labels in batches[: number + 1]])[-30:]
        rows = torch.arange(len(gallery) - len(x), len(gallery))
        expected = recall_at_k_loss(
            x, labels, gallery, gallery_labels, query_rows=rows, ks=(1, 2, 4), implementation="definition"
        )
        waiting.append((memory(x, labels), expected, x))
    for value, expected, x in waiting:  # the memory has moved on by now
        assert_same(value, expected, x)


def test_items_that_are_only_remembered_are_not_ranked() -> None:
    memory = CrossBatchMemory(RecallAtKMetricLoss(), embedding_size=8)
    x, labels = batch(0, 24)
    remembered = torch.arange(24) % 2 == 0
    own, own_labels, gallery = x[~remembered], labels[~remembered], x[remembered].detach()
    value = memory(x, labels, enqueue_mask=remembered)
    torch.testing.assert_close(value, recall_at_k_loss(own, own_labels, gallery, labels[remembered]))


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_trainer_makes_the_steps_of_a_loop_by_hand(in_memory: bool) -> None:
    x, labels = torch.randn(24, 8), torch.arange(24) // 4
    networks = []
    for by_hand in (False, True):
        torch.manual_seed(0)
        network = torch.nn.Linear(8, 4)
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        loss: Any = RecallAtKMetricLoss()
        loss = CrossBatchMemory(loss, embedding_size=4, memory_size=48) if in_memory else loss
        if by_hand:
            for _ in range(3):
                optimizer.zero_grad()
                loss(network(x), labels).backward()
                optimizer.step()
        else:
            trainers.MetricLossOnly(
                models={"trunk": network},
                optimizers={"trunk_optimizer": optimizer},
                batch_size=24,
                loss_funcs={"metric_loss": loss},
                dataset=TensorDataset(x, labels),
                sampler=range(24),
                data_device=torch.device("cpu"),
                dataloader_num_workers=0,
            ).train(num_epochs=3)
        networks.append(network.weight.detach().clone())
    torch.testing.assert_close(*networks)
    torch.manual_seed(0)
    assert not torch.equal(networks[0], torch.nn.Linear(8, 4).weight)


def _share_of_a_batch(wrapped: bool, in_memory: bool) -> tuple[float, list[list[float]]]:
    x, labels = batch(3, 24)
    own = slice(processes.number(), None, 2)
    loss: Any = RecallAtKMetricLoss(RecallAtKLoss(gather_across_devices=not wrapped))
    loss = CrossBatchMemory(loss, embedding_size=8, memory_size=24) if in_memory else loss
    value = (DistributedLossWrapper(loss) if wrapped else loss)(x[own], labels[own])
    gradient: list[list[float]] = torch.autograd.grad(value, x)[0][own].tolist()
    return float(value.detach()), gradient


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_two_processes_have_one_batch(wrapped: bool, in_memory: bool) -> None:
    """In the library's wrapper, which counts the loss once a process, or gathered: DDP takes the mean of gradients."""
    x, labels = batch(3, 24)
    memory: dict[str, Any] = {"query_rows": torch.arange(24)} if in_memory else {}
    gallery = (x.detach(), labels) if in_memory else (None, None)
    expected = recall_at_k_loss(x, labels, *gallery, **memory, implementation="definition")
    (gradient,) = torch.autograd.grad(expected, x)
    assert gradient.abs().sum() > 0
    for number, (value, found) in enumerate(in_processes(_share_of_a_batch, 2, wrapped, in_memory)):
        assert value == pytest.approx(float(expected.detach()) * (2 if wrapped else 1), rel=1e-6)
        torch.testing.assert_close(torch.tensor(found).double(), 2 * gradient[number::2], rtol=1e-5, atol=1e-6)


def _efficient() -> str:
    x, labels = batch(3)
    try:
        DistributedLossWrapper(RecallAtKMetricLoss(), efficient=True)(x, labels)
    except InputError as error:
        return str(error)
    return ""


def test_the_efficient_wrapper_which_gives_pairs_is_refused() -> None:
    for told in in_processes(_efficient, 2):
        assert told.endswith("leave out the miner, and efficient=True of DistributedLossWrapper")


def test_what_has_no_meaning_is_refused() -> None:
    x, labels = batch(0)
    loss, mined = RecallAtKMetricLoss(), miners.MultiSimilarityMiner()(x, labels)
    memory = CrossBatchMemory(loss, embedding_size=8, memory_size=15)
    for with_miner in (loss, memory):
        with pytest.raises(
            InputError, match=r"^indices_tuple: pairs and triplets have no meaning .*: leave out the miner"
        ):
            with_miner(x, labels, mined)
    with pytest.raises(InputError, match="memory_size=15 is below the batch of 16 items: raise it"):
        memory(*batch(0, 16))
    with pytest.raises(InputError, match="loss is of type ContrastiveLoss: RecallAtKMetricLoss is needed"):
        CrossBatchMemory(losses.ContrastiveLoss(), embedding_size=8)
    with pytest.raises(InputError, match="leave out the memory or the mixup"):
        CrossBatchMemory(RecallAtKMetricLoss(RecallAtKLoss(mixup=SimilarityMixup())), embedding_size=8)
    with pytest.raises(InputError, match=r"loss_fn is of type TripletMarginLoss: recallk.RecallAtKLoss\(...\) is"):
        RecallAtKMetricLoss(losses.TripletMarginLoss())
    with pytest.raises(InputError, match="labels are of type NoneType"):
        loss(x)


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(MissingExtraError) as raised:
        importlib.reload(ours)
    assert str(raised.value) == (
        "recallk.integrations.pytorch_metric_learning needs pytorch-metric-learning, which is not installed: "
        "pip install 'recallk[pytorch-metric-learning]'"
    )
    assert recallk.RecallAtKLoss is RecallAtKLoss
