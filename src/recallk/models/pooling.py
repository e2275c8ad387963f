"""From the last features of a backbone to one vector for each image."""

import torch
from torch import Tensor, nn

from recallk.core.errors import InputError
from recallk.models.settings import Pooling


class GeM(nn.Module):
    """Generalised mean `(mean of x^p)^(1/p)` over places `(B, N, C) -> (B, C)`, `p` learnable from 3.

    Source: "Fine-tuning CNN Image Retrieval with No Human Annotation" (TPAMI 2018); eps 1e-6 as the paper's authors.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def forward(self, places: Tensor) -> Tensor:
        """Pool `(B, N, C)` to `(B, C)`."""
        return places.clamp(min=self.eps).pow(self.p).mean(1).pow(1 / self.p)


class Pool(nn.Module):
    """Pool what timm's `forward_features` gives: maps `(B, C, H, W)` or `(B, H, W, C)`, or tokens `(B, N, C)`."""

    def __init__(self, pooling: Pooling, channels: int, prefix_tokens: int) -> None:
        super().__init__()
        if pooling == "token" and prefix_tokens == 0:
            raise InputError("pooling=token needs a backbone with a class token (a ViT); choose average or gem")
        self.pooling = pooling
        self.channels = channels
        self.prefix_tokens = prefix_tokens
        self.gem = GeM() if pooling == "gem" else None

    def forward(self, features: Tensor) -> Tensor:
        """Return `(B, C)`."""
        if features.ndim == 4:
            channels_last = features.shape[1] != self.channels
            places = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
        elif self.pooling == "token":
            return features[:, 0]
        else:
            places = features[:, self.prefix_tokens :]
        return places.mean(1) if self.gem is None else self.gem(places)
