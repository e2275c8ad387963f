"""Losses that compare a batch with the embeddings of earlier ones (cross-batch memory)."""

from typing import TYPE_CHECKING

from recallk.losses.entry import BuildContext, Entry
from recallk.losses.ours import build_recall_at_k
from recallk.losses.pairs import MULTI_SIMILARITY

if TYPE_CHECKING:
    from torch import nn

_MEMORY = {"memory_size": 4096}


def _contrastive(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import distances, losses

    from recallk.losses.library import MemoryLoss

    settings = dict(context.settings)
    size = settings.pop("memory_size")
    loss = losses.ContrastiveLoss(distance=distances.CosineSimilarity(), **settings)
    return MemoryLoss(context.name, losses.CrossBatchMemory(loss, context.embedding_size, memory_size=size))


def _multi_similarity(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import losses, miners

    from recallk.losses.library import MemoryLoss

    settings = dict(context.settings)
    size = settings.pop("memory_size")
    miner = miners.MultiSimilarityMiner(settings.pop("epsilon"))
    loss = losses.MultiSimilarityLoss(**settings)
    memory = losses.CrossBatchMemory(loss, context.embedding_size, memory_size=size, miner=miner)
    return MemoryLoss(context.name, memory)


def _recall_at_k(context: BuildContext) -> "nn.Module":
    from recallk.losses.memory_recall_at_k import MemoryRecallAtK

    size = int(context.settings["memory_size"])
    return MemoryRecallAtK(build_recall_at_k(context), size, context.embedding_size)


MEMORIES = (
    Entry(  # similarities and margins of the cross-batch memory's own code
        name="memory-contrastive",
        paper="Wang et al., CVPR 2020",
        needs="pairs",
        settings={**_MEMORY, "pos_margin": 1.0, "neg_margin": 0.5},
        may_be_zero=("pos_margin", "neg_margin"),
        build=_contrastive,
    ),
    Entry(
        name="memory-multi-similarity",
        paper="Wang et al., CVPR 2020",
        needs="pairs",
        settings={**_MEMORY, **MULTI_SIMILARITY},
        may_be_zero=("epsilon",),
        build=_multi_similarity,
    ),
    Entry(
        name="memory-recall@k",
        paper="Patel et al., CVPR 2022; Wang et al., CVPR 2020",
        needs="pairs",
        settings=_MEMORY,
        build=_recall_at_k,
        extra=None,
    ),
)
