"""From the configuration to the loss that is trained with."""

import torch
from torch import nn

from recallk.core.extras import require
from recallk.core.seeds import mixed_seed
from recallk.losses.entry import BuildContext
from recallk.losses.registry import entry_of, settings_of
from recallk.losses.settings import LossSettings


def build_loss(
    settings: LossSettings, classes: int, embedding_size: int, seed: int, *, several_labels: bool = False
) -> nn.Module:
    """Return the configured loss, for training on classes numbered below `classes`.

    It is called with embeddings `(B, D)`, labels `(B,)` and, as `generator`, one on the CPU for what it draws; it
    returns a scalar, a function of the whole batch, so that `large_batch_backward` takes any of them. With
    `several_labels` an item, it is called with `positives=` in place of labels. Own parameters are drawn from `seed`;
    PyTorch's random state stays as it is. Raises MissingExtraError where the loss is one of
    pytorch-metric-learning, and that is not installed.
    """
    entry = entry_of(settings.loss)
    if entry.extra is not None:
        require(entry.extra, f"the loss {entry.name}")
    context = BuildContext(entry.name, settings_of(settings.loss), classes, embedding_size, settings, several_labels)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(mixed_seed(seed, 0, 0, 0))
        return entry.build(context)
