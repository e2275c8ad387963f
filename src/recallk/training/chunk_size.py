"""How many items a chunk may hold, where the configuration leaves it open: found by trial before a run begins."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from recallk.core import processes
from recallk.core.errors import InputError, is_out_of_memory
from recallk.core.group import place
from recallk.runs.train_config import TrainConfig
from recallk.training.large_batch import large_batch_backward
from recallk.training.memory import MARGIN_ON_GPU, free_memory
from recallk.training.plan import Plan
from recallk.training.precision import InPrecision, SeededChunk
from recallk.training.replay import Buffers, Gradients
from recallk.training.step_memory import Training, step_memory

MARGIN_ON_CPU = 0.5
"""There the activations are estimated, not tried: what the backward pass needs at a time, the readers and the decoded
items come on top of them."""
MOST_ON_CPU = 128
"""A larger one is no faster there: ResNet-18 at 64 pixels, forward and backward on one core, took 56 ms an image alone,
14.5 in chunks of 16, 11.4 of 32, 11.3 of 128 and 11.7 of 256 (processor time, the best of three)."""


@dataclass(frozen=True)
class FoundChunkSize:
    """The size of chunks that a trial has found, and words for it."""

    size: int
    how: str


def least_chunk(config: TrainConfig) -> int:
    """Return the fewest items of a chunk that a run may have: two where each chunk is normalised by itself."""
    return 2 if config.batch_norm_policy == "per-chunk" else 1


def require_work_for_all(plan: Plan) -> None:
    """Raise InputError where a batch has fewer chunks than there are processes: some would have nothing to do."""
    if plan.config.chunk_size == "auto":
        return  # it is found so that they have
    chunks, count = math.ceil(plan.items_per_step / plan.config.chunk_size), processes.count()
    if chunks < count:
        raise InputError(
            f"a batch of {plan.items_per_step:,} {plan.data.train.noun} is cut into {chunks} chunks, for {count} "
            f"processes: lower chunk_size to {plan.items_per_step // count}, or take fewer devices"
        )


def find_chunk_size(training: Training) -> FoundChunkSize:
    """Find the largest chunk that fits into every process's free memory, and leaves work for each; all call this."""
    device, least = training.fabric.device, least_chunk(training.config)
    share = max(least, training.plan.items_per_step // processes.count())
    on_gpu = device.type == "cuda"
    most = share if on_gpu else min(share, max(least, MOST_ON_CPU))
    fits = _tried(training) if on_gpu else _estimated(training)
    size = -processes.largest(-largest_that_fits(fits, least, most))[0]
    margin = f"{MARGIN_ON_GPU if on_gpu else MARGIN_ON_CPU:.0%} of the free memory is left"
    if size < most:
        return FoundChunkSize(size, f"the largest found to fit, {margin}")
    reason = "the share of a process" if size == share else "more is no faster on a CPU"
    return FoundChunkSize(size, f"{reason}; {margin}")


def largest_that_fits(fits: Callable[[int], bool], least: int, most: int) -> int:
    """Return the last that fits of `least`, twice as many, and so on, up to `most`; `least` where none does.

    >>> largest_that_fits(lambda size: size <= 50, 1, 1000), largest_that_fits(lambda size: size <= 50, 2, 40)
    (32, 40)

    """
    found = size = least
    while fits(size):
        found = size
        if size == most:
            break
        size = min(2 * size, most)
    return found


def _estimated(training: Training) -> Callable[[int], bool]:
    """Judge by what an item leaves behind, and what is free to each process of this machine."""
    memory, own = step_memory(training), place()
    free = free_memory(training.fabric.device) / (1 if own is None else own.on_machine)
    budget = (1 - MARGIN_ON_CPU) * (free - memory.parameters - memory.embeddings)
    items = min(training.chunk_size, training.plan.items_per_step)
    return lambda size: size * memory.chunk <= items * budget


def _tried(training: Training) -> Callable[[int], bool]:
    """Embed and back-propagate chunks without content; see whether memory runs out, or falls below the margin."""
    memory, device = step_memory(training), training.fabric.device
    # what is not there yet: gradients and moments, the batch's embeddings
    budget = (1 - MARGIN_ON_GPU) * free_memory(device) - memory.parameters - memory.embeddings

    def fits(size: int) -> bool:
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return goes_through(training, size) and torch.cuda.max_memory_allocated(device) - before <= budget

    return fits


def goes_through(training: Training, size: int) -> bool:
    """Return whether a chunk goes through the network and back before memory runs out; nothing else is left of it."""
    embedder, device = training.embedder, training.fabric.device
    buffers, gradients = Buffers(embedder), Gradients(embedder.parameters())
    network, chunk = InPrecision(embedder, training.fabric), SeededChunk(0, embedder.example(size))
    policy = training.config.batch_norm_policy
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            large_batch_backward(network, [chunk], None, lambda found, _: found.sum(), batch_norm=policy)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    else:
        return True
    finally:
        buffers.restore()
        gradients.restore()


def halved(size: int, plan: Plan, step: int, shortage: str) -> tuple[int, str]:
    """Return half of a size at which a step ran out of memory, and a note. Raises InputError where it is the least."""
    size, least = min(size, plan.items_per_step), least_chunk(plan.config)
    if size <= least:
        lower = {"images": "lower --image-size, or ", "texts": "lower --max-length, or "}.get(plan.data.train.noun, "")
        raise processes.SharedError(
            f"step {step}: out of memory ({shortage}) in chunks of {size}; {lower}take a smaller network"
        )
    size = max(least, size // 2)
    seen = ", which batch norm sees" if plan.config.batch_norm_policy == "per-chunk" else ": the result stays the same"
    return size, f"out of memory ({shortage}); repeated, and from here on, in chunks of {size}{seen}"
