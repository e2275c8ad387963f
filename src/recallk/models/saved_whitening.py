"""The whitening of a saved model, fitted after training: a file beside the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from recallk.core.errors import InputError
from recallk.core.files import read_file, write_file
from recallk.core.text import brief
from recallk.models.scales import checked_scales
from recallk.models.whitening import Fitted, Method, Whitening

FORMAT = "1"
_REMEDY = "it is damaged: fit it again, or remove the file"


def write_whitening(whitening: Whitening, path: Path) -> None:
    """Write a whitening, with how it was fitted. Raises InputError, one line, where that cannot be."""
    tensors = {"mean": whitening.mean.contiguous(), "projection": whitening.projection.contiguous()}
    about = {"format": FORMAT, "dimension": str(whitening.dimension)}
    if (fitted := whitening.fitted) is not None:
        about |= {"method": fitted.method, "power": repr(fitted.power), "data": fitted.data, "items": str(fitted.items)}
        about["scales"] = ",".join(map(repr, fitted.scales))
    write_file(path, lambda unfinished: save_file(tensors, unfinished, about))


def read_whitening(path: Path, size: int) -> Whitening:
    """Return the whitening in a file, for embeddings of `size` dimensions.

    Raises InputError, one line, for a damaged file, one of a later version, or one that was fitted to others.
    """
    whitening = read_file(path, _parse, "a whitening", _REMEDY)
    if len(whitening.mean) != size:
        told = f"a whitening of {len(whitening.mean)} dimensions, and the model's embeddings have {size}"
        raise InputError(f"{path}: {told}; fit it again, or remove the file")
    return whitening


def _parse(path: Path) -> Whitening:
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        if (number := about.get("format")) != FORMAT:
            raise InputError(f"{path}: written by another version of recallk (format {brief(number)}); use that one")
        mean, projection = file.get_tensor("mean"), file.get_tensor("projection")
    if mean.ndim != 1 or projection.ndim != 2 or projection.shape[1:] != mean.shape or not projection.numel():
        raise ValueError(f"shapes {tuple(mean.shape)} and {tuple(projection.shape)}")
    if mean.dtype != torch.float64 or projection.dtype != torch.float64:
        raise ValueError("numbers of another type")
    if not bool(torch.isfinite(mean).all()) or not bool(torch.isfinite(projection).all()):
        raise ValueError("NaN or infinity")
    return Whitening(mean, projection, _fitted(about) if "method" in about else None)


def _fitted(about: Mapping[str, str]) -> Fitted:
    (method,) = (known for known in get_args(Method) if known == about["method"])
    scales = checked_scales(tuple(map(float, about["scales"].split(","))))
    return Fitted(method, float(about["power"]), scales, about["data"], int(about["items"]))
