"""The memory in which the first pass keeps activations for the second, and what that saves."""

from dataclasses import dataclass

from recallk.core import processes
from recallk.training.memory import MARGIN_ON_GPU, free_memory, left_by_an_item
from recallk.training.step_memory import Training, step_memory


@dataclass(frozen=True)
class KeptActivations:
    """The bytes in which activations are kept, and the share of a batch's items that they are expected to be of."""

    budget: int
    share: float

    @property
    def cost(self) -> float:
        """How long a step takes, a step with all of them kept being 1: a backward pass takes twice a forward pass."""
        return 1 + (1 - self.share) / 3


def kept_activations(training: Training) -> KeptActivations:
    """Return what is configured; by default, on CUDA, what is free, less a margin and what the step needs; else 0."""
    own_items = training.plan.items_per_step / processes.count()
    budget = _budget(training)
    if own_items <= training.chunk_size:  # a single chunk is embedded once
        return KeptActivations(budget, 1.0)
    if not budget:
        return KeptActivations(0, 0.0)
    needed = max(1, left_by_an_item(training.embedder, training.fabric)) * own_items
    return KeptActivations(budget, min(1.0, budget / needed))


def _budget(training: Training) -> int:
    given, device = training.config.activation_memory_gb, training.fabric.device
    if given is not None:
        return int(given * 2**30)
    if device.type != "cuda":
        return 0
    memory = step_memory(training)
    # of a chunk that is embedded again there are activations, and what its backward pass needs at a time
    needed = memory.parameters + memory.embeddings + 2 * memory.chunk
    return max(0, int((1 - MARGIN_ON_GPU) * free_memory(device)) - needed)
