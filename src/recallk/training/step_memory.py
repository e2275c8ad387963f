"""How much memory a step will take, measured on a few items."""

from dataclasses import dataclass
from typing import Protocol

from lightning_fabric import Fabric
from torch import nn

from recallk.models.embedder import Embedder
from recallk.runs.train_config import TrainConfig
from recallk.training.memory import left_by_an_item, memory_of
from recallk.training.plan import Plan

PER_PARAMETER = 16  # bytes: the weight, its gradient, two moments of Adam
PER_FROZEN_PARAMETER = 4  # the weight alone
EMBEDDING_COPIES = 4  # of a batch: embeddings, their unit rows, the gradients of both


class Training(Protocol):
    """What a step's memory depends on: a `Trainer` has it."""

    embedder: Embedder
    loss: nn.Module
    fabric: Fabric
    config: TrainConfig
    plan: Plan
    chunk_size: int


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


def step_memory(training: Training) -> StepMemory:
    """Estimate a step's memory from what two items leave behind for the backward pass, beyond what one leaves.

    What the backward pass itself needs at a time is not in it, nor what the libraries take.
    """
    config, plan = training.config, training.plan
    parameters = sum(
        (PER_PARAMETER if p.requires_grad else PER_FROZEN_PARAMETER) * p.numel()
        for module in (training.embedder, training.loss)
        for p in module.parameters()
    )
    return StepMemory(
        parameters=parameters,
        chunk=left_by_an_item(training.embedder, training.fabric) * min(training.chunk_size, plan.items_per_step),
        embeddings=EMBEDDING_COPIES * 4 * config.embedding_size * plan.items_per_step,
        available=memory_of(training.fabric.device),
    )
