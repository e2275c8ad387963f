"""Chunks and targets on the device where they are needed, however their tensors are wrapped."""

import copy
from collections.abc import Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def available_device(accelerator: str = "auto") -> torch.device:
    """Return the device that is asked for ("auto": the fastest), or the CPU where it is not there."""
    for kind, module in (("cuda", torch.cuda), ("mps", torch.mps)):
        if accelerator in ("auto", kind) and module.is_available():
            return torch.device(kind)
    return torch.device("cpu")


def to_device(value: Any, device: torch.device) -> Any:
    """Return the value with its tensors on the device; what is given stays as it is.

    Tensors are found in lists, tuples, named tuples, dictionaries, other mappings and dataclasses, one in another. An
    object with a method `to(device)` moves itself. Anything else is returned as it is.
    """
    if isinstance(value, Tensor):
        # what is read on the CPU must have arrived; on MPS, PyTorch does not order such a copy before its use
        return value.to(device, non_blocking=device.type not in ("cpu", "mps"))
    if callable(getattr(type(value), "to", None)):
        own = copy.copy(value)  # many move themselves in place
        moved = own.to(device)
        return own if moved is None else moved
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    if isinstance(value, MutableMapping):
        own = copy.copy(value)
        for key, item in value.items():
            own[key] = to_device(item, device)
        return own
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = copy.copy(value)
        for field in fields(value):
            # a frozen one is not changed either: it is a copy that nobody has seen yet
            object.__setattr__(own, field.name, to_device(getattr(value, field.name), device))
        return own
    return value
