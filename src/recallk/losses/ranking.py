"""Losses of the order in which a batch ranks itself."""

from typing import TYPE_CHECKING

from recallk.losses.entry import BuildContext, Entry, Growth, Settings, library_loss

if TYPE_CHECKING:
    from torch import nn


def _histogram(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import losses

    from recallk.losses.library import LibraryLoss, PairHistograms

    return LibraryLoss(context.name, PairHistograms(losses.HistogramLoss(**context.settings)))


def _smooth_ap(context: BuildContext) -> "nn.Module":
    from pytorch_metric_learning import losses

    from recallk.losses.library import EqualClasses, LibraryLoss

    return LibraryLoss(context.name, EqualClasses(losses.SmoothAPLoss(**context.settings)))


def _listwise_ap(context: BuildContext) -> "nn.Module":
    from recallk.losses.listwise_ap import ListwiseAP

    return ListwiseAP(int(context.settings["bins"]))


def _blackbox_recall(context: BuildContext) -> "nn.Module":
    from recallk.losses.blackbox_ranks import BlackboxRanks, of_recall

    return BlackboxRanks(of_recall, context.settings["lambda"], context.settings["margin"])


def _blackbox_ap(context: BuildContext) -> "nn.Module":
    from recallk.losses.blackbox_ranks import BlackboxRanks, of_average_precision

    return BlackboxRanks(of_average_precision, context.settings["lambda"], context.settings["margin"])


# with which the authors of ROADMAP (NeurIPS 2021) ran its average precision; the code of its own authors names none
_BLACKBOX: Settings = {"lambda": 4.0, "margin": 0.02}

RANKING = (
    Entry(
        name="histogram",
        paper="Ustinova and Lempitsky, NeurIPS 2016",
        needs="pairs",
        settings={"n_bins": 100},
        growth=Growth(55, "pairs"),
        build=_histogram,
    ),
    Entry(
        name="fast-ap",
        paper="Cakir et al., CVPR 2019",
        needs="pairs",
        settings={"num_bins": 10},
        growth=Growth(200, "pairs"),
        build=library_loss("FastAPLoss"),
    ),
    Entry(
        name="smooth-ap",
        paper="Brown et al., ECCV 2020",
        needs="equal classes",
        settings={"temperature": 0.01},
        growth=Growth(24, "triplets of items"),
        build=_smooth_ap,
    ),
    Entry(  # our own code; the bins are those of the paper's experiments, from 1 down to -1
        name="listwise-ap",
        paper="Revaud et al., ICCV 2019",
        needs="pairs",
        settings={"bins": 20},
        growth=Growth(55, "pairs"),
        build=_listwise_ap,
        extra=None,
    ),
    Entry(  # our own code, and the next
        name="blackbox-recall",
        paper="Rolínek et al., CVPR 2020",
        needs="pairs",
        settings=_BLACKBOX,
        may_be_zero=("margin",),
        growth=Growth(80, "pairs"),
        build=_blackbox_recall,
        extra=None,
    ),
    Entry(
        name="blackbox-ap",
        paper="Rolínek et al., CVPR 2020",
        needs="pairs",
        settings=_BLACKBOX,
        may_be_zero=("margin",),
        growth=Growth(80, "pairs"),
        build=_blackbox_ap,
        extra=None,
    ),
)
