"""The few calls that pickles of plain data make: of NumPy's arrays and numbers, of sets and of bytes. Done here by us.

Nothing that a pickle names is looked up or called; each name stands for one of the functions below.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = "biufcSU"  # of arrays and scalars: numbers and strings
_MOST_CHARACTERS = 8  # of a dtype's code, such as "f8"
_HIGHEST_CHARACTER = 0x10FFFF


class Named:
    """What a pickle named, and what is done where it calls that."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None) -> None:
        self.name, self.call = name, call


class DType:
    """The type of an array's elements; its byte order comes after it, as a state."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or len(code) > _MOST_CHARACTERS:
            raise ValueError("it holds an array of a type that is neither a number nor a string")
        self.dtype = np.dtype(code)
        if self.dtype.kind not in f"{_KINDS}O":
            raise ValueError(f"it holds an array of {self.dtype}, neither numbers nor strings")

    def build(self, state: Any) -> None:
        """Take the byte order."""
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            raise ValueError("it holds an array of structures")
        self.dtype = self.dtype.newbyteorder(order)


class UnfinishedArray:
    """An array before its state."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        """Take the shape, the type and the elements."""
        _, shape, dtype, by_columns, elements = state
        flat = _objects(elements) if _dtype(dtype).kind == "O" else _flat(elements, dtype)
        self.array = _shaped(flat, shape, "F" if by_columns else "C")


def _buffered(elements: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    if axes is None:
        return _shaped(_flat(elements, dtype), shape, order)
    return _shaped(_flat(elements, dtype), shape, "C").transpose(axes)


def _scalar(dtype: Any, elements: Any) -> Any:
    (value,) = _flat(elements, dtype)
    return value


def _flat(elements: Any, dtype: Any) -> NDArray[Any]:
    if isinstance(elements, str):  # of Python 2
        elements = elements.encode("latin1")
    kind = _dtype(dtype)
    if kind.kind == "O" or not isinstance(elements, bytes | bytearray):
        raise ValueError("it holds an array whose elements are no bytes")
    if kind.itemsize == 0:
        raise ValueError("it holds an array of strings without any characters")
    flat = np.frombuffer(bytes(elements), kind)
    if kind.kind == "U" and len(flat):
        characters = np.frombuffer(bytes(elements), np.dtype(np.uint32).newbyteorder(kind.byteorder))
        if characters.max() > _HIGHEST_CHARACTER:
            raise ValueError("it holds a string of what are no characters")
    return flat


def _objects(elements: Any) -> NDArray[Any]:
    if not isinstance(elements, list):
        raise ValueError("it holds an array of objects that are no list")
    flat = np.empty(len(elements), dtype=object)
    for place, element in enumerate(elements):  # at once, lists of one length would become columns
        flat[place] = element
    return flat


def _shaped(flat: NDArray[Any], shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(shape, int):
        shape = (shape,)
    if any(type(side) is not int or side < 0 for side in shape) or math.prod(shape) != len(flat):
        raise ValueError(f"it holds an array with {len(flat):,} elements, and not as many as its shape says")
    if order not in ("C", "F"):
        raise ValueError("it holds an array whose order is neither C nor F")
    return flat.reshape(shape, order=order)


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, DType):
        raise ValueError("it holds an array without a type")
    return value.dtype


def _bytes_of(text: Any = "", encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("it holds bytes that are not written as Python does")
    return text.encode("latin1")


def _byte_array(data: Any = b"", encoding: Any = "latin1") -> bytearray:
    return bytearray(data if isinstance(data, bytes) else _bytes_of(data, encoding))


def set_of(elements: Any = (), kind: type[set[Any]] | type[frozenset[Any]] = set) -> set[Any] | frozenset[Any]:
    """Return a set of text, bytes and numbers: a hash of anything else may take for ever."""
    if not isinstance(elements, list | tuple):
        raise ValueError("it holds a set of what is no list")
    for element in elements:
        require_key(element)
    return kind(elements)


def require_key(value: Any) -> None:
    """Raise ValueError for what may not be a key of a table, or in a set."""
    if not isinstance(value, str | bytes | int | float | np.generic | None):
        raise ValueError("it holds a table whose keys are neither text nor numbers")


def _complex(real: Any, imaginary: Any) -> complex:
    if not (isinstance(real, float) and isinstance(imaginary, float)):
        raise ValueError("it holds a complex number of what are no numbers")
    return complex(real, imaginary)


_BUILTINS: dict[str, Callable[..., Any]] = {
    "set": set_of,
    "frozenset": lambda elements=(): set_of(elements, frozenset),
    "bytes": _bytes_of,
    "bytearray": _byte_array,
    "complex": _complex,
}
_NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": UnfinishedArray,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _buffered,
}
CALLS: dict[str, Callable[..., Any] | None] = {
    "numpy.dtype": DType,
    "numpy.ndarray": None,  # stands among the arguments only
    "_codecs.encode": _bytes_of,
    **{f"{module}.{name}": call for module in ("builtins", "__builtin__") for name, call in _BUILTINS.items()},
    **{f"{module}.{name}": call for module in ("numpy.core", "numpy._core") for name, call in _NUMPY.items()},
}
"""By the full name: all that a pickle of plain data can ask for."""
