"""Configurations whose items are known to be images."""

from typing import Any

from recallk.runs.config import make_config
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.train_config import TrainConfig


def image_config(*layers: dict[str, Any]) -> ImageTrainConfig:
    """Return what `make_config` makes of keys for images."""
    return of_images(make_config(*layers))


def of_images(config: TrainConfig) -> ImageTrainConfig:
    """Return a configuration that is for images."""
    assert isinstance(config, ImageTrainConfig)
    return config
