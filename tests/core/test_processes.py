"""What processes exchange, in groups of one, two and three."""

import pytest
import torch
from torch import Tensor

from recallk import InputError
from recallk.core import processes
from recallk.core.errors import is_out_of_memory
from tests.processes import in_processes


def rows_of(number: int) -> Tensor:
    """Process 0 has two rows, process 1 none, process 2 four, ..."""
    size = (2, 0, 4)[number]
    return 10.0 * number + torch.arange(3.0 * size).reshape(size, 3)


def gathered() -> tuple[Tensor, Tensor, int, bool, int, list[int]]:
    own, number = rows_of(processes.number()), processes.number()
    of_first, of_each = processes.of_first(number), processes.of_each(number)
    both = processes.gather(own), processes.gather_to_first(own)
    return *both, processes.count(), processes.is_first(), of_first, of_each


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_are_gathered_in_the_order_of_the_processes(count: int) -> None:
    expected = torch.cat([rows_of(number) for number in range(count)])
    for number, (rows, to_first, told, first, of_first, of_each) in enumerate(in_processes(gathered, count)):
        assert torch.equal(rows, expected)
        assert torch.equal(to_first, expected if number == 0 else expected[:0])
        assert (told, first, of_first, of_each) == (count, number == 0, 0, list(range(count)))


def gradients(parts: bool) -> tuple[Tensor, Tensor]:
    """A loss of all rows, weighted by their places, of which each process computes a part, or all."""
    own = rows_of(processes.number()).requires_grad_()
    rows = processes.gather_rows(own, parts=parts)
    weighted = rows.square().sum(1) * torch.arange(1.0, len(rows) + 1)
    own_part = weighted[processes.number() :: processes.count()]
    loss = processes.total(own_part.sum()) if parts else weighted.sum()
    torch.autograd.backward(loss)
    assert own.grad is not None
    return loss.detach(), own.grad / processes.count()  # as the mean over processes takes it


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_gradients_return_to_their_owners(parts: bool, count: int) -> None:
    whole = torch.cat([rows_of(number) for number in range(count)]).requires_grad_()
    loss = (whole.square().sum(1) * torch.arange(1.0, len(whole) + 1)).sum()
    torch.autograd.backward(loss)
    found = in_processes(gradients, count, parts)
    assert whole.grad is not None
    torch.testing.assert_close(torch.cat([grad for _, grad in found]), whole.grad)
    for value, _ in found:
        torch.testing.assert_close(value, loss.detach())


def failing(which: int) -> tuple[str, str]:
    try:
        with processes.failing_together():
            if processes.number() == which:
                raise InputError("no such file")
    except InputError as error:
        return type(error).__name__, str(error)
    return "", ""


def test_a_mistake_in_one_process_is_raised_in_all() -> None:
    assert in_processes(failing, 2, 0) == [("SharedError", "no such file")] * 2
    assert in_processes(failing, 2, 1) == [("SharedError", "process 1: no such file")] * 2
    assert in_processes(failing, 2, 2) == [("", "")] * 2


def shares() -> tuple[list[range], list[int]]:
    return [processes.share(parts) for parts in (0, 1, 5)], processes.largest(processes.number(), 7)


def test_shares_are_neighbours_and_all_there_is() -> None:
    found = in_processes(shares, 3)
    assert all(largest == [2, 7] for _, largest in found)
    for n, parts in enumerate((0, 1, 5)):
        assert [i for own, _ in found for i in own[n]] == list(range(parts))
        assert max(len(own[n]) for own, _ in found) - min(len(own[n]) for own, _ in found) <= 1


def leaving() -> str:
    if processes.number() == 1:
        return "gone"
    try:
        processes.gather(torch.ones(1, 1))
    except processes.LostProcessError as error:
        return str(error)
    return "waits"


def test_who_waits_for_a_process_that_is_gone_is_told() -> None:
    told, gone = in_processes(leaving, 2)
    assert told.startswith("another process of this run has ended")
    assert gone == "gone"


def test_alone_nothing_happens() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert processes.gather_rows(rows, parts=True) is rows
    assert processes.total(rows) is rows
    assert processes.is_alone()
    assert processes.from_first(lambda: 7) == 7
    with pytest.raises(InputError, match="no such file"), processes.failing_together():
        raise InputError("no such file")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")],
)
def test_memory_that_runs_out_is_no_process_that_is_lost(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(type(error)), processes._all_there():
        raise error
    with (
        pytest.raises(processes.LostProcessError, match=r"has ended; .* \(Connection closed\)"),
        processes._all_there(),
    ):
        raise RuntimeError("Connection closed")
