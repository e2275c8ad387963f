"""The keys of a run on images."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recallk.core.bounds import Positive
from recallk.core.cores import own_cores
from recallk.data.settings import ABOUT_ITEMS
from recallk.models.settings import Augmentation, ImageSettings
from recallk.models.whitening import Method
from recallk.runs.train_config import TrainConfig

FROM_NOTHING, FROM_WEIGHTS = 3e-3, 6e-4
"""Learning rates: a network of random weights takes five times the rate of one that knows something."""


class ImageTrainConfig(Augmentation, ImageSettings, TrainConfig):
    """The keys of a run on images, with their defaults."""

    items: Annotated[Literal["images"], Field(description=ABOUT_ITEMS)] = "images"

    # model
    weights: Annotated[
        str, Field(min_length=1, description="pretrained, none, or a file of the backbone's weights")
    ] = "pretrained"
    batch_norm: Annotated[
        Literal["frozen", "per-chunk"],
        Field(
            default_factory=lambda given: "per-chunk" if given["weights"] == "none" else "frozen",
            description="running statistics, or each chunk's; by default frozen, and per-chunk with weights=none",
        ),
    ]
    whitening: Annotated[
        Method,
        Field(
            description="what head=whitening begins as, fitted to features of untrained weights; learned needs more "
            "pairs of a class than there are features"
        ),
    ] = "pca"
    trained_blocks: Annotated[
        int | None,
        Field(ge=0, le=10_000, description="the last ones of the backbone, the rest stays as it is; by default all"),
    ] = None
    pooling_rate_factor: Annotated[
        Positive, Field(description="times learning_rate: that of the power of GeM pooling")
    ] = 1.0
    pooling_weight_decay: Annotated[
        float | None,
        Field(ge=0, le=1e6, allow_inf_nan=False, description="of that power; by default weight_decay"),
    ] = None

    # optimisation
    learning_rate: Annotated[
        Positive, Field(description=f"by default {FROM_NOTHING:g} with weights=none, else {FROM_WEIGHTS:g}")
    ]

    # run
    workers: Annotated[
        int | None, Field(ge=0, le=512, description="processes that read items; by default one per core")
    ] = None
    compile: Annotated[bool, Field(description="the backbone by torch.compile, minutes at the start")] = False
    channels_last: Annotated[
        bool,
        Field(
            description="weights and images in memory with the channels last: faster convolutions on some GPUs (on a "
            "CPU images always are)"
        ),
    ] = False

    @property
    def fine_tunes(self) -> bool:
        """Whether the network begins with weights that know something."""
        return self.weights != "none"

    @model_validator(mode="before")
    @classmethod
    def _has_a_rate(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"learning_rate": FROM_NOTHING if given.get("weights") == "none" else FROM_WEIGHTS} | given

    @model_validator(mode="after")
    def _network_fits_together(self) -> "ImageTrainConfig":
        if self.pooling != "gem" and (self.pooling_rate_factor != 1 or self.pooling_weight_decay is not None):
            key = "pooling_weight_decay" if self.pooling_rate_factor == 1 else "pooling_rate_factor"
            raise ValueError(f"{key} is for the power of pooling=gem, and pooling={self.pooling} has none")
        if self.whitening != "pca" and self.head != "whitening":
            raise ValueError(
                f"whitening={self.whitening} is what head=whitening begins as, and head={self.head}: choose one"
            )
        if self.head == "none" and self.trained_blocks == 0:
            raise ValueError("trained_blocks=0 and head=none leave nothing to train: train some blocks, or a head")
        if self.chunk_size == 1 and self.batch_norm == "per-chunk":
            raise ValueError("chunk_size=1 leaves batch_norm=per-chunk nothing to average over: choose 2 or more")
        return self

    @property
    def readers(self) -> int:
        """How many processes read items: what is configured, or one per core; of a group, each process has its own."""
        return own_cores() if self.workers is None else self.workers

    @property
    def batch_norm_policy(self) -> Literal["frozen", "per-chunk"]:
        """What batch norm averages over."""
        return self.batch_norm

    @property
    def network(self) -> str:
        """Say in words what is trained."""
        head = "" if self.head == "linear" else f"head {self.head}, "
        return f"{self.backbone}, {self.pooling} pooling, {head}{self.embedding_size} dimensions"

    @property
    def before(self) -> str:
        """Say in a word what is measured before training."""
        return "untrained" if self.weights == "none" else "start"
