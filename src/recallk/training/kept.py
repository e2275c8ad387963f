"""The graphs of a batch's first chunks, kept from the first pass for the second as far as a budget of memory goes."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recallk.training.readings import contents

Packed = tuple[Tensor, int]


class KeptGraphs:
    """Embeds chunks for the first time, and keeps the graphs of the first ones: as many as the budget, in bytes, holds.

    A graph holds what it leaves behind for its backward pass: on CUDA what it leaves allocated; elsewhere the tensors
    that autograd saves, storages that several chunks share counted once, those of parameters and buffers not at all.
    What a layer hides from autograd is not seen there. With no end of memory (infinity) nothing is measured.
    """

    def __init__(self, model: nn.Module, budget: float, device: torch.device) -> None:
        self._budget, self._device = budget, device
        self._own = {_address(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._saved: dict[int, tuple[int, dict[int, int]]] = {}  # of each storage its bytes, and those of tensors in it
        self._embeddings: deque[Tensor] = deque()
        self._bytes, self._numbers = 0, 0  # held by the graphs that are kept, and in the chunks they are of
        self.open = budget > 0
        """Whether the graphs of all chunks so far are kept; when one does not fit, none of those after it is kept."""

    def __len__(self) -> int:
        return len(self._embeddings)

    def embed(self, chunk: Any, embed: Callable[[Any], Tensor]) -> Tensor:
        """Return the embeddings of the next chunk, detached; keep their graph if it fits.

        Whether it is likely to fit is judged by how many numbers are in the chunk, and what graphs of earlier ones
        hold; the first is tried. One that turns out not to fit is let go at once.
        """
        numbers = max(1, sum(content.numel() for content in contents(chunk) if isinstance(content, Tensor)))
        if self.open and self._numbers:
            self.open = self._bytes + self._bytes / self._numbers * numbers <= self._budget
        if not self.open:
            with torch.no_grad():
                return embed(chunk)
        with self._measured() as measured:
            embeddings = embed(chunk)
        held = measured()
        self.open = self._bytes + held <= self._budget
        if self.open:
            self._embeddings.append(embeddings)
            self._bytes += held
            self._numbers += numbers
        return embeddings.detach()

    def take(self) -> Tensor:
        """Return the embeddings of the first chunk that is still kept, with their graph, and keep it no longer."""
        return self._embeddings.popleft()

    def restore(self) -> None:
        """Let all graphs go."""
        self._embeddings.clear()

    @contextmanager
    def _measured(self) -> Iterator[Callable[[], int]]:
        """Yield a function that tells afterwards how many bytes were left behind inside."""
        if self._budget == math.inf:
            yield lambda: 0
        elif self._device.type == "cuda":
            before = torch.cuda.memory_allocated(self._device)
            yield lambda: torch.cuda.memory_allocated(self._device) - before
        else:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
                yield lambda: sum(min(size, sum(parts.values())) for size, parts in self._saved.values()) - self._bytes

    def _pack(self, tensor: Tensor) -> Packed:
        address = _address(tensor)
        if address is not None and address not in self._own:
            _, parts = self._saved.setdefault(address, (tensor.untyped_storage().nbytes(), {}))
            parts[tensor.data_ptr()] = max(tensor.nbytes, parts.get(tensor.data_ptr(), 0))
        return tensor, tensor._version


def _unpack(packed: Packed) -> Tensor:
    tensor, version = packed
    if tensor._version != version:  # what autograd itself finds out where nothing is measured
        raise RuntimeError(f"a tensor {tuple(tensor.shape)} of the graph has been modified by an inplace operation")
    return tensor


def _address(tensor: Tensor) -> int | None:
    """Return where a tensor's storage begins; None where it has none of its own."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
        return None
    return tensor.untyped_storage().data_ptr()
