"""What a second pass over a batch needs as it was in the first, and what a failure has to leave as it was."""

import pickle
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import get_device_states, set_device_states


@dataclass(frozen=True)
class RandomState:
    """The global random states of Python, NumPy and PyTorch, and those of a model's devices."""

    python_and_numpy: bytes
    cpu: Tensor
    devices: list[int]
    on_devices: list[Tensor]


class RandomStates:
    """Reads and restores the global random states, on the CPU and wherever the model is."""

    def __init__(self, model: nn.Module) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        devices = {tensor.device for tensor in tensors if tensor.device.type not in ("cpu", "meta")}
        self._at = [torch.empty(0, device=device) for device in devices]
        self._latest: RandomState | None = None

    def now(self) -> RandomState:
        """Return the present states; what did not change since the last call takes no further memory."""
        python_and_numpy = pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))
        cpu = torch.get_rng_state()
        before = self._latest
        if before is not None and before.python_and_numpy == python_and_numpy:
            python_and_numpy = before.python_and_numpy
        if before is not None and torch.equal(before.cpu, cpu):
            cpu = before.cpu
        self._latest = RandomState(python_and_numpy, cpu, *(get_device_states(*self._at) if self._at else ([], [])))
        return self._latest

    def restore(self, state: RandomState) -> None:
        """Go back to earlier states."""
        python, in_numpy = pickle.loads(state.python_and_numpy)  # written above, in this process
        random.setstate(python)
        np.random.set_state(in_numpy)
        torch.set_rng_state(state.cpu)
        if self._at:
            set_device_states(state.devices, state.on_devices, device_type=self._at[0].device.type)


class Restorable(Protocol):
    """What can be as it was before."""

    def restore(self) -> None:
        """Make it so."""


class Buffers:
    """A copy of a model's buffers: running statistics, counters, whatever else a forward pass moves."""

    def __init__(self, model: nn.Module) -> None:
        self._values = [
            (module, name, buffer, buffer.detach().clone())
            for module in model.modules()
            if not (isinstance(module, _NormBase) and not module.training)  # these do not move
            for name, buffer in module._buffers.items()
            if buffer is not None and not buffer.is_inference()
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Give every buffer the value that it had, also where another tensor took its place."""
        for module, name, buffer, value in self._values:
            buffer.copy_(value)
            module._buffers[name] = buffer


class Gradients:
    """What `grad` is in some tensors; a copy is made of gradients that are there, not of those still to come."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._before = [(t, t.grad, None if t.grad is None else t.grad.clone()) for t in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Give every tensor the gradient that it had, or none."""
        for tensor, gradient, value in self._before:
            if gradient is not None and value is not None:
                gradient.copy_(value)
            tensor.grad = gradient


def gradient_leaves(result: Tensor) -> list[Tensor]:
    """Return the tensors that a backward pass from `result` would leave a gradient in."""
    found, seen, ahead = [], set(), [result.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            found.append(leaf)
        ahead.extend(following for following, _ in node.next_functions)
    return found


@contextmanager
def undone_on_failure() -> Iterator[list[Restorable]]:
    """Restore what is put into the list, should anything be raised."""
    undo: list[Restorable] = []
    try:
        yield undo
    except BaseException:
        for each in undo:
            each.restore()
        raise


@contextmanager
def ending_as_now(random_states: RandomStates, model: nn.Module) -> Iterator[None]:
    """Go back to the present random states and buffers in the end."""
    state, buffers = random_states.now(), Buffers(model)
    try:
        yield
    finally:
        buffers.restore()
        random_states.restore(state)
