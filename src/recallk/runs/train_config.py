"""The keys that every training run has, whatever its items are."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recallk.core.bounds import Epoch, K, Positive, Seed
from recallk.data.settings import DataSettings
from recallk.losses.registry import MOST_BYTES, entry_of, settings_of
from recallk.losses.settings import LossSettings
from recallk.models.settings import EmbedderSettings

DEFAULT_CHUNK = 128
ITEMS_PER_CLASS, MORE_PER_CLASS = 4, 8
OPEN = (
    "items_per_class",
    "batch_size",
    "epochs",
    "warmup_steps",
    "evaluate_every",
    "select",
    "horizontal_flip",
    "mixup",
)
"""Keys that are chosen by the data where they are None: what a run writes down has values (`training.choices`)."""


class TrainConfig(LossSettings, EmbedderSettings, DataSettings):
    """The keys of a training run whatever its items are, with their defaults."""

    recipe: Annotated[str | None, Field(description="the shipped recipe that the run began from")] = None

    # batches
    batch_size: Annotated[
        Annotated[int, Field(ge=2, le=10_000_000)] | Literal["all"] | None,
        Field(
            description="items of a batch; by default as many as leave an epoch a dozen steps, from 64 (128 from "
            "pretrained weights) to 4,000; all: the whole training set"
        ),
    ] = None
    items_per_class: Annotated[
        int | None,
        Field(
            ge=2,
            le=1_000_000,
            description=f"items of a class in a batch; by default {ITEMS_PER_CLASS}, and {MORE_PER_CLASS} from "
            "pretrained weights where most classes have so many",
        ),
    ] = None
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
    epochs: Annotated[
        Epoch | None,
        Field(
            description="times through the data; by default 30, or as many as make 400 steps (200 from pretrained "
            "weights)"
        ),
    ] = None
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 4e-4
    milestones: Annotated[tuple[Epoch, ...], Field(description="epochs after which the rate is multiplied")] = ()
    schedule: Annotated[
        Literal["milestones", "cosine", "exponential"],
        Field(
            default_factory=lambda given: "milestones" if given.get("milestones") else "cosine",
            description="of the learning rate; by default cosine, and milestones where some are given",
        ),
    ]
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
    warmup_steps: Annotated[
        int | None,
        Field(
            ge=0,
            le=10**9,
            description="steps in which the rate rises from zero; by default a twentieth of all, of texts a tenth",
        ),
    ] = None

    # run
    seed: Annotated[Seed, Field(description="of weights, batches, crops and mixup")] = 1
    evaluate_every: Annotated[
        Epoch | None,
        Field(
            description="epochs between evaluations; by default so many that there are at most 30, with select=last 10"
        ),
    ] = None
    measure_before: Annotated[
        bool, Field(description="measure the test items before training too, which takes as long as after it")
    ] = True
    measure_after: Annotated[
        bool, Field(description="measure the test items at the end; else recallk evaluate does, when wanted")
    ] = True
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
        if self.select == "test" and not self.measure_after:
            raise ValueError(
                "select=test measures the test items after each epoch, and measure_after=False: choose one"
            )
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
        if self.batch_size == "all" and (n := self.of_a_class) != ITEMS_PER_CLASS:
            raise ValueError(f"items_per_class={n} is for batches that are drawn, and batch_size=all: choose one")
        if isinstance(self.batch_size, int) and self.batch_size % self.of_a_class:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of items_per_class={self.of_a_class}")
        return self

    @property
    def of_a_class(self) -> int:
        """How many items of a class are in a batch; before it is chosen, the least that will be."""
        return self.items_per_class or ITEMS_PER_CLASS

    @property
    def fine_tunes(self) -> bool:
        """Whether the network begins with weights that know something."""
        return False

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
