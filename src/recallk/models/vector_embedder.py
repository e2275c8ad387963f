"""A head over the vectors of another model: standardised, then linear or deeper, to embeddings of unit length."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.arrays import ArrayLike, as_tensor
from recallk.core.errors import InputError
from recallk.core.text import brief
from recallk.data.item import Region
from recallk.data.vector_files import first_fault
from recallk.data.vectors import Vector, VectorTable, rows_of_one_table
from recallk.models.chunks import Preparation
from recallk.models.composed import ComposedEmbedder
from recallk.models.embedder import Embedder
from recallk.models.settings import Augmentation, VectorSettings
from recallk.models.vector_head import Scaled, make_vector_head

ROWS = 8_192
"""Vectors that are standardised, or embedded, at a time."""
SMALLEST_DEVIATION = 1e-4
"""Of the root mean square of all deviations: what varies less is divided by this much of it, for it may be rounding."""


@dataclass(frozen=True)
class VectorList(Sequence[NDArray[Any]]):
    """Vectors as rows of an array `(N, D)`, which may be mapped from a file; some of its rows, in any order.

    `table` is the one that the array is of, if any: it says what a row is called.
    """

    array: NDArray[Any]
    rows: NDArray[np.int64]
    table: VectorTable | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: Any) -> Any:  # one at a time; Sequence asks for slices too
        return self.array[self.rows[position]]

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the vectors from `start` to before `stop` as float32. Raises InputError for what has no direction."""
        rows = self.rows[start:stop]
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which is told
            block = self.array[rows].astype(np.float32, copy=False)
        if (fault := first_fault(block, rows)) is not None:
            row, what = fault
            raise InputError(f"{f'vector {row}' if self.table is None else Vector(self.table, row)}: {what}")
        return block


class WholeVectors(Preparation):
    """Vectors as they are, at test and in training."""

    def __init__(self, vectors: VectorList) -> None:
        self.vectors = vectors

    def prepare(self, number: int) -> int:
        """Return the number itself: the vectors of a chunk are taken out of the array together."""
        return number

    def collate(self, prepared: list[int]) -> Tensor:
        """Return vectors `(n, D)` float32. Raises InputError for NaN, infinity, and zeros alone."""
        chosen = replace(self.vectors, rows=self.vectors.rows[prepared])
        return torch.from_numpy(chosen.block(0, len(chosen)))

    def bytes_of(self, number: int) -> int:  # noqa: ARG002
        """Return what a vector takes."""
        return 4 * int(self.vectors.array.shape[1])


