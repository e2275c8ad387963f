"""What embeds: it says how an item is prepared, how items make a chunk, and how a chunk becomes embeddings."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from threading import Lock
from typing import Any, ClassVar, Self, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.devices import to_device
from recallk.core.errors import InputError
from recallk.models.chunks import Preparation, read_all
from recallk.models.scales import ONE_SCALE, Scales, checked_scales
from recallk.models.settings import Augmentation, EmbedderSettings
from recallk.models.whitening import Whitening


class Embedder(nn.Module, ABC):
    """Turns items of one kind into embeddings of unit length; whoever trains or searches need not know which kind.

    Called as a module it takes a chunk, as the preparations make it, and returns embeddings `(n, D)` float32.
    """

    noun: str = "items"
    """What its items are called, such as "images"."""
    settings_type: ClassVar[type[EmbedderSettings]] = EmbedderSettings
    """With the keys that are needed to build it again."""

    def __init__(self, settings: EmbedderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.whitening: Whitening | None = None
        """Fitted after training; `embed` applies it last. Not part of the network, and of its weights."""
        self.frozen: list[nn.Module] = []
        """Parts that are as at test even while the embedder trains."""

    def train(self, mode: bool = True) -> Self:
        """Have every part as in training, or as at test, but for those that are frozen."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def speed_up(self, *, compile_it: bool, channels_last: bool) -> None:
        """Compute faster from now on, with the same results up to rounding; names and shapes of weights stay.

        With the channels last, dropout of maps takes its random numbers in another order. Called once, where the
        network is on its device. Raises InputError for what is not possible.
        """
        if compile_it or channels_last:
            key = "compile" if compile_it else "channels_last"
            raise InputError(f"{key}: not for a network of {self.noun}; leave it out")

    @property
    def name(self) -> str:
        """What the network is called in messages."""
        return f"a network of {self.noun}"

    def untrained(self) -> "Embedder":
        """Return what stands for the time before training in a table of before and after: this embedder as it is."""
        return self

    @property
    def embedding_size(self) -> int:
        """The dimensions of what `embed` returns."""
        return self.settings.embedding_size if self.whitening is None else self.whitening.dimension

    @property
    def power_of_scales(self) -> float:
        """Of the power mean that makes one embedding of those at several scales."""
        return 1.0

    def at_scale(self, chunk: Any, scale: float) -> Tensor:  # noqa: ARG002
        """Return the embeddings `(n, D)` of a chunk whose items are scaled by a factor.

        Raises InputError where the items cannot be scaled, or the network does not take them then.
        """
        raise InputError(f"scales: {self.noun} cannot be scaled; leave scales out")

    @abstractmethod
    def listed(self, items: Iterable[Any]) -> Sequence[Any]:
        """Return the items as a list, each of a kind that can be prepared. Raises InputError for anything else."""

    @abstractmethod
    def preparation(self, items: Sequence[Any]) -> Preparation:
        """Return how these items are prepared at test, always alike."""

    @abstractmethod
    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Preparation:
        """Return how these items are prepared in an epoch of training: a function of seed, epoch and item alone.

        `augmentation` is for images.
        """

    @abstractmethod
    def example(self, count: int) -> Any:
        """Return a chunk of `count` items without content, on the CPU, to try the network out and to measure it."""

    @torch.no_grad()
    def embed(
        self,
        items: Iterable[Any],
        *,
        scales: Sequence[float] = ONE_SCALE,
        chunk_size: int = 128,
        workers: int = 0,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Return `(N, D)` float32 embeddings of unit length, on the CPU, of items in the order given.

        `workers` processes read the items (0: this one), `chunk_size` at a time, or fewer where few are of one kind;
        `advance` is told how many are done after each chunk. Dropout and batch norm are as at test, whatever mode the
        model is in, which stays as it is. With several `scales`, images are embedded at each (bilinear), and the power
        mean of these embeddings is taken: with GeM's power where nothing follows the pooling (head=none), else the
        mean. Then `whitening`, where there is one. Raises InputError, with the path or position, for what is missing,
        broken, or of another kind, and for scales that the network does not take.

        Source of the mean over scales: cirtorch (F. Radenović), `extract_ms`.
        """
        asked = checked_scales(scales)
        chunk_size = _whole_number("chunk_size", chunk_size, 1)
        workers = _whole_number("workers", workers, 0)
        listed = self.listed(items)
        numbers, parts = list[Tensor](), list[Tensor]()
        device = next(chain(self.parameters(), self.buffers())).device
        with evaluating(self):
            for of_chunk, chunk in read_all(self.preparation(listed), len(listed), chunk_size, workers):
                numbers.append(torch.from_numpy(of_chunk))
                parts.append(self.embedded(to_device(chunk, device), asked))
                advance(len(parts[-1]))
        if not parts:
            return torch.empty(0, self.embedding_size)
        embeddings = torch.cat(parts)
        return torch.empty_like(embeddings).index_copy_(0, torch.cat(numbers), embeddings)

    def embedded(self, chunk: Any, scales: Scales) -> Tensor:
        """Return what `embed` says of a chunk that is on the network's device, on the CPU."""
        if scales == ONE_SCALE:
            embeddings: Tensor = self(chunk)
        else:
            power = self.power_of_scales
            powers = [self.at_scale(chunk, scale).pow(power) for scale in scales]
            embeddings = F.normalize(torch.stack(powers).mean(0).pow(1 / power), dim=1)
        return embeddings.cpu() if self.whitening is None else self.whitening(embeddings)


_lock = Lock()
_evaluating: dict[nn.Module, tuple[int, list[tuple[nn.Module, bool]]]] = {}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Have every part of a module as at test inside; each has its own mode back after, whatever happens.

    Of several threads inside at a time the first to come notes the modes, the last to go puts them back.
    """
    with _lock:
        users, modes = _evaluating.get(module) or (0, [(part, part.training) for part in module.modules()])
        _evaluating[module] = users + 1, modes
        module.eval()
    try:
        yield
    finally:
        with _lock:
            users, modes = _evaluating.pop(module)
            if users > 1:
                _evaluating[module] = users - 1, modes
            else:  # from the outside in; by `train`, where some networks drop what they remembered
                for part, training in modes:
                    if part.training != training:
                        part.train(training)


def _whole_number(name: str, value: SupportsIndex, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{name}={value!r}: a whole number from {least}")
    return number
