"""From the configuration to the loss that is trained with: ours, or one of pytorch-metric-learning."""

from typing import Any

import torch
from torch import nn

from recallk.data.images import mixed_seed
from recallk.loss.mixup import SimilarityMixup
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.training.config import TrainConfig
from recallk.training.cross_batch import MemoryRecallAtK
from recallk.training.loss_catalogue import entry_of, settings_of


def build_loss(config: TrainConfig, classes: int) -> nn.Module:
    """Return the configured loss, for training on classes numbered below `classes`.

    It is called with embeddings `(B, D)`, labels `(B,)` and, as `generator`, one on the CPU for what it draws; it
    returns a scalar, a function of the whole batch, so that `large_batch_backward` takes any of them. Own parameters
    are drawn from the configuration's seed; PyTorch's random state stays as it is.
    """
    name, settings = entry_of(config.loss).name, settings_of(config.loss)
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(mixed_seed(config.seed, 0, 0, 0))
    try:
        if name == "recall@k":
            return _recall_at_k(config)
        if name == "memory-recall@k":
            return MemoryRecallAtK(_recall_at_k(config), int(settings["memory_size"]), config.embedding_size)
        return _from_library(name, settings, classes, config.embedding_size)
    finally:
        torch.set_rng_state(before)


def _recall_at_k(config: TrainConfig) -> RecallAtKLoss:
    return RecallAtKLoss(
        ks=config.ks,
        rank_temperature=config.rank_temperature,
        recall_temperature=config.recall_temperatures,
        query_in_database=config.query_in_database,
        mixup=SimilarityMixup(config.mixup_relatives) if config.mixup else None,
    )


def _from_library(name: str, settings: dict[str, Any], classes: int, embedding_size: int) -> nn.Module:
    from pytorch_metric_learning import distances, losses, miners  # takes seconds

    from recallk.training.library_loss import EqualClasses, LibraryLoss, MemoryLoss, PairHistograms

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
