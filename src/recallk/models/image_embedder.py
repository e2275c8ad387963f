"""Backbone + pooling + head: from 8-bit images to embeddings of unit length."""

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.data.headers import Size
from recallk.data.item import File
from recallk.models.backbone import make_backbone, own_size, patch_size
from recallk.models.chunks import Preparation
from recallk.models.compiled import compiled
from recallk.models.embedder import Embedder, evaluating
from recallk.models.head import make_head
from recallk.models.pictures import Picture, Pictures, converted
from recallk.models.pooling import Pool
from recallk.models.scales import scaled
from recallk.models.settings import Augmentation, ImageSettings
from recallk.models.shaped_views import ShapedTestViews, ShapedTrainViews
from recallk.models.shapes import Shapes, find_shapes
from recallk.models.views import TestViews, TrainViews

_SMALL = 128 * 128  # pixels; up to so many, a network computes faster than shapes alone are found


class ImageEmbedder(Embedder):
    """Embeds images: normalise -> timm backbone -> pooling -> head -> unit length.

    The head is LayerNorm -> Linear, or, with `head=whitening`, unit length -> Linear, or nothing.

    `embed` takes images as they come. Called as a module, in a training loop for example, it takes what `transform`
    gives: the test-time view of an image.

    >>> import numpy as np
    >>> settings = ImageSettings(backbone="test_resnet", image_size=32, embedding_size=8)
    >>> embedder = build_image_embedder(settings, "none").eval()
    >>> images = [np.zeros((40, 60, 3), np.uint8), np.linspace(0, 1, 2500).reshape(50, 50)]   # or paths, or PIL's
    >>> views = torch.stack([embedder.transform(image) for image in images])
    >>> views.shape, views.dtype
    (torch.Size([2, 3, 32, 32]), torch.uint8)
    >>> torch.allclose(embedder(views), embedder.embed(images), atol=1e-5)
    True
    """

    noun = "images"
    settings_type = ImageSettings
    settings: ImageSettings

    def __init__(self, settings: ImageSettings, backbone: nn.Module) -> None:
        super().__init__(settings)
        self.backbone = backbone
        self.shapes = Shapes(settings.image_size)  # with image_shape=keep
        self._known_in_training: dict[File, Size] = {}
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._channels_last = False
        self.channels = channels = int(backbone.num_features)  # type: ignore[arg-type]
        self.pool = Pool(settings.pooling, channels, int(getattr(backbone, "num_prefix_tokens", 0)))
        self.norm, self.head = make_head(settings.head, channels, settings.embedding_size)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(settings.mean)[:, None, None] * 255, persistent=False)
        self.register_buffer("std", torch.tensor(settings.std)[:, None, None] * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images `(B, 3, S, S)` uint8, as `transform` gives them, into embeddings `(B, D)` float32 of unit length.

        With `image_shape=keep` they are `(B, 3, H, W)`. Raises InputError for anything else, such as floats that were
        normalised elsewhere.
        """
        self._check(images)
        try:
            return self._embed((images - self.mean) / self.std)
        except (AssertionError, RuntimeError, ValueError) as error:
            if (mistake := self._mistake(images, error)) is None:
                raise
            raise mistake from None

    def speed_up(self, *, compile_it: bool, channels_last: bool) -> None:
        """Compile the backbone, and lay out its weights and the images with the channels last."""
        if channels_last:
            self._channels_last = True
            self.to(memory_format=torch.channels_last)
        if compile_it:
            self._compiled = compiled(self.backbone.forward_features, self.mean.device)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The backbone's."""
        return self.settings.backbone

    @property
    def power_of_scales(self) -> float:
        """GeM's power where nothing follows the pooling, else 1."""
        gem = self.pool.gem
        return 1.0 if gem is None or self.settings.head != "none" else float(gem.p)

    def at_scale(self, images: Tensor, scale: float) -> Tensor:
        """Return the embeddings of images, as for `forward`, that are scaled, once they are normalised.

        Raises InputError where the network does not take images of the size that they then have.
        """
        self._check(images)
        keep, patch = self.settings.image_shape == "keep", patch_size(self.backbone)
        multiple, least = (self.shapes.multiple, self.shapes.least) if keep else (patch, patch)
        height, width = (scaled(side, scale, multiple, least) for side in images.shape[2:])
        normalised = (images - self.mean) / self.std
        try:
            return self._embed(F.interpolate(normalised, (height, width), mode="bilinear", align_corners=False))
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            if scale == 1:
                raise
            raise InputError(
                f"scales: {self.settings.backbone} cannot embed images at scale {scale:g}, of {height} x {width} "
                f"pixels ({one_line(error)}); leave this scale out"
            ) from None

    def without_head(self) -> "ImageEmbedder":
        """Return an embedder of the same network, its parameters shared, that gives the pooled features' directions."""
        bare = copy.copy(self)
        bare._modules = self._modules.copy()
        bare.norm, bare.head, bare.whitening = nn.Identity(), nn.Identity(), None
        bare.settings = self.settings.model_copy(update={"head": "none", "embedding_size": self.channels})
        return bare

    def _embed(self, normalised: Tensor) -> Tensor:
        if self._channels_last or normalised.device.type == "cpu":  # there always faster, or as fast
            normalised = normalised.contiguous(memory_format=torch.channels_last)
        features = (self._compiled or self.backbone.forward_features)(normalised)  # type: ignore[operator]
        embeddings: Tensor = self.head(self.norm(self.pool(features)))
        return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)

    def transform(self, image: Picture) -> Tensor:
        """Return the test-time view of one image as the network takes it, `(3, S, S)` or `(3, H, W)` uint8.

        `image` is a path, a PIL image, or pixels, as for `embed`. Raises InputError for what is no image.
        """
        return self.preparation([converted(image)]).prepare(0)

    def listed(self, items: Iterable[Picture]) -> Pictures:
        """Return the images as a list. Raises InputError, naming the position, for what is none."""
        return Pictures(items)

    def preparation(self, items: Sequence[Any]) -> TestViews | ShapedTestViews:
        """Return the test-time views of images: resized, the centre cropped; or shrunk as a whole."""
        return self._test_views(items, {})

    def _test_views(self, items: Sequence[Any], known: dict[File, Size]) -> TestViews | ShapedTestViews:
        settings = self.settings
        if settings.image_shape == "keep":
            return ShapedTestViews(items, self.shapes, settings.interpolation, known)
        return TestViews(items, settings.resize, settings.image_size, settings.interpolation)

    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Preparation:
        """Return the views of images in an epoch of training: cropped at random and varied, unless they are not."""
        settings, augmentation = self.settings, augmentation or Augmentation()
        if augmentation.augment == "none":
            return self._test_views(items, self._known_in_training)
        if settings.image_shape == "keep":
            return ShapedTrainViews(
                items,
                self.shapes,
                settings.interpolation,
                self._known_in_training,
                augmentation=augmentation,
                seed=seed,
                epoch=epoch,
            )
        return TrainViews(items, settings.image_size, settings.interpolation, augmentation, seed, epoch)

    def example(self, count: int) -> Tensor:
        """Return black images `(count, 3, S, S)` uint8, the largest that there are."""
        side = self.shapes.largest if self.settings.image_shape == "keep" else self.settings.image_size
        return torch.zeros(count, 3, side, side, dtype=torch.uint8)

    def _check(self, images: Tensor) -> None:
        use = "use embedder.transform, or embedder.embed for whole files"
        keep = self.settings.image_shape == "keep"
        needed = "(B, 3, H, W)" if keep else "(B, 3, S, S)"
        if not isinstance(images, Tensor):
            raise InputError(f"images are {type(images).__name__}, a tensor {needed} uint8 is needed; {use}")
        fit = images.ndim == 4 and images.shape[1] == 3 and (keep or images.shape[2] == images.shape[3])
        if images.dtype != torch.uint8 or not fit:
            kind = str(images.dtype).removeprefix("torch.")
            raise InputError(f"images are {kind} {tuple(images.shape)}, uint8 {needed} is needed; {use}")

    def _mistake(self, images: Tensor, error: Exception) -> InputError | None:
        """Return what is wrong with images that the backbone has refused; None where nothing is."""
        settings, (height, width) = self.settings, images.shape[-2:]
        if settings.image_shape == "square" and width != settings.image_size:
            return InputError(
                f"{settings.backbone} was built for images of {settings.image_size} pixels, these have "
                f"{width} ({one_line(error)}); use embedder.transform"
            )
        if settings.image_shape == "keep" and not self.shapes.takes((width, height)):
            return InputError(
                f"{settings.backbone} takes sides from {self.shapes.least} pixels that are multiples of "
                f"{self.shapes.multiple}, these are {width} x {height} ({one_line(error)}); use embedder.transform"
            )
        if self.training and "more than 1 value per channel" in str(error):  # PyTorch's batch norm
            return InputError(
                f"{len(images)} image of {width} x {height} pixels is too little for batch norm to average over "
                f"({one_line(error)}); choose batch_norm=frozen, or larger images"
            )
        return None


