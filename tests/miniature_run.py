"""Runs of a second that can be watched: what the network is shown, what it learns from, what the optimiser does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from recallk.losses.build import build_loss
from recallk.models.image_embedder import build_image_embedder as build
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, MeasurementKind, Row, Step
from recallk.runs.image_config import ImageTrainConfig
from recallk.training.plan import Plan, prepare
from recallk.training.trainer import Trainer
from tests.configs import image_config
from tests.rows import measured, steps

SMALL: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "none",
    "batch_norm": "per-chunk",
    "embedding_size": 8,
    "image_size": 16,
    "resize": 16,
    "crop_scale": (0.5, 1.0),
    "batch_size": 8,
    "items_per_class": 2,
    "chunk_size": 4,
    "epochs": 1,
    "learning_rate": 1e-2,
    "select": "test",
    "workers": 0,
    "accelerator": "cpu",
}
SIDE = 24


def noise(random: np.random.Generator) -> Any:
    """Return a picture like no other."""
    return random.integers(0, 255, (SIDE, SIDE))


def ramp(_: np.random.Generator) -> Any:
    """Return a picture that grows lighter from left to right."""
    return np.tile(np.linspace(0, 255, SIDE), (SIDE, 1))


def edge(_: np.random.Generator) -> Any:
    """Return a picture that is dark on the left, and light on the right."""
    return np.tile(np.where(np.arange(SIDE) < SIDE // 2, 64, 192), (SIDE, 1))


def frame(_: np.random.Generator) -> Any:
    """Return a white picture in a black frame."""
    pixels = np.zeros((SIDE, SIDE))
    pixels[3:-3, 3:-3] = 255
    return pixels


def white(_: np.random.Generator) -> Any:
    """Return a white picture."""
    return np.full((SIDE, SIDE), 255)


def wide(random: np.random.Generator) -> Any:
    """Return a picture twice as wide as high."""
    return random.integers(0, 255, (SIDE, 2 * SIDE))


PICTURES: dict[str, Callable[[np.random.Generator], Any]] = {
    f.__name__: f for f in (noise, ramp, edge, frame, white, wide)
}


@dataclass
class Seen:
    """What was seen of a run, step by step."""

    before: dict[str, Tensor]
    after: dict[str, Tensor] = field(default_factory=dict)  # of the first step
    rows: list[Row] = field(default_factory=list)
    chunks: list[Tensor] = field(default_factory=list)  # (n, 3, S, S) uint8, as the network got them
    labels: list[Tensor] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)  # of each group of parameters
    precisions: set[torch.dtype] = field(default_factory=set)  # of the first layer's results
    readers: int = 0

    def moved(self, name: str) -> Tensor:
        """Return how far the first step moved each element of a tensor of the network."""
        return self.after[name] - self.before[name]

    @property
    def steps(self) -> list[Step]:
        """The rows of steps."""
        return steps(self.rows)

    def of(self, kind: MeasurementKind) -> list[Measurement]:
        """Return the measurements of a kind after the untrained network's."""
        return [row for row in measured(self.rows, kind) if row.epoch]


class Miniature:
    """Pictures, weights and runs below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs = 0

    def data(self, picture: str = "noise", classes: int = 24, images: int = 4) -> Path:
        """Return a folder of classes whose images show all the same, or noise."""
        root = self.root / f"{picture}-{classes}-{images}"
        random = np.random.default_rng(0)
        for number in range(0 if root.exists() else classes):
            (root / f"{picture}{number:02}").mkdir(parents=True)
            for image in range(images):
                pixels = np.asarray(PICTURES[picture](random)).astype(np.uint8)
                Image.fromarray(pixels).convert("RGB").save(root / f"{picture}{number:02}" / f"{image}.png")
        return root

    @cached_property
    def weights(self) -> Path:
        """A file of weights for the backbone: of a network of another seed."""
        torch.manual_seed(77)
        path = self.root / "weights.safetensors"
        save_file(build(self.config(), "none").backbone.state_dict(), path)
        return path

    def config(self, picture: str = "noise", **changes: Any) -> ImageTrainConfig:
        """Return the small configuration with changes; `weights="FILE"` and `data="ramp"` stand for real paths."""
        return image_config(self.values(picture) | {key: self.real(key, value) for key, value in changes.items()})

    def values(self, picture: str = "noise") -> dict[str, Any]:
        """Return the keys that are the same for all."""
        return SMALL | {"data": str(self.data(picture))}

    def real(self, key: str, value: Any) -> Any:
        """Return a value of a key, a path where it stands for one."""
        if key == "weights" and value == "FILE":
            return str(self.weights)
        return str(self.data(value)) if key == "data" and value in PICTURES else value

    def plan(self, **changes: Any) -> Plan:
        """Return the plan of the run, nothing trained yet."""
        return prepare(self.config(**changes))

    def loss(self, **changes: Any) -> nn.Module:
        """Return the loss of the run."""
        config = self.config(**changes)
        return build_loss(config, 6, config.embedding_size, config.seed)

    def shown(self, picture: str, **changes: Any) -> tuple[Tensor, Tensor]:
        """Return a picture as the embedder gets it, `(3, S, S)` uint8, and as its first layer does."""
        config, seen = self.config(**changes), list[Tensor]()
        embedder = build(config, "none")
        convolution = next(module for module in embedder.modules() if isinstance(module, nn.Conv2d))
        for module in (embedder, convolution):
            module.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].clone()))
        seen.clear()
        embedder.embed([next(self.data(picture).rglob("*.png"))])
        return seen[0], seen[1]

    def watch(self, picture: str = "noise", steps: int | None = None, **changes: Any) -> Seen:
        """Train, to the end or for so many steps."""
        self._runs += 1
        plan = prepare(self.config(picture, **changes))
        trainer = Trainer(plan, RunFolder(self.root / f"run-{self._runs}"))
        embedder = trainer.embedder
        seen = Seen({name: value.clone() for name, value in embedder.state_dict().items()})
        first = next(module for module in embedder.modules() if isinstance(module, nn.Conv2d))
        embedder.register_forward_pre_hook(lambda m, given: seen.chunks.append(given[0]) if m.training else None)
        first.register_forward_hook(lambda m, _, out: seen.precisions.add(out.dtype) if m.training else None)
        trainer.loss.register_forward_pre_hook(lambda _, given: seen.labels.append(given[1]))
        rows, others = trainer.rows(), set(active_children())
        for row in rows:
            seen.rows.append(row)
            if not isinstance(row, Step):
                continue
            seen.rates.append([group["lr"] for group in trainer.optimizer.param_groups])
            seen.readers = max(seen.readers, len(set(active_children()) - others))
            seen.after = seen.after or {name: value.clone() for name, value in embedder.state_dict().items()}
            if len(seen.rates) == steps:
                rows.close()  # type: ignore[attr-defined]
        return seen
