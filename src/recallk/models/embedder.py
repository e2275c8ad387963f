"""Backbone + pooling + head: from 8-bit images to embeddings of unit length."""

import operator
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.core.text import one_line, shown
from recallk.data.chunks import read_chunks
from recallk.models.backbone import make_backbone, own_size
from recallk.models.pictures import Picture, Pictures, converted
from recallk.models.pooling import Pool
from recallk.models.settings import EmbedderSettings, read_settings
from recallk.models.views import TestView
from recallk.models.weights import fill, read_weights


class Embedder(nn.Module):
    """Embeds images: normalise -> timm backbone -> pooling -> LayerNorm -> Linear -> unit length.

    `embed` takes images as they come. Called as a module, in a training loop for example, it takes what `transform`
    gives: the test-time view of an image.

    >>> embedder = build(EmbedderSettings(backbone="test_resnet", image_size=32, embedding_size=8), "none").eval()
    >>> images = [np.zeros((40, 60, 3), np.uint8), np.linspace(0, 1, 2500).reshape(50, 50)]   # or paths, or PIL's
    >>> views = torch.stack([embedder.transform(image) for image in images])
    >>> views.shape, views.dtype
    (torch.Size([2, 3, 32, 32]), torch.uint8)
    >>> torch.allclose(embedder(views), embedder.embed(images), atol=1e-5)
    True
    """

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
        self.register_buffer("mean", torch.tensor(settings.mean)[:, None, None] * 255, persistent=False)
        self.register_buffer("std", torch.tensor(settings.std)[:, None, None] * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images `(B, 3, S, S)` uint8, as `transform` gives them, into embeddings `(B, D)` float32 of unit length.

        Raises InputError for anything else, such as floats that were normalised elsewhere.
        """
        self._check(images)
        try:
            features = self.backbone.forward_features((images - self.mean) / self.std)  # type: ignore[operator]
        except (AssertionError, RuntimeError) as error:
            if images.shape[-1] == self.settings.image_size:
                raise
            raise InputError(
                f"{self.settings.backbone} was built for images of {self.settings.image_size} pixels, these have "
                f"{images.shape[-1]} ({one_line(error)}); use embedder.transform"
            ) from None
        embeddings: Tensor = self.head(self.norm(self.pool(features)))
        return F.normalize(embeddings.float(), dim=1)

    def transform(self, image: Picture) -> Tensor:
        """Return the test-time view of one image as the network takes it, `(3, S, S)` uint8.

        `image` is a path, a PIL image, or pixels, as for `embed`. Raises InputError for what is no image.
        """
        return self._view([converted(image)])(0)

    @torch.no_grad()
    def embed(
        self,
        images: Iterable[Picture],
        *,
        chunk_size: int = 128,
        workers: int = 0,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Return `(N, D)` float32 embeddings of unit length, on the CPU, of images in the order given.

        Each image is a path, a PIL image, or pixels as an array or a tensor: `(H, W)` or `(H, W, C)`, with 1 (grey), 3
        (RGB) or 4 (RGB and alpha, laid on white) channels; uint8, bool, floats from 0 to 1, or uint16. A tensor whose
        first dimension is 1, 3 or 4 has its channels there. All kinds may be mixed.

        `workers` processes read the images (0: this one), `chunk_size` at a time; `advance` is told how many are done
        after each chunk. Dropout and batch norm are as at test, whatever mode the model is in, which stays as it is.
        Raises InputError, with the path or position, for what is missing, broken, or no image.
        """
        chunk_size = _whole_number("chunk_size", chunk_size, 1)
        workers = _whole_number("workers", workers, 0)
        pictures = Pictures(images)
        chunks = np.array_split(np.arange(len(pictures)), range(chunk_size, len(pictures), chunk_size))
        parts = []
        with _evaluating(self):
            for chunk in read_chunks(self._view(pictures), chunks if len(pictures) else [], workers):
                parts.append(self(chunk.to(self.mean.device)).cpu())
                advance(len(chunk))
        return torch.cat(parts) if parts else torch.empty(0, self.settings.embedding_size)

    def _view(self, images: Any) -> TestView:
        settings = self.settings
        return TestView(images, settings.resize, settings.image_size, settings.interpolation)

    def _check(self, images: Tensor) -> None:
        use = "use embedder.transform, or embedder.embed for whole files"
        if not isinstance(images, Tensor):
            raise InputError(f"images are {type(images).__name__}, a tensor (B, 3, S, S) uint8 is needed; {use}")
        square = images.ndim == 4 and images.shape[1] == 3 and images.shape[2] == images.shape[3]
        if images.dtype != torch.uint8 or not square:
            kind = str(images.dtype).removeprefix("torch.")
            raise InputError(f"images are {kind} {tuple(images.shape)}, uint8 (B, 3, S, S) is needed; {use}")


def build(settings: EmbedderSettings, weights: str) -> Embedder:
    """Build an embedder with `weights`: "pretrained" (timm's, from the model hub), "none", or a file for the backbone.

    Raises InputError for an unknown backbone, one that cannot embed images of this size, weights that cannot be
    fetched, or a file of another architecture.
    """
    backbone = make_backbone(settings, weights)
    if not hasattr(backbone, "num_features") or not hasattr(backbone, "forward_features"):
        raise InputError(f"backbone={settings.backbone}: gives no features of an image; choose another network")
    embedder = Embedder(settings, backbone)
    _try_out(embedder)
    return embedder


def load(run: str | os.PathLike[str]) -> Embedder:
    """Return the trained embedder of a run's folder, with its preprocessing, ready to embed.

    Raises InputError where the folder holds no finished model, or a damaged one.
    """
    if not isinstance(run, str | os.PathLike):
        raise InputError(f"load: the path of a run's folder is needed, not {type(run).__name__}")
    folder = Path(run)
    try:
        there = folder.is_dir()
    except OSError:
        there = False
    if not there:
        raise InputError(f"{shown(folder)}: no such run folder")
    config, weights = folder / "config.yaml", folder / "model.safetensors"
    for file in (config, weights):
        if not file.exists():
            raise InputError(f"{folder}: no {file.name} in this folder; is it the folder of a finished run?")
    settings = read_settings(config)
    state = read_weights(weights, "it is damaged: copy the run's folder again")
    embedder = build(settings, "none")
    fill(embedder, state, weights, settings.backbone, exact=True)
    return embedder.eval()


_counting = Lock()
_embedding: dict[nn.Module, tuple[int, list[tuple[nn.Module, bool]]]] = {}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Have every part of a module as at test inside; each has its own mode back after, whatever happens.

    Of several threads inside at a time the first to come keeps the modes, the last to go puts them back.
    """
    with _counting:
        users, modes = _embedding.get(module) or (0, [(part, part.training) for part in module.modules()])
        _embedding[module] = users + 1, modes
        module.eval()
    try:
        yield
    finally:
        with _counting:
            users, modes = _embedding.pop(module)
            if users > 1:
                _embedding[module] = users - 1, modes
            else:  # from the outside in; by `train`, where some networks drop what they remembered
                for part, training in modes:
                    if part.training != training:
                        part.train(training)


def _try_out(embedder: Embedder) -> None:
    """Raise InputError where the network cannot embed images of the size that is set.

    On the meta device, shapes alone, which costs next to nothing; networks that it cannot run are given one image.
    """
    images = torch.zeros(1, 3, embedder.settings.image_size, embedder.settings.image_size, dtype=torch.uint8)
    tensors = dict(embedder.named_parameters()) | dict(embedder.named_buffers())
    meta = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    with _evaluating(embedder), torch.no_grad():
        try:
            torch.func.functional_call(embedder, meta, (images.to("meta"),))
        except Exception:
            try:
                embedder(images)
            except Exception as error:
                own = own_size(embedder.settings.backbone)
                hint = f"; its own size is {own}" if own and own != images.shape[-1] else ""
                raise InputError(
                    f"backbone={embedder.settings.backbone} cannot embed images of image_size={images.shape[-1]} "
                    f"({one_line(error)}){hint}; choose another of the two"
                ) from None


def _whole_number(name: str, value: SupportsIndex, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{name}={value!r}: a whole number from {least}")
    return number
