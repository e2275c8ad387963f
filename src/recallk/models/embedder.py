"""Backbone + pooling + head: from 8-bit images to embeddings of unit length."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.data.chunks import read_chunks
from recallk.data.views import TestView
from recallk.models.pooling import Pool
from recallk.models.settings import EmbedderSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for every backbone as in the paper


class Embedder(nn.Module):
    """Embeds images: normalise -> timm backbone -> pooling -> LayerNorm -> Linear -> unit length."""

    def __init__(self, settings: EmbedderSettings, backbone: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        channels = int(backbone.num_features)  # type: ignore[arg-type]
        self.pool = Pool(settings.pooling, channels, int(getattr(backbone, "num_prefix_tokens", 0)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, settings.embedding_size)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None] * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None] * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images `(B, 3, S, S)` uint8 into embeddings `(B, D)` float32 of unit length."""
        features = self.backbone.forward_features((images - self.mean) / self.std)  # type: ignore[operator]
        embeddings: Tensor = self.head(self.norm(self.pool(features)))
        return F.normalize(embeddings.float(), dim=1)

    @torch.inference_mode()
    def embed(
        self,
        images: Sequence[str | Path | NDArray[np.uint8]],
        *,
        chunk_size: int = 128,
        workers: int = 0,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Return `(N, D)` float32 embeddings of unit length, on the CPU, of image files (or pixels) in the order given.

        `workers` processes read the images (0: this one); `advance` is told how many are done after each chunk.
        Raises InputError, with the path, for a file that is missing, broken, or no image.
        """
        sources = [Path(image) if isinstance(image, str) else image for image in images]
        view = TestView(sources, self.settings.resize, self.settings.image_size, self.settings.interpolation)
        chunks = np.array_split(np.arange(len(sources)), range(chunk_size, len(sources), chunk_size))
        training, device = self.training, self.mean.device
        self.eval()
        parts = []
        for chunk in read_chunks(view, chunks if sources else [], workers):
            parts.append(self(chunk.to(device)).cpu())
            advance(len(chunk))
        self.train(training)
        return torch.cat(parts) if parts else torch.empty(0, self.settings.embedding_size)


def build(settings: EmbedderSettings, weights: str) -> Embedder:
    """Build an embedder with `weights`: "pretrained" (timm's, from the model hub), "none", or a file for the backbone.

    Raises InputError for an unknown backbone, weights that cannot be fetched, or a file of another architecture.
    """
    if not timm.is_model(settings.backbone):
        near = timm.list_models(f"*{settings.backbone.split('.')[0].split('_')[0]}*")[:5]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(f"backbone={settings.backbone}: timm has no model of this name{hint}")
    backbone = _backbone(settings, pretrained=weights == "pretrained")
    if weights not in ("pretrained", "none"):
        _load_backbone(backbone, Path(weights).expanduser(), settings.backbone)
    return Embedder(settings, backbone)


def load(run: str | Path) -> Embedder:
    """Return the trained embedder of a run's folder, with its preprocessing, ready to embed.

    Raises InputError where the folder holds no finished model.
    """
    run = Path(run)
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    config, weights = run / "config.yaml", run / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise InputError(f"{run}: no {file.name} in this folder; is it the folder of a finished run?")
    try:
        written: dict[str, Any] = yaml.safe_load(config.read_text())
        settings = EmbedderSettings(**{key: written[key] for key in EmbedderSettings.model_fields})
    except (yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        raise InputError(f"{config}: not the configuration of a run ({type(error).__name__})") from None
    embedder = build(settings, "none")
    try:
        embedder.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError):
        raise InputError(f"{weights}: damaged, or of another architecture than {settings.backbone}") from None
    return embedder.eval()


def _backbone(settings: EmbedderSettings, pretrained: bool) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = timm.create_model(
                    settings.backbone, pretrained=pretrained, img_size=settings.image_size, **options
                )
            except TypeError:  # the fully convolutional ones take any size without being told
                model = timm.create_model(settings.backbone, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise InputError(f"backbone={settings.backbone}: timm cannot build it ({_first_line(error)})") from None
        raise InputError(
            f"the weights of {settings.backbone} could not be fetched ({_first_line(error)}); without a network, "
            f"give a file (--weights PATH) or start from random ones (--weights none)"
        ) from None
    module: nn.Module = model
    return module


def _load_backbone(backbone: nn.Module, path: Path, name: str) -> None:
    if not path.is_file():
        raise InputError(f"weights={path}: no such file; give a file, 'pretrained' or 'none'")
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a file of weights ({_first_line(error)})") from None
    own = backbone.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    other = [key for key in own if key in state and state[key].shape != own[key].shape]
    if missing or other:
        what = f"{len(missing)} of {len(own)} tensors are missing" if missing else f"{len(other)} have other shapes"
        raise InputError(f"{path}: weights of another architecture than {name} ({what}, first {(missing + other)[0]})")
    backbone.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
