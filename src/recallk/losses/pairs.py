"""Losses of pairs and triplets of a batch."""

from typing import TYPE_CHECKING

from recallk.losses.entry import BuildContext, Entry, Growth, Settings, library_loss

if TYPE_CHECKING:
    from torch import nn

MULTI_SIMILARITY: Settings = {"alpha": 2.0, "beta": 50.0, "base": 0.5, "epsilon": 0.1}


def _triplet(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import distances, losses, miners

    from recallk.losses.library import LibraryLoss

    squared = distances.LpDistance(power=2)
    loss = losses.TripletMarginLoss(distance=squared, **context.settings)
    miner = miners.TripletMarginMiner(distance=squared, type_of_triplets="semihard", **context.settings)
    return LibraryLoss(context.name, loss, miner)


def _margin(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import losses, miners

    from recallk.losses.library import LibraryLoss

    settings = dict(context.settings)
    cutoffs = {key: settings.pop(key) for key in ("cutoff", "nonzero_loss_cutoff")}
    loss = losses.MarginLoss(learn_beta=True, num_classes=context.classes, **settings)
    return LibraryLoss(context.name, loss, miners.DistanceWeightedMiner(**cutoffs))


def _multi_similarity(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import losses, miners

    from recallk.losses.library import LibraryLoss

    settings = dict(context.settings)
    miner = miners.MultiSimilarityMiner(settings.pop("epsilon"))
    return LibraryLoss(context.name, losses.MultiSimilarityLoss(**settings), miner)


def _symmetrical_synthesis(context: BuildContext) -> "nn.Module":
    from recallk.losses.symmetrical_synthesis import SymmetricalSynthesis

    return SymmetricalSynthesis(**context.settings)


def _metrix(context: BuildContext) -> "nn.Module":
    from recallk.losses.metrix import Metrix

    return Metrix(**context.settings)


PAIRS = (
    Entry(
        name="contrastive",
        paper="Hadsell et al., CVPR 2006",
        needs="pairs",
        settings={"pos_margin": 0.0, "neg_margin": 1.0},
        may_be_zero=("pos_margin", "neg_margin"),
        growth=Growth(50, "pairs"),
        build=library_loss("ContrastiveLoss"),
    ),
    Entry(  # semi-hard negatives, squared distances and margin as in the paper
        name="triplet",
        paper="Schroff et al., CVPR 2015",
        needs="triples",
        settings={"margin": 0.2},
        may_be_zero=("margin",),
        growth=Growth(60, "triples"),
        build=_triplet,
    ),
    Entry(  # distance-weighted negatives, a learned boundary beta for each class
        name="margin",
        paper="Wu et al., ICCV 2017",
        needs="triples",
        settings={"margin": 0.2, "beta": 1.2, "nu": 0.0, "cutoff": 0.5, "nonzero_loss_cutoff": 1.4},
        may_be_zero=("margin", "nu", "cutoff"),
        own_parameters=True,
        growth=Growth(1, "triplets of items"),
        build=_margin,
    ),
    Entry(
        name="n-pair",
        paper="Sohn, NeurIPS 2016",
        needs="pairs",
        growth=Growth(24, "pairs"),
        build=library_loss("NPairsLoss"),
    ),
    Entry(
        name="lifted-structure",
        paper="Song et al., CVPR 2016",
        needs="triples",
        settings={"pos_margin": 0.0, "neg_margin": 1.0},
        may_be_zero=("pos_margin", "neg_margin"),
        growth=Growth(24, "positive pairs times pairs"),
        build=library_loss("LiftedStructureLoss"),
    ),
    Entry(
        name="angular",
        paper="Wang et al., ICCV 2017",
        needs="triples",
        settings={"alpha": 40.0},
        growth=Growth(35, "triples"),
        build=library_loss("AngularLoss"),
    ),
    Entry(
        name="multi-similarity",
        paper="Wang et al., CVPR 2019",
        needs="pairs",
        settings=MULTI_SIMILARITY,
        may_be_zero=("epsilon",),
        growth=Growth(90, "pairs"),
        build=_multi_similarity,
    ),
    Entry(
        name="nt-xent",
        paper="Chen et al., ICML 2020",
        needs="triples",
        settings={"temperature": 0.07},
        growth=Growth(18, "positive pairs times pairs"),
        build=library_loss("NTXentLoss"),
    ),
    Entry(
        name="supervised-contrastive",
        paper="Khosla et al., NeurIPS 2020",
        needs="pairs",
        settings={"temperature": 0.1},
        growth=Growth(65, "pairs"),
        build=library_loss("SupConLoss"),
    ),
    Entry(
        name="circle",
        paper="Sun et al., CVPR 2020",
        needs="pairs",
        settings={"m": 0.4, "gamma": 80.0},
        growth=Growth(100, "pairs"),
        build=library_loss("CircleLoss"),
    ),
    Entry(  # our own code, around N-pair; the scale, for unit lengths, is about that of normalised-softmax
        name="symmetrical-synthesis",
        paper="Gu and Ko, AAAI 2020",
        needs="pairs",
        settings={"scale": 20.0},
        growth=Growth(65, "pairs"),
        build=_symmetrical_synthesis,
        extra=None,
    ),
    # our own code; alpha and weight of the mixture are those of the authors' code (there 0.3 where anchors are mixed),
    # the rest those of multi-similarity
    Entry(
        name="metrix",
        paper="Venkataramanan et al., ICLR 2022",
        needs="triples",
        settings={"alpha": 2.0, "beta": 50.0, "base": 0.5, "mixup_alpha": 2.0, "mixup_weight": 0.4},
        may_be_zero=("mixup_weight",),
        growth=Growth(80, "triples"),
        build=_metrix,
        extra=None,
    ),
)
