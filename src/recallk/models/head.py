"""The last part of an embedder: from the pooled features to a vector that has the embedding's direction."""

from torch import Tensor, nn
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.models.settings import Head


class UnitLength(nn.Module):
    """Divides vectors by their length, `(B, C) -> (B, C)` float32."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features divided by their length."""
        return F.normalize(features.float(), dim=1)


def make_head(head: Head, channels: int, embedding_size: int) -> tuple[nn.Module, nn.Module]:
    """Return what comes before the last layer, and that layer, for features `(B, channels)`.

    Raises InputError for a size of the embeddings that the head cannot give.
    """
    if head == "linear":
        return nn.LayerNorm(channels), nn.Linear(channels, embedding_size)
    if head == "whitening":
        if embedding_size > channels:
            raise InputError(
                f"embedding_size={embedding_size}: whitening makes no more dimensions than the network's {channels}; "
                f"take {channels} or fewer, or head=linear"
            )
        return UnitLength(), nn.Linear(channels, embedding_size)
    if embedding_size != channels:
        raise InputError(
            f"embedding_size={embedding_size}: without a head an embedding has the network's {channels} dimensions; "
            f"take embedding_size={channels}, or another head"
        )
    return nn.Identity(), nn.Identity()
