"""The batches of several processes as one: value and gradients are those of one process that has it all."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recallk import InputError, RecallAtKLoss, SimilarityMixup
from recallk.core import processes
from tests.processes import in_processes

ROOT = Path(__file__).parents[2]
SIZES = 17, 8  # items of each process, where nothing else is said
SETTINGS: dict[str, Any] = {"ks": (1, 2, 4), "rank_temperature": 0.1, "recall_temperature": (0.5, 1.0, 2.0)}
SEED = 7


@dataclass
class Own:
    """What a process has; `rows` say where its queries stand in its gallery."""

    queries: Tensor
    labels: Tensor
    gallery: Tensor
    gallery_labels: Tensor
    rows: Tensor


def own_of(number: int, size: int, dtype: torch.dtype = torch.float64) -> Own:
    """Draw what a process has: every class may be in every process; half of its queries stand in its gallery."""
    generator = torch.Generator().manual_seed(100 + number)
    labels = torch.randint(0, 6, (size,), generator=generator) * 5 - 7
    gallery_labels = torch.cat([labels, torch.randint(0, 6, (4 + number,), generator=generator) * 5 - 7])
    order = torch.randperm(len(gallery_labels), generator=generator)
    rows = torch.argsort(order)[:size]
    return Own(
        torch.randn(size, 5, generator=generator, dtype=torch.float64).to(dtype),
        labels,
        torch.randn(len(order), 5, generator=generator, dtype=torch.float64).to(dtype),
        gallery_labels[order],
        torch.where(torch.arange(size) % 2 == 0, rows, -1),
    )


def whole_of(sizes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Own:
    """Return what one process would have in place of several."""
    parts = [own_of(number, size, dtype) for number, size in enumerate(sizes)]
    before, rows = 0, []
    for part in parts:
        rows.append(torch.where(part.rows >= 0, part.rows + before, -1))
        before += len(part.gallery)
    joined = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("queries", "labels", "gallery", "gallery_labels")
    }
    return Own(**joined, rows=torch.cat(rows))


@dataclass
class Case:
    form: str = "plain"  # or "gallery", "rows"
    relatives: Any = None  # of mixup
    query_in_database: bool = True
    implementation: Any = "auto"

    def solve(self, own: Own, gather: bool) -> list[Tensor]:
        """Return the loss and the gradients of twice its value; those of one process for the rows of this one."""
        queries, gallery = (
            own.queries.clone().requires_grad_(len(own.queries) > 0),
            own.gallery.clone().requires_grad_(),
        )
        loss = RecallAtKLoss(
            **SETTINGS,
            query_in_database=self.query_in_database,
            mixup=None if self.relatives is None else SimilarityMixup(self.relatives, pairs_per_class=12),
            implementation=self.implementation,
            gather_across_devices=gather,
        )
        apart = () if self.form == "plain" else (gallery, own.gallery_labels)
        rows = own.rows if self.form == "rows" else None
        generator = torch.Generator().manual_seed(SEED)
        value = loss(queries, own.labels, *apart, query_rows=rows, generator=generator)
        (2 * value).backward()
        gradients = [x.grad if x.grad is not None else torch.zeros_like(x) for x in (queries, gallery)]
        return [value.detach(), *(gradient / processes.count() for gradient in gradients)]


CASES = [
    Case(),
    Case(query_in_database=False),
    Case(relatives="keep"),
    Case(relatives="exclude", query_in_database=False),
    Case("gallery"),
    Case("rows"),
    Case("rows", query_in_database=False),
    Case(implementation="definition"),
    Case(relatives="keep", implementation="definition"),
    Case("rows", implementation="definition"),
]


def solved(sizes: tuple[int, ...], dtype: torch.dtype) -> list[list[Tensor]]:
    own = own_of(processes.number(), sizes[processes.number()], dtype)
    return [case.solve(own, gather=True) for case in CASES]


def assert_same(found: list[list[list[Tensor]]], sizes: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    whole = whole_of(sizes, dtype)
    for number, case in enumerate(CASES):
        value, *gradients = case.solve(whole, gather=False)
        assert len({float(process[number][0]) for process in found}) == 1, case  # bit for bit
        torch.testing.assert_close(found[0][number][0], value, rtol=tolerance, atol=tolerance)
        for which, expected in enumerate(gradients, 1):
            gathered = torch.cat([process[number][which] for process in found])
            assert gathered.dtype == dtype
            assert (gathered - expected).norm() <= tolerance * (1 + expected.norm()), case


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8))


def gradients_of(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def second_derivative() -> str:
    own = own_of(processes.number(), SIZES[processes.number()])
    x = own.queries.requires_grad_()
    loss = RecallAtKLoss(implementation="definition", gather_across_devices=True)(x, own.labels)
    try:
        torch.autograd.grad(loss, x, create_graph=True)
    except InputError as error:
        return str(error)
    return ""


def train_with_ddp(sizes: tuple[int, ...]) -> list[Tensor]:
    """Train as a user of PyTorch would."""
    own = own_of(processes.number(), sizes[processes.number()], torch.float32)
    model = DistributedDataParallel(network())
    loss_fn = RecallAtKLoss(mixup=SimilarityMixup(), gather_across_devices=True)
    loss = loss_fn(model(own.queries), own.labels, generator=torch.Generator().manual_seed(SEED))
    loss.backward()
    return gradients_of(model)


def assert_same_gradients(found: list[list[Tensor]], sizes: tuple[int, ...]) -> None:
    """Compare the gradients that each process has with those of one process."""
    whole, model = whole_of(sizes, torch.float32), network()
    loss_fn = RecallAtKLoss(mixup=SimilarityMixup())
    loss_fn(model(whole.queries), whole.labels, generator=torch.Generator().manual_seed(SEED)).backward()
    expected = gradients_of(model)
    assert all(gradient.norm() > 1e-3 for gradient in expected)
    for of_process in found:
        for gradient, one in zip(of_process, expected, strict=True):
            assert (gradient - one).norm() <= 1e-6 * (1 + one.norm())


def in_a_group(sizes: tuple[int, ...]) -> tuple[list[list[Tensor]], list[Tensor]]:
    return solved(sizes, torch.float64), train_with_ddp(sizes)


@pytest.mark.parametrize("sizes", [(25, 0), (12, 0, 13)])
def test_shares_may_be_of_any_size(sizes: tuple[int, ...]) -> None:
    """In DistributedDataParallel too."""
    found, gradients = zip(*in_processes(in_a_group, len(sizes), sizes), strict=True)
    assert_same(list(found), sizes, torch.float64, 1e-10)
    assert_same_gradients(list(gradients), sizes)


def several() -> dict[str, Any]:
    """What takes a group, but little time in it."""
    own = own_of(processes.number(), SIZES[processes.number()], torch.float32)
    found: dict[str, Any] = {str(dtype): solved(SIZES, dtype) for dtype in (torch.float32, torch.float64)}
    found["in training"] = train_with_ddp(SIZES)
    for dtype in (torch.float16, torch.bfloat16):
        half = own_of(processes.number(), SIZES[processes.number()], dtype)
        found[str(dtype)] = Case(relatives="keep").solve(half, gather=True)
    loss = RecallAtKLoss(**SETTINGS, mixup=SimilarityMixup(), gather_across_devices=True)
    torch.manual_seed(SEED + processes.number())
    found["global state"] = loss(own.queries, own.labels), torch.rand(())
    found["apart"] = RecallAtKLoss(**SETTINGS)(own.queries, own.labels)

    def error_of(*arguments: Tensor) -> str:
        try:
            loss(*arguments)
        except InputError as error:
            return str(error)
        return ""

    second = processes.number() == 1
    broken = own.queries.clone()
    broken[0, 0] = float("nan") if second else 1
    everyone = torch.arange(len(own.labels)) + 100 * processes.number()
    found["errors"] = [
        error_of(broken, own.labels),
        error_of(own.queries, own.labels[1:] if second else own.labels),
        error_of(own.queries[:, :4] if second else own.queries, own.labels),
        error_of(own.queries.double() if second else own.queries, own.labels),
        error_of(own.queries, everyone),
        error_of(own.queries[:0], own.labels[:0]),
        error_of(own.queries, own.labels, own.gallery, own.gallery_labels),
        second_derivative(),
    ]
    return found


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return in_processes(several, 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_processes_compute_the_loss_of_the_whole_batch(
    found: list[dict[str, Any]], dtype: torch.dtype, tolerance: float
) -> None:
    assert_same([each[str(dtype)] for each in found], SIZES, dtype, tolerance)


def test_distributed_data_parallel_has_the_gradients_of_one_process(found: list[dict[str, Any]]) -> None:
    assert_same_gradients([each["in training"] for each in found], SIZES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_gathered_as_it_comes(found: list[dict[str, Any]], dtype: torch.dtype) -> None:
    value, gradient, _ = Case(relatives="keep").solve(whole_of(SIZES, dtype), gather=False)
    both = [each[str(dtype)] for each in found]
    assert both[0][0] == both[1][0]
    torch.testing.assert_close(both[0][0], value, rtol=1e-6, atol=1e-6)
    gathered = torch.cat([each[1] for each in both])
    assert gathered.dtype == dtype
    assert (gathered - gradient).float().norm() <= 2 * torch.finfo(dtype).eps * gradient.float().norm()


def test_without_a_generator_the_first_process_draws(found: list[dict[str, Any]]) -> None:
    whole = whole_of(SIZES, torch.float32)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
    expected = RecallAtKLoss(**SETTINGS, mixup=SimilarityMixup())(whole.queries, whole.labels, generator=generator)
    (first, after), (second, _) = (each["global state"] for each in found)
    assert first == second == pytest.approx(float(expected), rel=1e-6)
    assert after == torch.rand(())


def test_without_the_flag_each_process_has_its_own_loss(found: list[dict[str, Any]]) -> None:
    """Of which the mean is another."""
    own = [each["apart"] for each in found]
    for number, value in enumerate(own):
        part = own_of(number, SIZES[number], torch.float32)
        assert value == RecallAtKLoss(**SETTINGS)(part.queries, part.labels)
    whole = whole_of(SIZES, torch.float32)
    assert abs(sum(own) / 2 - RecallAtKLoss(**SETTINGS)(whole.queries, whole.labels)) > 0.01


def test_mistakes_are_raised_in_all(found: list[dict[str, Any]]) -> None:
    one, other = (each["errors"] for each in found)
    assert one == other
    for message, expected in zip(
        one,
        [
            "process 1: 1 of 8 rows of the embeddings hold NaN",
            "process 1: labels have shape (7,)",
            "different kinds: process 0: 5 dimensions in float32, process 1: 4 dimensions in float32",
            "process 1: 5 dimensions in float64",
            "no query has a positive in this batch",
            "no query has a positive in this batch",
            "leave out the gallery or the mixup",
            "second derivatives (create_graph=True) do not go from process to process",
        ],
        strict=True,
    ):
        assert expected in message


@pytest.mark.skipif(find_spec("pytorch_lightning") is None, reason="needs pytorch-lightning")
def test_lightning_has_the_gradients_of_one_process(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.loss.lightning_program", str(tmp_path)]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert_same_gradients([torch.load(tmp_path / f"{number}.pt") for number in range(2)], SIZES)


def test_alone_the_flag_changes_nothing() -> None:
    whole = whole_of((20,))
    assert Case(relatives="keep").solve(whole, gather=True)[0] == Case(relatives="keep").solve(whole, gather=False)[0]
    with pytest.raises(InputError, match="gather_across_devices=1: True or False"):
        RecallAtKLoss(gather_across_devices=1)  # type: ignore[arg-type]


def without_positives() -> tuple[float, float, float]:
    """Return the losses of a batch without positives, and of one whose positives are in the other process."""
    loss = RecallAtKLoss(gather_across_devices=True, on_no_positives="zero")
    own = torch.full((3, 4), 1.0, requires_grad=True)
    labels = torch.arange(3) + 3 * processes.number()
    with pytest.warns(UserWarning, match="no query has a positive"):
        nothing = loss(own, labels)
    nothing.backward()
    assert own.grad is not None
    return nothing.item(), own.grad.abs().sum().item(), loss(own, torch.arange(3)).item()


def test_a_batch_without_positives_is_zero_in_all_processes() -> None:
    first, second = in_processes(without_positives, 2)
    assert first == second
    assert first[:2] == (0.0, 0.0)
    assert first[2] > 0
