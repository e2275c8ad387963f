"""Backbone + pooling + head: from 8-bit images to embeddings of unit length."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.models.backbone import make_backbone, own_size
from recallk.models.embedder import Embedder, evaluating
from recallk.models.pictures import Picture, Pictures, converted
from recallk.models.pooling import Pool
from recallk.models.settings import Augmentation, EmbedderSettings
from recallk.models.views import TestViews, TrainViews


class ImageEmbedder(Embedder):
    """Embeds images: normalise -> timm backbone -> pooling -> LayerNorm -> Linear -> unit length.

    `embed` takes images as they come. Called as a module, in a training loop for example, it takes what `transform`
    gives: the test-time view of an image.

    >>> import numpy as np
    >>> settings = EmbedderSettings(backbone="test_resnet", image_size=32, embedding_size=8)
    >>> embedder = build_image_embedder(settings, "none").eval()
    >>> images = [np.zeros((40, 60, 3), np.uint8), np.linspace(0, 1, 2500).reshape(50, 50)]   # or paths, or PIL's
    >>> views = torch.stack([embedder.transform(image) for image in images])
    >>> views.shape, views.dtype
    (torch.Size([2, 3, 32, 32]), torch.uint8)
    >>> torch.allclose(embedder(views), embedder.embed(images), atol=1e-5)
    True
    """

    noun = "images"

    def __init__(self, settings: EmbedderSettings, backbone: nn.Module) -> None:
        super().__init__(settings)
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
        return self.preparation([converted(image)]).prepare(0)

    def listed(self, items: Iterable[Picture]) -> Pictures:
        """Return the images as a list. Raises InputError, naming the position, for what is none."""
        return Pictures(items)

    def preparation(self, items: Sequence[Any]) -> TestViews:
        """Return the test-time views of images: resized, the centre cropped."""
        settings = self.settings
        return TestViews(items, settings.resize, settings.image_size, settings.interpolation)

    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation, *, seed: int, epoch: int
    ) -> TrainViews:
        """Return the views of images in an epoch of training: cropped at random, perhaps mirrored."""
        return TrainViews(items, self.settings.image_size, self.settings.interpolation, augmentation, seed, epoch)

    def example(self, count: int) -> Tensor:
        """Return black images `(count, 3, S, S)` uint8."""
        return torch.zeros(count, 3, self.settings.image_size, self.settings.image_size, dtype=torch.uint8)

    def _check(self, images: Tensor) -> None:
        use = "use embedder.transform, or embedder.embed for whole files"
        if not isinstance(images, Tensor):
            raise InputError(f"images are {type(images).__name__}, a tensor (B, 3, S, S) uint8 is needed; {use}")
        square = images.ndim == 4 and images.shape[1] == 3 and images.shape[2] == images.shape[3]
        if images.dtype != torch.uint8 or not square:
            kind = str(images.dtype).removeprefix("torch.")
            raise InputError(f"images are {kind} {tuple(images.shape)}, uint8 (B, 3, S, S) is needed; {use}")


def build_image_embedder(settings: EmbedderSettings, weights: str) -> ImageEmbedder:
    """Build an embedder with `weights`: "pretrained" (timm's, from the model hub), "none", or a file for the backbone.

    Raises InputError for an unknown backbone, one that cannot embed images of this size, weights that cannot be
    fetched, or a file of another architecture.
    """
    backbone = make_backbone(settings, weights)
    if not hasattr(backbone, "num_features") or not hasattr(backbone, "forward_features"):
        raise InputError(f"backbone={settings.backbone}: gives no features of an image; choose another network")
    embedder = ImageEmbedder(settings, backbone)
    _try_out(embedder)
    return embedder


def _try_out(embedder: ImageEmbedder) -> None:
    """Raise InputError where the network cannot embed images of the size that is set.

    On the meta device, shapes alone, which costs next to nothing; networks that it cannot run are given one image.
    """
    images = embedder.example(1)
    tensors = dict(embedder.named_parameters()) | dict(embedder.named_buffers())
    meta = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    with evaluating(embedder), torch.no_grad():
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
