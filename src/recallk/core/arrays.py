"""Embeddings, labels, gallery items and ks as callers give them: checked in one place, for all that takes them."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.text import brief, one_line

ArrayLike = Tensor | np.ndarray[Any, Any] | Sequence[Any]
"""A tensor, an array of NumPy, or a (nested) list of numbers or tensors."""

INTEGERS = frozenset(
    {
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    }
)
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_NUMBER_THEM = "number the classes, as numpy.unique(labels, return_inverse=True)[1] does"
_LARGEST_K = 2**31 - 1


def labelled_embeddings(
    embeddings: ArrayLike,
    labels: ArrayLike,
    name: str = "embeddings",
    labels_name: str = "labels",
    *,
    least: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return embeddings as a tensor `(N, D)`, its type and gradient kept, and labels `(N,)` int64 on its device.

    `N` is at least `least`, `D` at least 1; the embeddings are float16, bfloat16, float32 or float64 (a list of
    Python's floats is float64) and finite; the labels integers of any width, in any byte order. The names are what
    messages call them.

    Raises InputError, one line, for whatever does not fit.
    """
    rows = _rows(embeddings, name, least)
    classes = class_labels(labels, labels_name)
    if classes.shape != rows.shape[:1]:
        raise InputError(
            f"{labels_name} have shape {tuple(classes.shape)}, {name} have {len(rows)} rows: give one label per row"
        )
    return _finite(rows, name), classes.to(rows.device)


def checked_embeddings(embeddings: ArrayLike, name: str = "embeddings") -> Tensor:
    """Return embeddings as `labelled_embeddings` does, without labels."""
    return _finite(_rows(embeddings, name, 1), name)


def _rows(embeddings: ArrayLike, name: str, least: int) -> Tensor:
    rows = as_tensor(embeddings, name, "floating-point numbers are needed")
    if rows.dtype not in _FLOATS:
        raise InputError(f"{name} are {type_name(rows)}: floating-point numbers are needed")
    if rows.ndim != 2:
        raise InputError(f"{name} have shape {tuple(rows.shape)}: (items, dimensions) is needed")
    if len(rows) < least or rows.shape[1] == 0:
        raise InputError(f"{name} are empty, of shape {tuple(rows.shape)}: give at least one item of one dimension")
    return rows


def _finite(rows: Tensor, name: str) -> Tensor:
    broken = int((~torch.isfinite(rows.detach())).any(1).sum())
    if broken:
        raise InputError(
            f"{broken} of {len(rows)} rows of the {name} hold NaN or infinity: "
            f"after steps of training, lower the learning rate; otherwise look for broken input"
        )
    return rows


def class_labels(labels: ArrayLike, name: str = "labels") -> Tensor:
    """Return labels, integers of any width, as int64, in their shape. Raises InputError where they are not integers."""
    needed = f"integers are needed; {_NUMBER_THEM}"
    classes = as_tensor(labels, name, needed)
    if classes.dtype not in INTEGERS:
        raise InputError(f"{name} are {type_name(classes)}: {needed}")
    return classes.detach().to(torch.int64)  # the narrow unsigned ones can neither be sorted nor searched


def gallery_numbers(numbers: ArrayLike, gallery: int, of: str) -> NDArray[np.int64]:
    """Return numbers of different items `(N,)` of a gallery of so many; `of` is what messages call them.

    Raises InputError for what is not a list of whole numbers, a number beyond the gallery, and one that comes twice.
    """
    needed = "whole numbers of gallery items are needed"
    values = as_tensor(numbers, of, needed)
    if values.numel() == 0:
        return np.empty(0, dtype=np.int64)
    if values.dtype not in INTEGERS or values.ndim != 1:
        raise InputError(f"{of} are {type_name(values)} of shape {tuple(values.shape)}: a list of {needed}")
    found: NDArray[np.int64] = values.detach().cpu().numpy().astype(np.int64)
    beyond = found[(found < 0) | (found >= gallery)]
    if len(beyond):
        raise InputError(f"{of} name the gallery item {beyond[0]}, but the gallery's are 0 .. {gallery - 1}")
    different, counts = np.unique(found, return_counts=True)
    if len(different) < len(found):
        raise InputError(f"{of} name the gallery item {different[counts > 1][0]} more than once")
    return found


def as_tensor(values: ArrayLike, name: str, needed: str) -> Tensor:
    """Return numbers as a tensor; a tensor as it is, with its gradient.

    Unsigned integers of NumPy come as int64. Raises InputError, "NAME are STRINGS: NEEDED", for what holds no numbers.
    """
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_nested:
            raise InputError(f"{name} are a sparse, nested or quantized tensor: a dense one is needed")
        if values.is_meta:
            raise InputError(f"{name} are a tensor without values (on the device meta): {needed}")
        return values
    if isinstance(values, list | tuple) and values and all(isinstance(value, Tensor) for value in values):
        try:
            return torch.stack(list(values))
        except RuntimeError as error:
            raise InputError(f"{name} are tensors that do not go together ({one_line(error)})") from None
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever the values' own conversion raises
        raise InputError(f"{name} make no array ({one_line(error)}): give rows of one length") from None
    if array.dtype.kind not in "biufc":
        raise InputError(f"{name} are {_described(array)}: {needed}")
    if array.dtype.kind == "u":
        array = array.astype(np.int64)  # PyTorch computes little with unsigned integers
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    except TypeError:
        raise InputError(f"{name} are {array.dtype}, which PyTorch does not know: {needed}") from None


def normalised(rows: Tensor) -> Tensor:
    """Return the rows of `(N, D)` divided by their length, however large or small that is; rows of zeros stay.

    Any number of derivatives; that of a row of zeros is as if its length were 1e-12.
    """
    # dividing by the largest first keeps the squares of huge and tiny values within range
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    return torch.nn.functional.normalize(rows / largest.masked_fill(largest == 0, 1), dim=1)


def checked_ks(ks: Any) -> tuple[int, ...]:
    """Return the k's of recall@k as integers. Raises InputError where they are not whole numbers of at least 1."""
    values = ks.tolist() if isinstance(ks, Tensor | np.ndarray) else ks
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise InputError(f"ks must be a sequence of at least one k, such as (1, 10), got {brief(ks)}")
    values = tuple(values)
    if not values:
        raise InputError("ks must be a sequence of at least one k, such as (1, 10), got none")
    for k in values:
        whole = isinstance(k, Integral) or (isinstance(k, float | np.floating) and float(k).is_integer())
        if isinstance(k, bool) or not whole or k < 1:
            raise InputError(f"ks: every k must be an integer of at least 1, got {brief(k)}")
        if k > _LARGEST_K:
            raise InputError(f"ks: every k must be at most {_LARGEST_K}, got {brief(k)}")
    return tuple(int(k) for k in values)


def type_name(values: Tensor) -> str:
    """Return the name of a tensor's type as messages call it: "float32"."""
    return str(values.dtype).removeprefix("torch.")


def _described(array: np.ndarray[Any, Any]) -> str:
    """Say in a word what an array holds in place of numbers."""
    first = array.flat[0] if array.size else None
    if array.dtype.kind in "UST" or isinstance(first, str | bytes):
        return "strings"
    return f"of type {type(first).__name__}" if array.dtype.kind == "O" else array.dtype.name