class VectorEmbedder(Embedder):
    """Embeds vectors `(input_size,)` of another model: standardised -> head -> unit length.

    `transform` takes an array of them. As a module, in a training loop for example, it takes `(B, input_size)` float32.

    >>> import numpy as np
    >>> vectors = np.random.default_rng(0).standard_normal((5, 768))
    >>> VectorEmbedder(VectorSettings(input_size=768, embedding_size=128)).transform(vectors).shape
    torch.Size([5, 128])
    """

    noun = "vectors"
    settings_type = VectorSettings
    settings: VectorSettings

    def __init__(self, settings: VectorSettings) -> None:
        super().__init__(settings)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(settings.input_size))
        self.register_buffer("deviation", torch.ones(settings.input_size))
        self.head: nn.Module = make_vector_head(settings.head, settings.input_size, settings.embedding_size)
        self.made_by: Mapping[str, Any] | None = None
        """Which embedder made the vectors that it was trained on, where their file said it: `models.made_by`."""

    @property
    def name(self) -> str:
        """The head's."""
        return f"a {self.settings.head} head over vectors of {self.settings.input_size}"

    def forward(self, vectors: Tensor) -> Tensor:
        """Turn vectors `(B, input_size)` into embeddings `(B, D)` float32 of unit length."""
        embeddings: Tensor = self.head((vectors - self.mean) / self.deviation)
        return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)

    def transform(self, vectors: ArrayLike) -> Tensor:
        """Return embeddings `(N, D)` float32 of unit length, on the CPU, of vectors `(N, input_size)`, as `embed` does.

        Raises InputError for anything else, and for a vector of NaN, infinity or zeros alone: with its position, from
        0, or the file and the row, from 1, or id where it is of a file.
        """
        return self.embed(vectors, chunk_size=ROWS)

    def after(self, embedder: Embedder) -> ComposedEmbedder:
        """Return one embedder for the items of another, whose vectors this head was trained on.

        Both keep their weights, which it shares, and their whitenings. Where the vectors' file says what made them,
        `recallk.compose` finds that embedder itself. Raises InputError for one of another number of dimensions, and for
        anything else.
        """
        if not isinstance(embedder, Embedder):
            raise InputError(
                f"after {brief(embedder)}: the embedder that made the vectors is needed, from recallk.load"
            )
        return ComposedEmbedder(embedder, self)

    def untrained(self) -> Embedder:
        """Return an embedder that gives the vectors' own directions: what is searched with today."""
        plain = copy.copy(self)
        plain._modules = {**self._modules, "head": Scaled()}
        plain._buffers = {"mean": torch.zeros_like(self.mean), "deviation": torch.ones_like(self.deviation)}
        plain.settings = self.settings.model_copy(update={"embedding_size": self.settings.input_size})
        return plain

    @torch.no_grad()
    def standardise(self, items: Iterable[Any]) -> None:
        """Take mean and deviation of the inputs from these vectors; of an input that never changes, 1 as deviation.

        A deviation is at least `SMALLEST_DEVIATION` times the root mean square of all, so that rounding noise stays
        small. Both are summed up in float64, in an order that the items alone decide. Raises InputError as `listed`,
        where there are no vectors, and for vectors that cannot be embedded.
        """
        vectors = self.listed(items)
        if not len(vectors):
            raise InputError("no vectors to standardise by: give those that are trained on")
        total = np.zeros((2, self.settings.input_size))
        first = vectors.block(0, 1).astype(np.float64)  # sums of squares far from zero would lose the deviation
        for start in range(0, len(vectors), ROWS):
            block = vectors.block(start, start + ROWS) - first
            total += block.sum(0), np.square(block).sum(0)
        shifted, squares = total / len(vectors)
        variance = np.maximum(squares - np.square(shifted), 0)
        deviation = np.sqrt(variance)
        constant = deviation <= 1e-6 * np.abs(first[0] + shifted)
        deviation = np.maximum(deviation, SMALLEST_DEVIATION * np.sqrt(variance.mean()))
        self.mean.copy_(torch.from_numpy(first[0] + shifted))
        self.deviation.copy_(torch.from_numpy(np.where(constant | (deviation == 0), 1.0, deviation)))

    def listed(self, items: Iterable[Any]) -> VectorList:
        """Return vectors as rows of an array: rows of a table, an array or a tensor `(N, input_size)`, or a list.

        Raises InputError for anything else.
        """
        first = items[0] if isinstance(items, Sequence) and len(items) and not isinstance(items, str) else None
        if isinstance(first, str | Path | Region) or (isinstance(first, np.ndarray) and first.ndim > 1):
            raise InputError(f"no vectors: this head takes vectors of {self.settings.input_size:,} numbers")
        found = rows_of_one_table(items) if isinstance(items, Sequence) else None
        table = None if found is None else found.table
        if found is not None:
            array, rows = found.table.array, found.rows
        else:
            array = array_of(items)
            if not len(array):
                array = np.empty((0, self.settings.input_size), np.float32)
            rows = np.arange(len(array))
        if array.ndim != 2 or array.shape[1] != self.settings.input_size:
            raise InputError(
                f"vectors of shape {tuple(array.shape)}: (items, {self.settings.input_size}) is needed, as this head "
                f"was trained on"
            )
        return VectorList(array, rows, table)

    def preparation(self, items: Sequence[Any]) -> WholeVectors:
        """Return the vectors as they are."""
        return WholeVectors(items if isinstance(items, VectorList) else self.listed(items))

    def training_preparation(
        self,
        items: Sequence[Any],
        augmentation: Augmentation | None,  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        epoch: int,  # noqa: ARG002
    ) -> WholeVectors:
        """Return the vectors as they are: they are not varied."""
        return self.preparation(items)

    def example(self, count: int) -> Tensor:
        """Return vectors of ones `(count, input_size)`."""
        return torch.ones(count, self.settings.input_size)


def array_of(items: Any, what: str = "vectors") -> NDArray[Any]:
    """Return vectors as an array of float16, float32 or float64. Raises InputError, one line, for anything else."""
    if isinstance(items, np.ndarray) and items.dtype in (np.float16, np.float32, np.float64):
        return items
    if not isinstance(items, Iterable) or isinstance(items, str | bytes):
        raise InputError(f"{what} are {brief(items)}: an array (items, dimensions) is needed")
    listed = items if isinstance(items, Tensor | np.ndarray | list) else list(items)
    if isinstance(listed, list) and listed and hasattr(listed[0], "__array__"):
        listed = [np.asarray(item) for item in listed]
    tensor = as_tensor(listed, what, "floating-point numbers are needed").detach().cpu()
    if not tensor.is_floating_point() and tensor.numel():
        raise InputError(f"{what} are whole numbers: floating-point numbers are needed")
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
