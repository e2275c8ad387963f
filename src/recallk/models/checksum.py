"""A checksum of what an embedder computes with: its weights, and its whitenings."""

import hashlib
from typing import Any, Protocol

import torch

from recallk.models.embedder import Embedder


class Digest(Protocol):
    """What takes bytes, as those of hashlib."""

    def update(self, data: Any, /) -> None:
        """Take some more."""


def checksum(embedder: Embedder) -> str:
    """Return the SHA-256 of weights and whitenings, in hexadecimal."""
    digest = hashlib.sha256()
    add_weights(digest, embedder)
    return digest.hexdigest()


def add_weights(digest: Digest, embedder: Embedder) -> None:
    """Add names, types, shapes and values of the weights, and the whitenings, to a digest."""
    for name, tensor in embedder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for name, part in embedder.named_modules(remove_duplicate=False):
        if isinstance(part, Embedder) and part.whitening is not None:
            digest.update(name.encode())  # of the parts of a composed one
            for tensor in (part.whitening.mean, part.whitening.projection):
                array = tensor.numpy()
                digest.update(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())
