"""What a model reaches during training, measured by all processes together."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.models.embedder import Embedder
from recallk.models.together import embed_together
from recallk.runs.train_config import TrainConfig
from recallk.training.stopping import Stopping

MetricsOf = Callable[[Tensor], dict[str, float]]
"""From embeddings `(N, D)` of all items to metrics by their names."""


def measure_together(
    embedder: Embedder,
    items: Sequence[Any],
    metrics_of: MetricsOf,
    config: TrainConfig,
    epoch: int,
    chunk_size: int,
    stopping: Stopping,
) -> dict[str, float]:
    """Have all processes embed, and the first one measure: all get its metrics.

    Raises InputError where the embeddings are no numbers, and Stopped after a chunk where the run is to stop.
    """
    embeddings = embed_together(
        embedder,
        items,
        agree=stopping.agree,
        chunk_size=chunk_size,
        workers=config.readers,
        advance=lambda _: stopping.check(),
    )
    return processes.from_first(lambda: metrics_of(_finite(embeddings, embedder, config, epoch)))


def _finite(embeddings: Tensor, embedder: Embedder, config: TrainConfig, epoch: int) -> Tensor:
    if bool(torch.isfinite(embeddings).all()):
        return embeddings
    if epoch == 0:
        raise InputError(f"{embedder.name} gives NaN or infinity before it is trained; start from other weights")
    lower = f"lower the learning rate ({config.learning_rate:g})"
    raise InputError(f"epoch {epoch}: the embeddings hold NaN or infinity; {lower}")
