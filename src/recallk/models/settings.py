"""What is needed to build an embedder, as a person writes it."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recallk.core.bounds import Positive
from recallk.models.augment import AugmentName, Transforms, made, written
from recallk.models.preprocessing import Interpolation, preprocessing_of

if TYPE_CHECKING:
    from recallk.models.augment import View

Pooling = Literal["average", "gem", "token"]
Head = Literal["linear", "whitening", "none"]
"""linear: layer norm, then a linear layer. whitening: unit length, then a linear layer. none: the features."""
VectorHead = Literal["linear", "residual", "mlp"]
ImageShape = Literal["square", "keep"]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]

LARGEST_EMBEDDING = 65_536
LARGEST_IMAGE = 4_096

IMAGENET: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear",
}
"""What every run was trained with before these were keys of its `config.yaml`."""

_BEFORE: dict[str, Any] = {"items": "images", "image_shape": "square", "head": "linear"}
"""What other keys mean to a run that is from before them."""


def _resize(given: dict[str, Any]) -> int:
    size: int = given["image_size"]
    return max(size, min(round(size / preprocessing_of(given["backbone"]).crop), LARGEST_IMAGE))


class EmbedderSettings(BaseModel):
    """What the networks for all kinds of items have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_size: Annotated[int, Field(ge=1, le=LARGEST_EMBEDDING, description="dimensions of an embedding")] = 512

    @property
    def seen(self) -> str:
        """Say in words what the network sees of its items."""
        return "items"


class VectorSettings(EmbedderSettings):
    """The head over vectors of another model."""

    head: Annotated[
        VectorHead, Field(description="of vectors: linear, residual (linear and a branch of two layers), or mlp")
    ] = "linear"
    input_size: Annotated[int, Field(ge=1, le=LARGEST_EMBEDDING, description="dimensions of the vectors")]

    @property
    def seen(self) -> str:
        """Say in words of what size the vectors are."""
        return f"vectors of {self.input_size:,} numbers"


class ImageSettings(EmbedderSettings):
    """The network and what it sees of an image.

    Mean, deviation, interpolation and resize are by default those that the backbone's weights were made with, as timm
    lists them; an unknown backbone then raises InputError.
    """

    backbone: Annotated[str, Field(description="any timm model by name")] = "resnet50.tv_in1k"
    pooling: Annotated[Pooling, Field(description="over the last features: average, gem or token (class token)")] = (
        "gem"
    )
    head: Annotated[
        Head, Field(description="over the pooled features: layer norm and linear, whitening and linear, or none")
    ] = "linear"
    image_size: Annotated[
        int,
        Field(
            ge=8, le=LARGEST_IMAGE, description="side of the square, or longer side, that the network sees, in pixels"
        ),
    ] = 224
    image_shape: Annotated[
        ImageShape,
        Field(description="a square is cropped; or images keep their own, shrunk to a longer side of image_size"),
    ] = "square"
    resize: int = Field(
        ge=8,
        le=LARGEST_IMAGE,
        default_factory=_resize,
        description="shorter side before the centre crop at test; by default image_size / the backbone's crop_pct; "
        "nothing with image_shape=keep",
    )
    interpolation: Interpolation = Field(
        default_factory=lambda given: preprocessing_of(given["backbone"]).interpolation,
        description="how images are scaled; by default as for the backbone's weights",
    )
    mean: tuple[Mean, Mean, Mean] = Field(
        default_factory=lambda given: preprocessing_of(given["backbone"]).mean,
        description="of red, green and blue, 0 to 1; by default as for the backbone's weights",
    )
    std: tuple[Deviation, Deviation, Deviation] = Field(
        default_factory=lambda given: preprocessing_of(given["backbone"]).std,
        description="deviation of red, green and blue; by default as for the backbone's weights",
    )

    @property
    def seen(self) -> str:
        """Say in words of what size the images are that the network sees."""
        size, square = f"{self.image_size:,}", self.image_shape == "square"
        return f"images of {f'{size} x {size} pixels' if square else f'up to {size} pixels, in their own shape'}"

    @model_validator(mode="after")
    def _crop_fits(self) -> "ImageSettings":
        if self.image_shape == "square" and self.resize < self.image_size:
            raise ValueError(f"resize={self.resize} is smaller than image_size={self.image_size}")
        return self


class TextSettings(EmbedderSettings):
    """A model of sentence-transformers. By default its embeddings are as long as they are, and so are its texts."""

    backbone: Annotated[
        str,
        Field(
            min_length=1,
            description="of texts, a model of sentence-transformers: its name on the Hugging Face hub, or its folder",
        ),
    ] = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: Annotated[
        int | None,
        Field(ge=2, le=1_000_000, description="tokens of a text that the network sees; by default as the model says"),
    ] = None
    embedding_size: Annotated[
        int,
        Field(
            ge=1,
            le=LARGEST_EMBEDDING,
            description="of texts by default the model's own; another is reached by a linear layer",
        ),
    ]

    @model_validator(mode="before")
    @classmethod
    def _has_a_size(cls, given: dict[str, Any]) -> dict[str, Any]:
        backbone = given.get("backbone", cls.model_fields["backbone"].default)
        if "embedding_size" in given or not isinstance(backbone, str):
            return given
        from recallk.models.sentence_model import about  # which needs a further package

        return {"embedding_size": about(backbone).dimension} | given

    @property
    def seen(self) -> str:
        """Say in words how much of a text the network sees."""
        return "texts" if self.max_length is None else f"texts of up to {self.max_length:,} tokens"


class Augmentation(BaseModel):
    """How training images are varied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    augment: Annotated[
        AugmentName | Transforms,
        BeforeValidator(written),
        Field(
            description="training images: none (as at test; crop_scale and horizontal_flip then do nothing), standard "
            "(cropped, mirrored), strong (RandAugment and erasing too), or a YAML file with transforms of "
            "torchvision.transforms.v2 that follow crop and mirror"
        ),
    ] = "standard"
    crop_scale: Annotated[tuple[Positive, Positive], Field(description="area of a random training crop")] = (0.5, 1.0)
    horizontal_flip: Annotated[
        bool | None,
        Field(
            description="mirror half of the training images; by default unless their mirror images are of other "
            "classes, as those of letters are"
        ),
    ] = None

    @cached_property
    def transforms(self) -> "Sequence[View]":
        """What `augment` applies to a view after crop and mirror."""
        return made(self.augment)

    @model_validator(mode="after")
    def _is_a_range(self) -> "Augmentation":
        if not self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale={self.crop_scale}: two shares of the area, the smaller first, at most 1")
        return self


def with_earlier_meaning(written: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a run's `config.yaml`, and what it was trained with where it is from before some of them."""
    if written.get("items", "images") != "images":  # which runs have since all these keys are there
        return written
    written = _BEFORE | written
    return written if any(key in written for key in IMAGENET) else IMAGENET | written
