"""Losses and batches to try them on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.losses.build import build_loss
from recallk.losses.registry import CATALOGUE
from recallk.runs.config import make_config

NAMES = list(CATALOGUE)
CLASSES, ITEMS = 6, 4


def with_short_memory(name: str, size: int = 40) -> str | dict[str, Any]:
    """The loss, with a memory that is full after two or three batches."""
    return {"name": name, "memory_size": size} if "memory_size" in CATALOGUE[name].settings else name


def module(name: str, **settings: Any) -> nn.Module:
    loss = {"name": name, **settings} if settings else with_short_memory(name)
    return build_loss(make_config({"data": "x", "embedding_size": 8, "loss": loss}), CLASSES, 8, 1)


def batch(seed: int, dimensions: int = 8) -> tuple[Tensor, Tensor]:
    """Unit rows (24, D) that lean towards their classes, and shuffled labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(ITEMS)[torch.randperm(CLASSES * ITEMS, generator=generator)]
    centres = torch.randn(CLASSES, dimensions, generator=generator)
    rows = centres[labels] + torch.randn(len(labels), dimensions, generator=generator)
    return F.normalize(rows, dim=1), labels


def uneven(seed: int, items: int, classes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Unit rows (items, D) in float64 and labels of at most so many classes, of any size, in any order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (items,), generator=generator)
    rows = torch.randn(items, dimensions, generator=generator, dtype=torch.float64)
    return F.normalize(rows, dim=1), labels


def with_gradients(loss_of: Callable[..., Tensor], *leaves: Tensor) -> tuple[Tensor, ...]:
    """The loss of the leaves, and its gradient by each; of zeros where it does not depend on one."""
    own = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    loss = loss_of(*own)
    if not loss.requires_grad:
        return (loss, *(torch.zeros_like(leaf) for leaf in own))
    return (loss.detach(), *torch.autograd.grad(loss, own, allow_unused=True, materialize_grads=True))
