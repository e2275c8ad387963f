"""A head after the embedder whose vectors it was trained on: one embedder, from the items of the first on."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import SerializeAsAny
from torch import Tensor

from recallk.core.errors import InputError
from recallk.models.chunks import Preparation
from recallk.models.embedder import Embedder
from recallk.models.scales import Scales
from recallk.models.settings import Augmentation, EmbedderSettings


class ComposedSettings(EmbedderSettings):
    """The settings of both parts."""

    first: SerializeAsAny[EmbedderSettings]
    head: SerializeAsAny[EmbedderSettings]

    @property
    def seen(self) -> str:
        """What the first part sees of its items."""
        return self.first.seen


class ComposedEmbedder(Embedder):
    """Embeds the items of `first` with `first`, its whitening included, and what comes of it with `head`.

    The whitening of the head, where it has one, is that of the whole. Raises InputError where the vectors of `first`
    are not as long as the head takes them.
    """

    settings_type = ComposedSettings
    settings: ComposedSettings

    def __init__(self, first: Embedder, head: Embedder) -> None:
        needed = len(head.example(1)[0])
        if first.embedding_size != needed:
            raise InputError(
                f"{first.name} gives {first.embedding_size:,} dimensions, and the head takes {needed:,}: compose it "
                f"with what made the vectors that it was trained on"
            )
        size = head.settings.embedding_size
        super().__init__(ComposedSettings(embedding_size=size, first=first.settings, head=head.settings))
        self.noun = first.noun
        self.first, self.head = first, head
        self.whitening = head.whitening

    def forward(self, chunk: Any) -> Tensor:
        """Return embeddings `(n, D)` of a chunk of items, as `first` takes it."""
        return self._after(self.first(chunk))

    def at_scale(self, chunk: Any, scale: float) -> Tensor:
        """Return the embeddings `(n, D)` of a chunk whose items are scaled by a factor. Raises as that of `first`."""
        return self._after(self.first.at_scale(chunk, scale))

    def _after(self, vectors: Tensor) -> Tensor:
        whitening = self.first.whitening
        whole = vectors if whitening is None else whitening(vectors).to(vectors.device)
        embeddings: Tensor = self.head(whole)
        return embeddings

    def embedded(self, chunk: Any, scales: Scales) -> Tensor:
        """Return what `embed` says of a chunk: the scales are those of `first`, whose mean the head is given."""
        device = next(self.head.parameters()).device
        embeddings: Tensor = self.head(self.first.embedded(chunk, scales).to(device))
        return embeddings.cpu() if self.whitening is None else self.whitening(embeddings)

    @property
    def name(self) -> str:
        """Those of both."""
        return f"{self.first.name}, then {self.head.name}"

    def listed(self, items: Iterable[Any]) -> Sequence[Any]:
        """Return the items as `first` does."""
        return self.first.listed(items)

    def preparation(self, items: Sequence[Any]) -> Preparation:
        """Return how `first` prepares them."""
        return self.first.preparation(items)

    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Preparation:
        """Return how `first` prepares them in training."""
        return self.first.training_preparation(items, augmentation, seed=seed, epoch=epoch)

    def example(self, count: int) -> Any:
        """Return a chunk for `first`."""
        return self.first.example(count)
