"""What a run is trained with where nobody says: chosen by how many items and classes there are to train on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recallk.data.dataset import Dataset
from recallk.losses.registry import OURS
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.text_config import OF_STATIC, TextTrainConfig
from recallk.runs.train_config import ITEMS_PER_CLASS, MORE_PER_CLASS, TrainConfig
from recallk.training.sampler import LARGEST_DEFAULT, Sampler, WholeSet

STEPS_AN_EPOCH = 12
"""A batch is as large as leaves an epoch so many steps; at most it has `LARGEST` items."""
LARGEST = LARGEST_DEFAULT


@dataclass(frozen=True)
class Bounds:
    """What holds for a start: the smallest batch, in items, and how many steps a run has at least.

    From pretrained weights larger batches and a higher rate come further, also with fewer steps (benchmarks/NOTES.md).
    """

    smallest: int
    least_steps: int


FROM_RANDOM, FROM_PRETRAINED = Bounds(64, 400), Bounds(128, 200)
"""A run goes through the data `EPOCHS` times at least, too."""
EPOCHS = 30
EVALUATIONS, TO_LOOK_AT = 30, 10
"""At most so many evaluations of a run: to choose an epoch by, and where the last epoch counts whatever they say."""
_WARMUP, _WARMUP_OF_TEXTS = 20, 10  # the rate rises in one of so many steps


@dataclass(frozen=True)
class Choice:
    """A key that was chosen, and why, in words."""

    key: str
    value: object
    why: str


def bounds_of(config: TrainConfig) -> Bounds:
    """Return what holds for the start of a run."""
    return FROM_PRETRAINED if config.fine_tunes else FROM_RANDOM


def choose_items_per_class(config: TrainConfig, labels: NDArray[np.int64]) -> list[Choice]:
    """Return how many items of a class are in a batch, where the configuration leaves it open."""
    if config.items_per_class is not None or config.batch_size == "all":
        return []
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    large = int((counts >= MORE_PER_CLASS).sum())
    size, least = config.batch_size, FROM_PRETRAINED.smallest
    fits = size is None or (size >= least and size % MORE_PER_CLASS == 0)
    if config.fine_tunes and fits and large >= 2 and 2 * large >= len(counts):
        return [Choice("items_per_class", MORE_PER_CLASS, f"{large:,} of {len(counts):,} classes have so many")]
    few = f"; only {large:,} of {len(counts):,} classes have {MORE_PER_CLASS}" if config.fine_tunes and fits else ""
    return [Choice("items_per_class", ITEMS_PER_CLASS, f"usual{few}")]


def choose_batch(config: TrainConfig, labels: NDArray[np.int64]) -> list[Choice]:
    """Return the batch size, where the configuration leaves it open."""
    if config.batch_size is not None:
        return []
    each = config.of_a_class
    groups = np.bincount(labels) // each  # of items that a class can give, one in a batch
    drawable = int((groups > 0).sum())
    if drawable < 2:  # which the sampler refuses, in words
        return []
    fitting = int(groups.sum()) // STEPS_AN_EPOCH
    smallest, largest = max(2, bounds_of(config).smallest // each), max(2, LARGEST // each)
    classes = min(max(fitting, smallest), largest, drawable)
    while classes > smallest and _steps(labels, classes, config) < STEPS_AN_EPOCH - 1:  # classes that run out early
        classes = max(smallest, classes * 9 // 10)
    steps = _steps(labels, classes, config)
    if classes == drawable:
        why = f"all {drawable:,} classes of which {each} can be drawn"
    elif classes == largest:
        why = "the largest unless you say more"
    elif classes == smallest:
        why = "the smallest unless you say less: smaller ones have too little to rank"
    else:
        why = "as large as leaves about a dozen steps"
    return [Choice("batch_size", classes * each, f"{why} (an epoch has {steps:,})")]


def choose_length(config: TrainConfig, sampler: Sampler | WholeSet) -> list[Choice]:
    """Return epochs, warm-up and how often to evaluate, where the configuration leaves them open."""
    if None not in (config.epochs, config.warmup_steps, config.evaluate_every):
        return []
    choices = []
    steps, epochs = max(1, sampler.batches(1)), config.epochs
    if epochs is None:
        shaped = bool(config.milestones) or config.schedule == "exponential"
        least = bounds_of(config).least_steps
        epochs = max(EPOCHS, EPOCHS if shaped else math.ceil(least / steps))
        why = f"usual, and at least {least} steps" if epochs == EPOCHS else f"at least {least} steps"
        choices.append(Choice("epochs", epochs, "usual; the rate falls after epochs that you chose" if shaped else why))
    if config.warmup_steps is None:
        why = f"one in {_one_in(config)} of all steps"
        choices.append(Choice("warmup_steps", warmup_of(config, steps * epochs), why))
    if config.evaluate_every is None:
        most = TO_LOOK_AT if config.select == "last" else EVALUATIONS
        why = f"after each, or so many that there are at most {most} evaluations"
        choices.append(Choice("evaluate_every", evaluations_of(epochs, most), why))
    return choices


def choose_epoch_by(config: TrainConfig, data: Dataset) -> list[Choice]:
    """Return what the epoch is chosen by whose model is the run's, where the configuration leaves it open."""
    if config.select is not None:
        return []
    if data.validation is None:
        return [Choice("select", "last", data.why_no_validation)]
    given = "given with the data" if data.validation_given else f"{len(data.validation.classes):,} classes set aside"
    return [Choice("select", "validation", given)]


