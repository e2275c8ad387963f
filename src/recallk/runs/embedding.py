"""What a run's model makes of items."""

from collections.abc import Callable, Sequence

from torch import Tensor

from recallk.core.devices import available_device
from recallk.data.item import Item
from recallk.models.embedder import Embedder
from recallk.models.scales import ONE_SCALE, Scales
from recallk.models.together import embed_together
from recallk.runs.train_config import TrainConfig


def embed_as_configured(
    embedder: Embedder,
    config: TrainConfig,
    items: Sequence[Item],
    advance: Callable[[int], None] = lambda _: None,
    *,
    scales: Sequence[float] = ONE_SCALE,
) -> Tensor:
    """Return `(N, D)` embeddings, on the CPU, of items: on the run's device, with its chunks and reading processes.

    Where the device is not there by now, on the CPU. In a group of processes all embed a share, and the first one has
    the embeddings, the others none, `(0, D)`. `advance` is told how many more are done.
    """
    embedder.to(available_device(config.accelerator))
    return embed_together(
        embedder, items, advance=advance, scales=scales, chunk_size=config.embedded_at_a_time, workers=config.readers
    )


def how_embedded(embedder: Embedder, scales: Scales) -> list[str]:
    """Say in words at which scales items are embedded, and how the embeddings are whitened."""
    told = [f"scale{'s' if len(scales) > 1 else ''} {_in_words(scales)}"]
    whitening = embedder.whitening
    if whitening is None:
        return [*told, "no whitening after training"]
    whitened, fitted = f"then whitened, to {whitening.dimension:,} dimensions", whitening.fitted
    if fitted is not None:
        other = "" if fitted.scales == scales else f", at other scales than here: {_in_words(fitted.scales)}"
        whitened += f" ({fitted.method}, fitted to {fitted.items:,} {embedder.noun} of {fitted.data}{other})"
    return [*told, whitened]


def _in_words(scales: Scales) -> str:
    return ", ".join(f"{scale:g}" for scale in scales)
