"""What is trained, and how fast: the groups of parameters that the optimiser steps."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from recallk.models.embedder import Embedder
from recallk.models.pooling import GeM
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.train_config import TrainConfig


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike: at `rate_factor` times the learning rate."""

    parameters: list[nn.Parameter]
    rate_factor: float
    weight_decay: float

    @property
    def options(self) -> dict[str, Any]:
        """As an optimiser takes it."""
        return {"params": self.parameters, "weight_decay": self.weight_decay}


def parameter_groups(embedder: Embedder, loss: nn.Module, config: TrainConfig) -> list[Group]:
    """Return the network's parameters, the power of its pooling where that is trained otherwise, and the loss's."""
    network = list(embedder.parameters())
    images = config if isinstance(config, ImageTrainConfig) else None
    if images is not None and images.trained_blocks is not None:  # else all, frozen too: a checkpoint numbers them
        network = [parameter for parameter in network if parameter.requires_grad]
    groups = [Group(network, 1.0, config.weight_decay)]
    if images is not None and (images.pooling_rate_factor != 1 or images.pooling_weight_decay is not None):
        power = [part.p for part in embedder.modules() if isinstance(part, GeM)]
        others = [parameter for parameter in network if all(parameter is not p for p in power)]
        decay = config.weight_decay if images.pooling_weight_decay is None else images.pooling_weight_decay
        groups = [Group(others, 1.0, config.weight_decay), Group(power, images.pooling_rate_factor, decay)]
    if own := list(loss.parameters()):
        groups.append(Group(own, config.loss_rate_factor, 0.0))  # decay would draw a margin's boundary to zero
    return groups


def optimizer_of(embedder: Embedder, loss: nn.Module, config: TrainConfig) -> tuple[Optimizer, list[float]]:
    """Return the configured optimiser of all groups, and their rate factors."""
    groups = parameter_groups(embedder, loss, config)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind([group.options for group in groups], lr=config.learning_rate), [group.rate_factor for group in groups]
