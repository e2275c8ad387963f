"""Whatever holds an image (a file, PIL's, an array, a tensor) becomes a path or 8-bit RGB, or one line says why not."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.data.images import as_rgb
from recallk.data.item import ArchiveMember, Depicted, Drawing, File, Region

Picture = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Region | ArchiveMember | Drawing
"""A path; a member of a .tar archive; a drawing; an image of PIL in any mode; a part of a file or of uint8 pixels; or
pixels: `(H, W)`, or `(H, W, C)` with 1 (grey), 3 (RGB) or 4 (RGB and alpha) channels. Pixels are uint8, bool, floats
from 0 to 1, or uint16 from 0 to 65,535. A tensor may have its channels first, and has where its first dimension is 1,
3 or 4."""

_KINDS = frozenset({"bool", "uint8", "uint16", "float16", "bfloat16", "float32", "float64"})
_CHANNELS = (1, 3, 4)
_PATHS = "a path, a PIL image, or pixels as an array or a tensor"


class Pictures(Sequence[Depicted]):
    """A list of images as the views take them: each is converted when it is read, by the process that reads it.

    Raises InputError, naming the position, for what is no image: by type and shape at once, by value when it is read.
    """

    def __init__(self, images: Iterable[Picture]) -> None:
        self._images = [_checked(image, f"image {position}") for position, image in enumerate(_listed(images))]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: Any) -> Any:  # one number at a time; Sequence asks for slices too
        return converted(self._images[position], f"image {position}")


def converted(image: Picture, name: str = "the image") -> Depicted:
    """Return paths, drawings and parts of images as they are, anything else as pixels `(H, W, 3)` or `(H, W)` uint8.

    Alpha is laid on white. An image of PIL becomes what its file would (`data.images.as_rgb`).

    Raises InputError, beginning with `name`, for what is no image.
    """
    image = _checked(image, name)
    try:
        if isinstance(image, File | Region | Drawing):
            return image
        return np.asarray(as_rgb(image)) if isinstance(image, Image.Image) else _of_pixels(_array(image), name)
    except InputError:
        raise
    except Exception as error:  # PIL's and NumPy's own
        raise InputError(f"{name}: cannot be read ({one_line(error)}); give {_PATHS}") from None


def _listed(images: Iterable[Picture]) -> list[Picture]:
    one = isinstance(images, str | bytes | os.PathLike | Image.Image)
    if isinstance(images, np.ndarray | Tensor):  # a batch of pixels, or a NumPy array of paths
        one = images.ndim != 4 and not (
            isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "UO"
        )
    if one:
        raise InputError(f"images: one {type(images).__name__} where a list is needed; write [image] for a single one")
    if not isinstance(images, Iterable) or isinstance(images, dict | set):
        raise InputError(f"images: {type(images).__name__} where a list is needed, with {_PATHS} for each image")
    return list(images)


def _checked(image: object, name: str) -> File | Image.Image | NDArray[Any] | Tensor | Region | Drawing:
    """Return an image whose type and shape are right, fit to be handed to another process."""
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, ArchiveMember | Drawing):
        return image
    if isinstance(image, Region):
        whole = _checked(image.image, name)
        if not isinstance(whole, File | np.ndarray):
            raise InputError(f"{name}: a part of a {type(whole).__name__}; give one of a path, or of a uint8 array")
        return Region(whole, image.box)
    if isinstance(image, Image.Image):
        try:
            image.load()  # processes that share an open file would move each other's place in it
        except Exception as error:
            raise InputError(f"{name}: truncated or broken PIL image ({one_line(error)})") from None
        return image
    if not isinstance(image, np.ndarray | Tensor):
        raise InputError(f"{name}: {type(image).__name__}; give {_PATHS}")
    kind = image.dtype.name if isinstance(image, np.ndarray) else str(image.dtype).removeprefix("torch.")
    if kind not in _KINDS:
        raise InputError(f"{name}: pixels are {kind}; give uint8, bool, uint16, or floats from 0 to 1")
    shape = tuple(image.shape)
    channels = 1 if len(shape) == 2 else shape[0] if _channels_first(image) else shape[-1] if len(shape) == 3 else 0
    if channels not in _CHANNELS or 0 in shape:
        also = "; (3, H, W) too" if isinstance(image, Tensor) else ""
        raise InputError(f"{name}: pixels of shape {shape}; give (H, W), or (H, W, C) with C = 1, 3 or 4{also}")
    if isinstance(image, Tensor):
        if image.layout != torch.strided or image.is_meta:
            raise InputError(f"{name}: a tensor without plain values; give a dense one")
        return image.detach().cpu()
    return image


def _channels_first(image: NDArray[Any] | Tensor) -> bool:
    return isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] in _CHANNELS


def _array(image: NDArray[Any] | Tensor) -> NDArray[Any]:
    if not isinstance(image, Tensor):
        return image
    array: NDArray[Any] = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    return array.transpose(1, 2, 0) if _channels_first(image) else array


def _of_pixels(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    pixels = _eight_bits(array, name)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return np.asarray(as_rgb(Image.fromarray(np.ascontiguousarray(pixels))))
    return pixels


def _eight_bits(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u":  # 16 bits: 65,535 is white
        return ((array.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)
    if not ((array >= 0) & (array <= 1)).all():  # NaN is neither
        found = f"from {array.min():g} to {array.max():g}" if np.isfinite(array).all() else "with NaN or infinity"
        raise InputError(f"{name}: floats {found}; give floats from 0 to 1, or uint8 from 0 to 255")
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
