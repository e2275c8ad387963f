"""The device, and the numbers that the network computes with there: float32, or in part float16 or bfloat16."""

import logging
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from recallk.core.errors import InputError
from recallk.core.group import local_device, place
from recallk.core.processes import SharedError
from recallk.core.text import one_line
from recallk.runs.train_config import TrainConfig
from recallk.training.setbacks import NotFiniteError

log = logging.getLogger("recallk")

SMALLEST_SCALE = 2.0**-14
"""A scale of the loss below this has been halved thirty times: the gradients are not finite at any scale."""


def fabric_of(config: TrainConfig) -> tuple[Fabric, GradScaler | None]:
    """Return Fabric on the configured device with the configured precision, and what scales the loss, if anything does.

    "16-mixed" is float16 with a scaled loss on a CPU too, where Fabric by itself would take bfloat16. Raises InputError
    where the device is not there.
    """
    alone = LightningEnvironment()  # the processes have found each other without Fabric: `core.group`
    try:
        fabric = Fabric(accelerator=config.accelerator, devices=1, plugins=[alone])
        log.debug("the network computes on %s, in %s", fabric.device, config.precision)
        device = fabric.device.type
        devices: int | list[int] = [local_device(place())] if device == "cuda" else 1
        scaler = GradScaler(device) if config.precision == "16-mixed" else None
        if config.precision == "32-true":
            return Fabric(accelerator=config.accelerator, devices=devices, plugins=[alone]), None
        plugin = MixedPrecision(config.precision, device, scaler=scaler)
        return Fabric(accelerator=config.accelerator, devices=devices, plugins=[plugin, alone]), scaler
    except (ValueError, RuntimeError) as error:
        if config.accelerator in ("cuda", "mps"):
            raise InputError(f"accelerator={config.accelerator}: no such device here; take --accelerator cpu") from None
        raise InputError(f"accelerator={config.accelerator}: {one_line(error)}") from None


class SeededChunk(NamedTuple):
    """A chunk, and the seed of whatever is drawn while it is embedded."""

    seed: int
    content: Any


class InPrecision(nn.Module):
    """A network that computes in Fabric's precision; what comes after it, the loss above all, in float32."""

    def __init__(self, network: nn.Module, fabric: Fabric) -> None:
        super().__init__()
        self.network = network
        self._fabric = fabric

    def forward(self, chunk: SeededChunk) -> Tensor:
        """Return the network's embeddings `(n, D)` of a chunk's content, whatever the network takes."""
        # for all kinds of devices it takes a millisecond
        seed = torch.default_generator.manual_seed if self._fabric.device.type == "cpu" else torch.manual_seed
        seed(chunk.seed)
        with self._fabric.autocast():
            embeddings: Tensor = self.network(chunk.content)
        return embeddings


def check_gradients(optimizer: Optimizer, scaler: GradScaler | None, step: int) -> None:
    """Raise NotFiniteError where the gradients are not finite.

    With a scaler such a step is left out, as some must be at the start, and InputError is raised where no scale fits.
    oneDNN leaves bfloat16 gradients of some convolutions over a single pixel unwritten: this finds them, too.
    """
    if scaler is not None:
        if scaler.get_scale() < SMALLEST_SCALE:
            raise SharedError(
                f"step {step}: the gradients are finite at no scale; take --precision bf16-mixed or 32-true"
            )
        return
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not bool(torch.isfinite(get_total_norm(gradients))):
        raise NotFiniteError("the gradients hold NaN or infinity", "take --precision 32-true")
