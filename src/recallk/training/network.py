"""The network of a run: built as configured, and what of it follows from the training items before the first step."""

import torch

from recallk.core.seeds import mixed_seed
from recallk.data.records import LabelledItems
from recallk.data.vectors import Vector
from recallk.models.build import build
from recallk.models.embedder import Embedder
from recallk.models.freezing import freeze_all_but
from recallk.models.vector_embedder import VectorEmbedder
from recallk.models.whitening_head import begin_as_whitening
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.train_config import TrainConfig


def network_of(config: TrainConfig, *, restored: bool) -> Embedder:
    """Build it; without pretrained weights where its own are about to be `restored`. Raises InputError as `build`."""
    images = config if isinstance(config, ImageTrainConfig) else None
    with torch.random.fork_rng([]):
        torch.manual_seed(mixed_seed(config.seed))
        embedder = build(config, "none" if images is None or restored else images.weights)
    if images is not None and images.trained_blocks is not None:
        freeze_all_but(embedder, images.trained_blocks)
    return embedder


def remember_origin(embedder: Embedder, train: LabelledItems) -> None:
    """Have a head over vectors know what made them, where their file says it."""
    first = train.records[0].item
    if isinstance(embedder, VectorEmbedder) and isinstance(first, Vector):
        embedder.made_by = first.table.made_by


def speed_up(embedder: Embedder, config: TrainConfig) -> None:
    """Compute faster, where that is configured, once the network is on its device."""
    if isinstance(config, ImageTrainConfig):
        embedder.speed_up(compile_it=config.compile, channels_last=config.channels_last)


def fit_to(embedder: Embedder, train: LabelledItems, config: TrainConfig, chunk_size: int) -> None:
    """Take from the training items what the network begins with: a whitening as its head, or mean and deviation.

    Raises InputError as these.
    """
    if isinstance(embedder, VectorEmbedder):
        embedder.standardise(train.items)
    elif isinstance(config, ImageTrainConfig) and config.head == "whitening":
        begin_as_whitening(embedder, train, config.whitening, chunk_size=chunk_size, workers=config.readers)
