"""What a run's model makes of items."""

from collections.abc import Callable, Sequence

from torch import Tensor

from recallk.core.devices import available_device
from recallk.data.item import Item
from recallk.models.embedder import Embedder
from recallk.models.scales import ONE_SCALE
from recallk.runs.config import TrainConfig


def embed_as_configured(
    embedder: Embedder,
    config: TrainConfig,
    items: Sequence[Item],
    advance: Callable[[int], None] = lambda _: None,
    *,
    scales: Sequence[float] = ONE_SCALE,
) -> Tensor:
    """Return `(N, D)` embeddings, on the CPU, of items: on the run's device, with its chunks and reading processes.

    Where the device is not there by now, on the CPU. `advance` is told how many more are done.
    """
    embedder.to(available_device(config.accelerator))
    return embedder.embed(items, scales=scales, chunk_size=config.chunk_size, workers=config.readers, advance=advance)
