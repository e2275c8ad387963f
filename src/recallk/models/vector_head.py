"""The layers over standardised vectors."""

import torch
from torch import Tensor, nn

from recallk.models.settings import VectorHead


class Scaled(nn.Module):
    """Vectors `(B, D)` divided by their largest number: the same directions, whose lengths are within float32."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return them."""
        return vectors / vectors.abs().amax(1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


class Residual(nn.Module):
    """A linear layer, and beside it a branch of two that begins at zero, `(B, inputs) -> (B, outputs)`.

    The linear layer begins as a turn (or, to fewer dimensions, a random projection along orthogonal directions), so the
    head begins as the standardised vectors are.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.straight = nn.Linear(inputs, outputs)
        self.branch = _two_layers(inputs, outputs)
        nn.init.orthogonal_(self.straight.weight)
        nn.init.zeros_(self.straight.bias)
        last = self.branch[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the sum of both."""
        summed: Tensor = self.straight(vectors) + self.branch(vectors)
        return summed


def make_vector_head(head: VectorHead, inputs: int, outputs: int) -> nn.Module:
    """Return the layers of a head by name; hidden layers are as wide as the vectors."""
    if head == "linear":
        return nn.Linear(inputs, outputs)
    return Residual(inputs, outputs) if head == "residual" else _two_layers(inputs, outputs)


def _two_layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))
