"""A network's computation compiled by `torch.compile`."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recallk.core.errors import InputError
from recallk.core.text import one_line

OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}
"""PyTorch's own random numbers: dropout then draws what it does in a network that is not compiled, in both passes."""


def compiled(function: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function of images `(n, C, H, W)`, compiled when it is first called, in the default mode.

    It is compiled for the first size, and once more, for all sizes, when another comes; and so for each mode: in
    training, at test, with and without a graph. Beyond PyTorch's limit of versions the function itself is called.
    Raises InputError where there is no C++ compiler for a CPU, and, when it is called, where it cannot be compiled.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise InputError(f"compile: the C++ compiler {compiler} is not here; install one, or leave compile out")
    from torch._dynamo.exc import TorchDynamoException  # takes a second

    fast = torch.compile(function, options=OPTIONS)

    def call(images: Tensor) -> Tensor:
        try:
            return fast(images)
        except TorchDynamoException as error:
            raise InputError(
                f"compile: this network cannot be compiled here ({one_line(error)}); leave compile out"
            ) from error

    return call
