"""Which kernel computes an objective: the one that is asked for, or the fastest that is able to."""

import logging

import torch
from torch import Tensor

from recallk.core.errors import InputError
from recallk.loss.kernels import streamed, symmetric, tiled

log = logging.getLogger("recallk")


def choose(
    implementation: str, queries: Tensor, gallery: Tensor | None, objective: streamed.Objective
) -> streamed.Kernel:
    """Return the kernel of an implementation, "auto", "tiled" or "fused", for `queries (Q, D)`; say so at debug level.

    Raises InputError where "fused" cannot run.
    """
    name = implementation
    if name == "auto":
        name = "tiled"  # the fused kernel has run in Triton's interpreter alone so far
    if name == "fused":
        hindrance = _hindrance(queries, objective)
        if hindrance is not None:
            raise InputError(f"implementation='fused' {hindrance}, or choose 'auto'")
        from recallk.loss.kernels import fused

        kernel = fused.kernel
    else:
        kernel = symmetric.kernel if symmetric.is_faster(queries, gallery, objective) else tiled.kernel
    log.debug(
        "the loss of %s items on %s is computed by %r, with the kernel of %s",
        len(queries),
        queries.device,
        name,
        kernel.__module__,
    )
    return kernel


def _hindrance(queries: Tensor, objective: streamed.Objective) -> str | None:
    """Say why the fused loss cannot run on the `queries`, and what would help; None where it can."""
    if objective.mixing is not None and objective.mixing.parents is not None:
        return "keeps relatives: choose SimilarityMixup(relatives='keep')"
    if objective.positives.ignored is not None:
        return "ranks all items, and some are ignored: leave these out of the positives"
    if queries.dtype == torch.float64:
        return "computes in float32, these are float64: convert the embeddings"
    try:
        from recallk.loss.kernels import fused  # not above: Triton is not everywhere
    except ImportError:
        return "needs Triton, which cannot be imported: install triton"
    if fused.INTERPRETED:
        return None
    if not queries.is_cuda:
        return f"runs on CUDA, these embeddings are on {queries.device}: move them to a GPU"
    if torch.cuda.get_device_capability(queries.device) < (8, 0):
        return "needs a GPU of compute capability 8.0 or above: use another"
    return None