def choose_mirroring(config: TrainConfig, data: Dataset) -> list[Choice]:
    """Return whether images are mirrored, where the configuration leaves it open. Raises InputError as reading them."""
    if not isinstance(config, ImageTrainConfig) or config.horizontal_flip is not None:
        return []
    if config.augment == "none" or data.train.noun != "images":
        return []
    seen = data.mirrored
    if seen.is_another:
        why = "mirror images are taken for other classes"
        found = f"{seen.mirrored:,} of {seen.images:,} have one of their own as the nearest, {seen.upright:,} upright"
        return [Choice("horizontal_flip", False, f"{why}: {found}")]
    return [Choice("horizontal_flip", True, "mirror images look as much like their class, or nearly")]


def choose_mixup(config: TrainConfig, data: Dataset) -> list[Choice]:
    """Return whether similarities are mixed, where the configuration leaves it open.

    From random weights half of the first positives are far down, where recall@k has no gradient, and mixed items are
    nearer; of pretrained ones nearly all are in reach (benchmarks/NOTES.md).
    """
    if config.mixup is not None or config.loss != OURS:
        return []
    if data.train.label_sets is not None:
        return [Choice("mixup", False, "it mixes items of one class, and these have several labels")]
    if isinstance(config, ImageTrainConfig) and not config.fine_tunes:
        return [Choice("mixup", True, "random weights, of which more queries learn something with it")]
    return [Choice("mixup", False, "no gain where what is learnt from tells items apart already")]


def choose_rate(config: TrainConfig) -> list[Choice]:
    """Return the learning rate of a run on texts, where the configuration leaves it to what the model is."""
    if not isinstance(config, TextTrainConfig) or "learning_rate" in config.model_fields_set:
        return []
    static = config.learning_rate == OF_STATIC
    return [
        Choice(
            "learning_rate",
            config.learning_rate,
            "a table of vectors of tokens takes a far higher rate than a transformer"
            if static
            else "what transformers of texts are usually fine-tuned with",
        )
    ]


def warmup_of(config: TrainConfig, steps: float) -> int:
    """Return the steps of warm-up of a run of so many steps."""
    return round(steps / _one_in(config))


def _one_in(config: TrainConfig) -> int:
    return _WARMUP_OF_TEXTS if isinstance(config, TextTrainConfig) else _WARMUP


def evaluations_of(epochs: int, most: int = EVALUATIONS) -> int:
    """Return after how many epochs a run is evaluated that is to have at most so many evaluations."""
    return math.ceil(epochs / most)


def with_choices(config: TrainConfig, choices: list[Choice]) -> TrainConfig:
    """Return the configuration with what was chosen."""
    values: dict[str, Any] = {choice.key: choice.value for choice in choices}
    return config.model_copy(update=values)


def _steps(labels: NDArray[np.int64], classes: int, config: TrainConfig) -> int:
    return Sampler(labels, classes, config.of_a_class, config.seed).batches(1)
