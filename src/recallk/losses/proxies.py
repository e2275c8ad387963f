"""Losses with parameters of their own for each training class: proxies, centres, a classifier's weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from recallk.losses.entry import BuildContext, Entry, Growth

if TYPE_CHECKING:
    from torch import nn


def _sized(class_name: str) -> Callable[[BuildContext], "nn.Module"]:
    """Return a builder of a loss of pytorch-metric-learning that is told how many classes and dimensions there are."""

    def build(context: BuildContext) -> "nn.Module":
        from pytorch_metric_learning import losses

        from recallk.losses.library import LibraryLoss

        loss = getattr(losses, class_name)(
            num_classes=context.classes, embedding_size=context.embedding_size, **context.settings
        )
        return LibraryLoss(context.name, loss)

    return build


def _proxy_synthesis(context: BuildContext) -> "nn.Module":
    from recallk.losses.proxy_synthesis import ProxySynthesis

    return ProxySynthesis(context.classes, context.embedding_size, **context.settings)


PROXIES = (
    Entry(  # the scale is ProxyNCA++'s: temperature 1/9
        name="proxy-nca",
        paper="Movshovitz-Attias et al., ICCV 2017; Teh et al., ECCV 2020 (++)",
        needs="classes",
        settings={"softmax_scale": 9.0},
        own_parameters=True,
        build=_sized("ProxyNCALoss"),
    ),
    Entry(
        name="soft-triple",
        paper="Qian et al., ICCV 2019",
        needs="classes",
        settings={"centers_per_class": 10, "la": 20.0, "gamma": 0.1, "margin": 0.01},
        may_be_zero=("margin",),
        own_parameters=True,
        build=_sized("SoftTripleLoss"),
    ),
    Entry(
        name="normalised-softmax",
        paper="Zhai and Wu, BMVC 2019",
        needs="classes",
        settings={"temperature": 0.05},
        own_parameters=True,
        build=_sized("NormalizedSoftmaxLoss"),
    ),
    Entry(
        name="arcface",
        paper="Deng et al., CVPR 2019",
        needs="classes",
        settings={"margin": 28.6, "scale": 64.0},
        may_be_zero=("margin",),
        own_parameters=True,
        build=_sized("ArcFaceLoss"),
    ),
    Entry(
        name="cosface",
        paper="Wang et al., CVPR 2018",
        needs="classes",
        settings={"margin": 0.35, "scale": 64.0},
        may_be_zero=("margin",),
        own_parameters=True,
        build=_sized("CosFaceLoss"),
    ),
    Entry(  # the paper's embeddings have lengths of their own, ours are of unit length: the scale stands in for them
        name="sphereface",
        paper="Liu et al., CVPR 2017",
        needs="classes",
        settings={"margin": 4, "scale": 30.0},
        may_be_zero=("margin",),
        own_parameters=True,
        build=_sized("SphereFaceLoss"),
    ),
    Entry(  # our own code, around normalised-softmax; the settings with which the authors' code runs on Cars196
        name="proxy-synthesis",
        paper="Gu et al., AAAI 2021",
        needs="classes",
        settings={"alpha": 0.4, "mu": 1.0, "scale": 23.0},
        own_parameters=True,
        growth=Growth(35, "pairs"),
        build=_proxy_synthesis,
        extra=None,
    ),
)
