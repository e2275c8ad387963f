"""`python -m benchmarks.precision`: what coarser matrix products would do to the loss at a rank temperature of 0.01.

A tensor core's formats are emulated: the inputs of every product, forward and backward, are rounded to its mantissa and
multiplied exactly. Everything else is float64, so that the difference is the products' alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case, batch_of

ITEMS = 1_000
MANTISSA = {"float32 (ieee)": 23, "tf32x3": 21, "tf32": 10, "bfloat16": 7}
KS, RANK_TEMPERATURE = torch.tensor([1, 2, 4, 8, 16]), 0.01


def rounded(x: Tensor, bits: int) -> Tensor:
    """Round float64 numbers to a mantissa of `bits` bits, to the nearest."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.round(mantissa * 2 ** (bits + 1)), exponent - bits - 1)


class Product(torch.autograd.Function):
    """`a @ b.T` and its gradient, from rounded inputs."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        ctx.save_for_backward(rounded(a, bits), rounded(b, bits))
        return rounded(a, bits) @ rounded(b, bits).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        gradient = rounded(gradient, ctx.bits)
        return gradient @ b, gradient.T @ a, None


def loss(x: Tensor, positives: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the loss of a batch whose item i has the positives `(B, P)`, from a product of choice."""
    similarity = product(x, x)
    high = similarity.gather(1, positives)
    above = torch.sigmoid((similarity[:, None] - high[:, :, None]) / RANK_TEMPERATURE)
    ranks = 0.5 + above.sum(2)
    hits = torch.sigmoid(KS - ranks[:, :, None]).sum(1)
    return 1 - (torch.minimum(hits, KS) / KS.clamp(max=positives.shape[1])).mean()


def _product(bits: int, a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = Product.apply(a, b, bits)
    return product


def main() -> None:
    """Print a Markdown table."""
    x, labels = batch_of(Case("tiled", ITEMS), torch.float64)
    same = (labels[:, None] == labels).fill_diagonal_(False)
    positives = same.nonzero()[:, 1].view(ITEMS, -1)

    def solve(product: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        value = loss(leaf, positives, product)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    exact, exact_gradient = solve(lambda a, b: a @ b.T)
    print(f"| products in | loss, relative error | gradient, relative error |\n{'|---' * 3}|")
    for name, bits in MANTISSA.items():
        value, gradient = solve(partial(_product, bits))
        error = (gradient - exact_gradient).norm() / exact_gradient.norm()
        print(f"| {name} | {abs(value - exact) / exact:.1e} | {error:.1e} |")


if __name__ == "__main__":
    main()
