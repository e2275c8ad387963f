"""From the configuration to the loss that is trained with: ours, or one of pytorch-metric-learning."""

from typing import Any

import torch
from torch import nn

from recallk.core.seeds import mixed_seed
from recallk.loss.mixup import SimilarityMixup
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.losses.memory import MemoryRecallAtK
from recallk.losses.registry import entry_of, settings_of
from recallk.losses.settings import LossSettings


def build_loss(settings: LossSettings, classes: int, embedding_size: int, seed: int) -> nn.Module:
    """Return the configured loss, for training on classes numbered below `classes`.

    It is called with embeddings `(B, D)`, labels `(B,)` and, as `generator`, one on the CPU for what it draws; it
    returns a scalar, a function of the whole batch, so that `large_batch_backward` takes any of them. Own parameters
    are drawn from `seed`; PyTorch's random state stays as it is.
    """
    name, own = entry_of(settings.loss).name, settings_of(settings.loss)
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(mixed_seed(seed, 0, 0, 0))
    try:
        if name == "recall@k":
            return _recall_at_k(settings)
        if name == "memory-recall@k":
            return MemoryRecallAtK(_recall_at_k(settings), int(own["memory_size"]), embedding_size)
        return _from_library(name, own, classes, embedding_size)
    finally:
        torch.set_rng_state(before)


def _recall_at_k(settings: LossSettings) -> RecallAtKLoss:
    return RecallAtKLoss(
        ks=settings.ks,
        rank_temperature=settings.rank_temperature,
        recall_temperature=settings.recall_temperatures,
        query_in_database=settings.query_in_database,
        mixup=SimilarityMixup(settings.mixup_relatives) if settings.mixup else None,
    )


def _from_library(name: str, settings: dict[str, Any], classes: int, embedding_size: int) -> nn.Module:
    from pytorch_metric_learning import distances, losses, miners  # takes seconds

    from recallk.losses.library import EqualClasses, LibraryLoss, MemoryLoss, PairHistograms

    sized = {"num_classes": classes, "embedding_size": embedding_size}
    memory = {"embedding_size": embedding_size, "memory_size": settings.pop("memory_size", None)}
    loss: Any
    miner: Any = None
    match name:
        case "contrastive":
            loss = losses.ContrastiveLoss(**settings)
        case "triplet":
            squared = distances.LpDistance(power=2)
            loss = losses.TripletMarginLoss(distance=squared, **settings)
            miner = miners.TripletMarginMiner(distance=squared, type_of_triplets="semihard", **settings)
        case "margin":
            cutoffs = {key: settings.pop(key) for key in ("cutoff", "nonzero_loss_cutoff")}
            loss = losses.MarginLoss(learn_beta=True, num_classes=classes, **settings)
            miner = miners.DistanceWeightedMiner(**cutoffs)
        case "n-pair":
            loss = losses.NPairsLoss()
        case "lifted-structure":
            loss = losses.LiftedStructureLoss(**settings)
        case "angular":
            loss = losses.AngularLoss(**settings)
        case "multi-similarity":
            miner = miners.MultiSimilarityMiner(settings.pop("epsilon"))
            loss = losses.MultiSimilarityLoss(**settings)
        case "histogram":
            loss = PairHistograms(losses.HistogramLoss(**settings))
        case "fast-ap":
            loss = losses.FastAPLoss(**settings)
        case "smooth-ap":
            loss = EqualClasses(losses.SmoothAPLoss(**settings))
        case "nt-xent":
            loss = losses.NTXentLoss(**settings)
        case "supervised-contrastive":
            loss = losses.SupConLoss(**settings)
        case "circle":
            loss = losses.CircleLoss(**settings)
        case "proxy-nca":
            loss = losses.ProxyNCALoss(**sized, **settings)
        case "soft-triple":
            loss = losses.SoftTripleLoss(**sized, **settings)
        case "normalised-softmax":
            loss = losses.NormalizedSoftmaxLoss(**sized, **settings)
        case "arcface":
            loss = losses.ArcFaceLoss(**sized, **settings)
        case "cosface":
            loss = losses.CosFaceLoss(**sized, **settings)
        case "sphereface":
            loss = losses.SphereFaceLoss(**sized, **settings)
        case "memory-contrastive":
            similar = losses.ContrastiveLoss(distance=distances.CosineSimilarity(), **settings)
            return MemoryLoss(name, losses.CrossBatchMemory(similar, **memory))
        case "memory-multi-similarity":
            miner = miners.MultiSimilarityMiner(settings.pop("epsilon"))
            return MemoryLoss(
                name, losses.CrossBatchMemory(losses.MultiSimilarityLoss(**settings), miner=miner, **memory)
            )
        case _:
            raise AssertionError(f"{name} stands in the catalogue, and nothing here builds it")
    return LibraryLoss(name, loss, miner)
