"""The whole configuration of a training run: a flat, validated set of keys for recipes and command line alike.

What the items are decides which keys there are: `TrainConfig` has those of all runs.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from recallk.core.bounds import Epoch, K, Positive, Seed
from recallk.core.cores import own_cores
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import brief
from recallk.core.yaml_files import read_table
from recallk.data.kind import kind_of
from recallk.data.settings import ABOUT_ITEMS, DataSettings
from recallk.losses.registry import MOST_BYTES, entry_of, settings_of
from recallk.losses.settings import LossSettings
from recallk.models.settings import LARGEST_EMBEDDING, Augmentation, EmbedderSettings, ImageSettings, VectorSettings
from recallk.models.whitening import Method

DEFAULT_CHUNK = 128
DEFAULT_VECTOR_CHUNK = 8_192


class TrainConfig(LossSettings, EmbedderSettings, DataSettings):
    """The keys of a training run whatever its items are, with their defaults."""

    recipe: Annotated[str | None, Field(description="the shipped recipe that the run began from")] = None

    # batches
    batch_size: Annotated[
        Annotated[int, Field(ge=2, le=10_000_000)] | Literal["all"] | None,
        Field(description="items of a batch; by default all classes, 4,000 items at most; all: the whole training set"),
    ] = None
    items_per_class: Annotated[int, Field(ge=2, le=1_000_000, description="items of a class in a batch")] = 4
    chunk_size: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"],
        Field(description="items on the device at a time; auto: as many as fit, tried before the run begins"),
    ] = DEFAULT_CHUNK
    host_memory_gb: Annotated[
        float, Field(ge=0, le=1e6, allow_inf_nan=False, description="for decoded items between the two passes")
    ] = 4.0
    activation_memory_gb: Annotated[
        float | None,
        Field(
            ge=0,
            le=1e6,
            allow_inf_nan=False,
            description="for activations that the first pass keeps, of each process; by default what is free on a GPU",
        ),
    ] = None

    # optimisation
    epochs: Epoch = 30
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 4e-4
    schedule: Annotated[Literal["milestones", "cosine", "exponential"], Field(description="of the learning rate")] = (
        "milestones"
    )
    milestones: Annotated[tuple[Epoch, ...], Field(description="epochs after which the rate is multiplied")] = ()
    milestone_factor: Annotated[Positive, Field(description="what it is multiplied by")] = 0.3
    epoch_factor: Annotated[
        float | None,
        Field(
            ge=1e-12,
            le=1,
            default_factory=lambda given: 0.99 if given["schedule"] == "exponential" else None,
            description="what the rate is multiplied by after each epoch; by default 0.99 with schedule=exponential",
        ),
    ]
    warmup_steps: Annotated[int, Field(ge=0, le=10**9, description="steps in which the rate rises from zero")] = 0

    # run
    seed: Annotated[Seed, Field(description="of weights, batches, crops and mixup")] = 1
    evaluate_every: Annotated[Epoch, Field(description="epochs between evaluations")] = 1
    evaluate_ks: Annotated[tuple[K, ...], Field(min_length=1, max_length=100)] = (1, 2, 4, 8)
    checkpoint_minutes: Annotated[
        float,
        Field(gt=0, le=1e6, allow_inf_nan=False, description="between checkpoints; every epoch ends with one"),
    ] = 15.0
    logger: Annotated[
        Literal["none", "tensorboard", "wandb"],
        Field(description="where the rows of metrics.jsonl go as well: event files, or Weights & Biases"),
    ] = "none"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Annotated[
        int, Field(ge=1, le=1024, description="processes on a machine that train together, one for each GPU")
    ] = 1
    nodes: Annotated[int, Field(ge=1, le=100_000, description="machines that train together")] = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    on_non_finite: Annotated[
        Literal["stop", "skip"],
        Field(description="a step whose loss or gradients are NaN or infinite ends the run, or is left out"),
    ] = "stop"

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        remembered = self.embedding_size * settings_of(self.loss).get("memory_size", 0)
        if 4 * remembered > MOST_BYTES:
            name, gigabytes = entry_of(self.loss).name, f"{remembered / 2.5e8:,.0f} GB"
            raise ValueError(f"loss={name}: its memory takes {gigabytes}: lower memory_size")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones={self.milestones}: rising epoch numbers, each 1 or more")
        if self.schedule != "milestones" and self.milestones:
            raise ValueError(f"milestones are given, and schedule={self.schedule}: choose one")
        if self.schedule == "exponential" and self.epoch_factor is None:
            raise ValueError("schedule=exponential needs an epoch_factor, such as 0.99")
        if self.schedule != "exponential" and self.epoch_factor is not None:
            raise ValueError(f"epoch_factor is for schedule=exponential, and schedule={self.schedule}: choose one")
        if isinstance(self.batch_size, int) and self.batch_size % self.items_per_class:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of items_per_class={self.items_per_class}")
        return self

    @property
    def embedded_at_a_time(self) -> int:
        """Items of a chunk where nothing is trained, and so nothing was tried."""
        return DEFAULT_CHUNK if self.chunk_size == "auto" else self.chunk_size

    @property
    def readers(self) -> int:
        """How many processes read items: none, unless the items are files that take time to read."""
        return 0

    @property
    def batch_norm_policy(self) -> Literal["frozen", "per-chunk"]:
        """What batch norm averages over, where the network has any."""
        return "frozen"

    @property
    def network(self) -> str:
        """Say in words what is trained."""
        return f"a network of {self.embedding_size} dimensions"

    @property
    def before(self) -> str:
        """Say in a word what is measured before training."""
        return "start"


class VectorTrainConfig(VectorSettings, TrainConfig):
    """The keys of a run on vectors, with the defaults for a head, which is small and begins from nothing."""

    items: Annotated[Literal["vectors"], Field(description=ABOUT_ITEMS)] = "vectors"
    input_size: int = Field(
        ge=1,
        le=LARGEST_EMBEDDING,
        default_factory=lambda given: _width(given["data"]),
        description="dimensions of the vectors; by default those of --data",
    )
    chunk_size: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"],
        Field(description="items on the device at a time; auto: as many as fit, tried before the run begins"),
    ] = DEFAULT_VECTOR_CHUNK
    epochs: Epoch = 20
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: Positive = 3e-3
    schedule: Annotated[Literal["milestones", "cosine", "exponential"], Field(description="of the learning rate")] = (
        "cosine"
    )

    @property
    def network(self) -> str:
        """Say in words what is trained."""
        return f"{self.head} head over standardised vectors of {self.input_size:,}, {self.embedding_size} dimensions"

    @property
    def before(self) -> str:
        """Say in a word what is measured before training."""
        return "as given"


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

    # run
    workers: Annotated[
        int | None, Field(ge=0, le=512, description="processes that read items; by default one per core")
    ] = None
    compile: Annotated[bool, Field(description="the backbone by torch.compile, minutes at the start")] = False
    channels_last: Annotated[
        bool, Field(description="weights and images in memory with the channels last: faster convolutions on some GPUs")
    ] = False

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


_CONFIGS: Mapping[str, type[TrainConfig]] = {"images": ImageTrainConfig, "vectors": VectorTrainConfig}
KEYS: Mapping[str, FieldInfo] = {
    **ImageTrainConfig.model_fields,
    **{key: field for key, field in VectorTrainConfig.model_fields.items() if key not in ImageTrainConfig.model_fields},
}
"""Every key, of runs on whatever items, as `recallk train --KEY VALUE` takes it."""


def given_keys(config: object) -> dict[str, Any]:
    """Return the keys that a Python program gives. Raises InputError where they are no table, and no configuration."""
    if isinstance(config, TrainConfig):
        return config.model_dump(exclude_unset=True)
    if not isinstance(config, Mapping):
        raise InputError(f"a table of keys is needed, such as {{'data': 'photos'}}, not {brief(config)}")
    return dict(config)


def name_of(config: TrainConfig, recipe: str | None = None) -> str:
    """Return a name for what is run with a configuration: after the recipe, or the data."""
    return Path(recipe or config.recipe or config.data).stem or "run"


def with_whole_path(config: TrainConfig) -> TrainConfig:
    """Let the data be found from wherever the run is looked at later."""
    source = user_path(config.data)
    return config.model_copy(update={"data": str(source.resolve())}) if source.exists() else config


def make_config(*layers: dict[str, Any]) -> TrainConfig:
    """Return the configuration made of several tables of keys; where two have a key, the later one counts.

    Raises InputError, one line naming the key, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values |= layer
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(KEYS)}"
            raise InputError(f"unknown key {brief(key)}: {hint}")
    if "data" not in values:
        raise InputError("no data: give --data PATH (a folder with a folder per class, or a CSV or Parquet table)")
    kind = _kind(values)
    for key in values:
        if key not in _CONFIGS[kind].model_fields:
            other = "vectors" if kind == "images" else "images"
            raise InputError(f"{key} is for {other}, and the data are {kind}: leave it out")
    try:
        return _CONFIGS[kind](**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            message = f"{first['loc'][0]}={brief(first['input'])}: {message[0].lower()}{message[1:]}"
        raise InputError(message) from None


def _width(data: str) -> int:
    """Return how many numbers the vectors of a file have."""
    from recallk.data.vector_files import width  # which imports PyArrow

    return width(user_path(data))


def _kind(values: Mapping[str, Any]) -> str:
    """Return of which kind the items are. Raises InputError for one that there is not."""
    kind = values.get("items")
    if kind is None and isinstance(data := values["data"], str) and values.get("dataset", "own") == "own":
        kind = kind_of(data)
    kind = kind or "images"
    if not isinstance(kind, str) or kind not in _CONFIGS:
        raise InputError(f"items={brief(kind)}: choose {' or '.join(_CONFIGS)}")
    return kind


def read_config(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file as they stand. Raises InputError, one line, where it is no table of settings."""
    values = read_table(path, "YAML with a table of settings", "correct it, or write it again")
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"{path}: the key {brief(key)} is not a text; the keys are those of recallk train --help")
    return values


def to_yaml(config: TrainConfig) -> str:
    """Return the configuration as YAML that `read_config` reads."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
    return text
