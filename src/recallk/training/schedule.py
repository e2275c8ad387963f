"""The learning rate of a step."""

import math
from collections.abc import Sequence
from typing import Any

from recallk.runs.train_config import TrainConfig


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """Return the learning rate of step `step` of `steps`, in `epoch`, all counted from 1.

    A pure function, so that a restart needs no state.
    """
    # None, where the configuration was made into no plan: none
    warmup = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        passed_share = min(1.0, (step - 1) / steps)  # in a very long run, `steps` is what was to be expected
        return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * passed_share))
    if config.schedule == "exponential":
        assert config.epoch_factor is not None
        return config.learning_rate * warmup * float(config.epoch_factor ** (epoch - 1))
    passed = sum(epoch > milestone for milestone in config.milestones)
    return config.learning_rate * warmup * float(config.milestone_factor**passed)


def set_learning_rate(
    optimizer: Any, rate_factors: Sequence[float], config: TrainConfig, epoch: int, step: int, steps: int
) -> float:
    """Have an optimiser's groups take the learning rate of a step, each times its factor; return the rate."""
    rate = learning_rate(config, epoch, step, steps)
    for group, factor in zip(optimizer.param_groups, rate_factors, strict=True):
        group["lr"] = rate * factor
    return rate