def build_image_embedder(settings: ImageSettings, weights: str) -> ImageEmbedder:
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
    """Raise InputError where the network cannot embed images of the size, or in the shapes, that are set."""
    settings = embedder.settings
    if settings.image_shape == "keep":
        try:
            embedder.shapes = find_shapes(settings.image_size, lambda size: _try_size(embedder, size))
        except Exception as error:
            raise InputError(
                f"backbone={settings.backbone} cannot embed images of different shapes, up to "
                f"image_size={settings.image_size}, as image_shape=keep leaves them ({one_line(error)}); "
                f"choose image_shape=square, or another network or size"
            ) from None
        return
    try:
        _try_size(embedder, (settings.image_size, settings.image_size))
    except Exception as error:
        own = own_size(settings.backbone)
        hint = f"; its own size is {own}" if own and own != settings.image_size else ""
        raise InputError(
            f"backbone={settings.backbone} cannot embed images of image_size={settings.image_size} "
            f"({one_line(error)}){hint}; choose another of the two"
        ) from None


def _try_size(embedder: ImageEmbedder, size: Size) -> None:
    """Embed an image of a width and height; raise whatever the network raises.

    A larger image on the meta device, shapes alone, whose cost does not grow with the image; networks that it cannot
    run are given the image.
    """
    width, height = size
    image = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    with evaluating(embedder), torch.no_grad():
        if width * height > _SMALL:
            tensors = dict(embedder.named_parameters()) | dict(embedder.named_buffers())
            meta = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
            with suppress(Exception):
                torch.func.functional_call(embedder, meta, (image.to("meta"),))
                return
        embedder(image)
