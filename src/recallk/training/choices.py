"""What a run is trained with where nobody says: chosen by how many items and classes there are to train on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recallk.runs.train_config import TrainConfig
from recallk.training.sampler import Sampler, WholeSet

STEPS_AN_EPOCH = 12
"""A batch is so large that an epoch has about as many steps; `SMALLEST` and `LARGEST` are its bounds, in items."""
SMALLEST, LARGEST = 64, 4_000
LEAST_STEPS = 400
"""A run has at least so many, and goes through the data `EPOCHS` times at least."""
EPOCHS, MOST_EPOCHS = 30, 1_000
WARMUP = 0.05
EVALUATIONS = 30


@dataclass(frozen=True)
class Choice:
    """A key that was chosen, and why, in words."""

    key: str
    value: object
    why: str


def choose_batch(config: TrainConfig, labels: NDArray[np.int64]) -> list[Choice]:
    """Return the batch size, where the configuration leaves it open."""
    if config.batch_size is not None:
        return []
    each = config.items_per_class
    drawable = int((np.bincount(labels) >= each).sum())
    wanted = min(max(len(labels) // STEPS_AN_EPOCH, SMALLEST), LARGEST)
    classes = max(2, min(wanted // each, drawable))
    size, why = classes * each, f"an epoch of {len(labels):,} then has about {STEPS_AN_EPOCH} steps"
    if classes == drawable:
        why = f"all {drawable:,} classes that have {each}"
    elif size <= SMALLEST:
        why = f"{len(labels):,} are few, and smaller batches have too little to rank"
    elif size >= LARGEST - each:
        why = "the largest unless you say more: the paper's"
    return [Choice("batch_size", size, why)]


def choose_length(config: TrainConfig, sampler: Sampler | WholeSet) -> list[Choice]:
    """Return epochs, warm-up and how often to evaluate, where the configuration leaves them open."""
    choices = []
    steps = max(1, sampler.batches(1))
    epochs = config.epochs
    if epochs is None:
        epochs = min(max(EPOCHS, math.ceil(LEAST_STEPS / steps)), MOST_EPOCHS)
        enough = epochs == EPOCHS
        why = f"{steps * epochs:,} steps" if enough else f"fewer would be less than {LEAST_STEPS} steps"
        choices.append(Choice("epochs", epochs, why))
    if config.warmup_steps is None:
        warmup = round(WARMUP * steps * epochs)
        choices.append(Choice("warmup_steps", warmup, f"{WARMUP:.0%} of all steps"))
    if config.evaluate_every is None:
        every = max(1, round(epochs / EVALUATIONS))
        choices.append(Choice("evaluate_every", every, f"about {EVALUATIONS} times, or after each epoch"))
    return choices


def with_choices(config: TrainConfig, choices: list[Choice]) -> TrainConfig:
    """Return the configuration with what was chosen."""
    values: dict[str, Any] = {choice.key: choice.value for choice in choices}
    return config.model_copy(update=values)
