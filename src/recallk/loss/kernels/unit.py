"""Rows of unit length, and their gradient, in less memory than `torch.nn.functional.normalize` takes."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recallk.core.precision import full_precision

EPSILON = 1e-12  # PyTorch's: a row of zeros is divided by it


def unit_rows(x: Tensor) -> Tensor:
    """Return the rows of `x (B, D)`, floating point, each divided by its length, however large or small.

    A row of zeros stays, and its gradient is as if it had a length of 1e-12. First derivatives only: see
    `core.arrays.normalised` for more.
    """
    unit: Tensor = _UnitRows.apply(x)
    return unit


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        scale = None
        extreme = ~((length >= EPSILON) & length.isfinite())  # their squares, or the sum of these, under- or overflow
        if bool(extreme.any()):  # then they are divided by their largest number first
            largest = torch.linalg.vector_norm(x, float("inf"), dim=1, keepdim=True)
            scale = torch.where(extreme & (largest > 0), largest, 1)
            x = x / scale
            length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        divisor = length.clamp_min(EPSILON)
        unit: Tensor = x / divisor
        ctx.save_for_backward(unit, divisor, length > 0, scale)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, divisor, directed, scale = ctx.saved_tensors
        with full_precision(unit.device):
            along = torch.linalg.vecdot(gradient, unit)[:, None] * directed  # a change along the row changes nothing
        across: Tensor = torch.addcmul(gradient, unit, along, value=-1)
        torch.div(across, divisor, out=across)
        return across if scale is None else across.div_(scale)
