"""How much memory a step will take, measured on a few items."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recallk.core.devices import to_device
from recallk.models.embedder import evaluating
from recallk.training.trainer import Trainer

PER_PARAMETER = 16  # bytes: the weight, its gradient, two moments of Adam
PER_FROZEN_PARAMETER = 4  # the weight alone
EMBEDDING_COPIES = 4  # of a batch: embeddings, their unit rows, the gradients of both


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step holds on the device at once."""

    parameters: int
    chunk: int
    embeddings: int
    available: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.chunk + self.embeddings

    @property
    def fits(self) -> bool:
        """Whether the device has as much."""
        return self.total <= self.available


def step_memory(trainer: Trainer) -> StepMemory:
    """Estimate a step's memory from what two items leave behind for the backward pass, beyond what one leaves.

    What the backward pass itself needs at a time is not in it, nor what the libraries take.
    """
    config, plan = trainer.config, trainer.plan
    per_item = _left_behind(trainer, 2) - _left_behind(trainer, 1)
    parameters = sum(
        (PER_PARAMETER if p.requires_grad else PER_FROZEN_PARAMETER) * p.numel()
        for module in (trainer.embedder, trainer.loss)
        for p in module.parameters()
    )
    chunk = min(config.chunk_size, plan.items_per_step)
    return StepMemory(
        parameters=parameters,
        chunk=per_item * chunk,
        embeddings=EMBEDDING_COPIES * 4 * config.embedding_size * plan.items_per_step,
        available=_memory_of(trainer.fabric.device),
    )


def _left_behind(trainer: Trainer, items: int) -> int:
    """Return the bytes that a forward pass of some items leaves, the parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in trainer.embedder.parameters()}
    held: dict[int, int] = {}

    def hold(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    chunk = to_device(trainer.embedder.example(items), trainer.fabric.device)
    with (
        evaluating(trainer.embedder),  # one item is too few for batch norm in training
        torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor),
        trainer.fabric.autocast(),
    ):
        embeddings = trainer.embedder(chunk)
    del embeddings
    return sum(held.values())


def _memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
