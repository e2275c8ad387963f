"""A checksum is another where an embedder computes something else."""

import copy

import torch

from recallk.models.checksum import checksum
from recallk.models.settings import VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from recallk.models.whitening import Whitening


def test_it_is_of_all_weights_and_whitenings() -> None:
    first = VectorEmbedder(VectorSettings(input_size=6, embedding_size=6)).eval()
    others = [copy.deepcopy(first) for _ in range(5)]
    with torch.no_grad():
        others[0].head.weight[0, 0] += 1  # type: ignore[operator, index]
        others[1].mean[0] += 1
    others[2].whitening = Whitening(torch.zeros(6).double(), torch.eye(6).double())
    others[3].whitening = Whitening(torch.ones(6).double(), torch.eye(6).double())
    others[4].double()
    composed = [head.after(part) for part in (first, others[0], others[2]) for head in (first, others[0], others[2])]
    whitened_as_a_whole = first.after(first)
    whitened_as_a_whole.whitening = others[2].whitening
    composed.append(whitened_as_a_whole)
    sums = [checksum(embedder) for embedder in [first, *others, *composed]]
    assert len(set(sums)) == len(sums)
    assert checksum(copy.deepcopy(first)) == sums[0]
