"""Rows of unit length, and their gradient, in less memory than `torch.nn.functional.normalize` takes."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recallk.core.precision import full_precision

EPSILON = 1e-12  # PyTorch's: a shorter row is divided by it


def unit_rows(x: Tensor) -> Tensor:
    """Return the rows of `x (B, D)`, floating point, each divided by its length."""
    unit: Tensor = _UnitRows.apply(x)
    return unit


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        divisor = length.clamp_min(EPSILON)
        unit: Tensor = x / divisor
        ctx.save_for_backward(unit, divisor, length >= EPSILON)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, divisor, scaled = ctx.saved_tensors
        with full_precision(unit.device):
            along = torch.linalg.vecdot(gradient, unit)[:, None] * scaled  # a change along the row changes nothing
        across: Tensor = torch.addcmul(gradient, unit, along, value=-1)
        torch.div(across, divisor, out=across)
        return across
