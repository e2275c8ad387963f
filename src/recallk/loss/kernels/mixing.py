"""How virtual items are computed with: their similarities from those of their parents, and the gradient back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.loss.kernels.scratch import Scratch


@dataclass(frozen=True)
class Mixing:
    """Virtual item v is `alpha[v]` of row `pairs[v, 0]` and the rest of row `pairs[v, 1]`.

    `parents (B + V, 2)` of all items, a real one its own, only where relatives are left out.
    """

    pairs: Tensor
    alpha: Tensor
    parents: Tensor | None = None


def related(parents: Tensor, queries: Tensor, columns: Tensor) -> Tensor:
    """Say which items `columns (T, P)` share a parent with the `queries (T,)`."""
    of_queries, of_columns = parents[queries][:, None, :, None], parents[columns][:, :, None, :]  # (T, P, 2, 2)
    return (of_queries == of_columns).flatten(2).any(2)


def mixed_columns(similarities: Tensor, mixing: Mixing, scratch: Scratch) -> Tensor:
    """Append the virtual items' columns: `(R, B) -> (R, B + V)`."""
    one, other = mixing.pairs.T
    rows, real = similarities.shape
    out = scratch("mixed", rows, real + len(one))
    out[:, :real] = similarities
    torch.lerp(
        torch.index_select(similarities, 1, other, out=scratch("other", rows, len(one))),
        torch.index_select(similarities, 1, one, out=scratch("one", rows, len(one))),
        mixing.alpha,
        out=out[:, real:],
    )
    return out


def mixed_columns_back(gradient: Tensor, mixing: Mixing, scratch: Scratch) -> Tensor:
    """Add the virtual columns' gradient to that of their parents: `(R, B + V) -> (R, B)`."""
    one, other = mixing.pairs.T
    rows, columns = gradient.shape
    real = columns - len(one)
    out, virtual = gradient[:, :real], gradient[:, real:]
    share = scratch("one", rows, len(one))
    out.index_add_(1, one, torch.mul(virtual, mixing.alpha, out=share))
    return out.index_add_(1, other, torch.mul(virtual, 1 - mixing.alpha, out=share))
