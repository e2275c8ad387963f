"""How a network of timm was shown its images when its weights were made."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from recallk.core.errors import InputError
from recallk.core.text import shown

Interpolation = Literal["bilinear", "bicubic"]
"""How an image is scaled."""
Channels = tuple[float, float, float]
_NAMES_SHOWN = 5
_BILINEAR = frozenset({"bilinear", "nearest"})  # the others, "lanczos" among them, are nearer to bicubic


@dataclass(frozen=True)
class Preprocessing:
    """Mean and deviation of the channels (0 to 1), how images are scaled, and the side's share that is cropped out."""

    mean: Channels
    std: Channels
    interpolation: Interpolation
    crop: float


@lru_cache
def preprocessing_of(backbone: str) -> Preprocessing:
    """Return what timm says of a network, without building it.

    Raises InputError, one line, for a name that timm does not know, and for images of other than three channels.
    """
    import timm  # takes seconds, and `recallk --help` has no need of it

    config = timms_entry(backbone)[1] or timm.models.PretrainedCfg()
    if config.input_size[0] != 3 or len(config.mean) != 3 or len(config.std) != 3:
        raise InputError(
            f"backbone={backbone}: this network takes images of {config.input_size[0]} channels; "
            f"choose one for three, red, green and blue"
        )
    interpolation: Interpolation = "bilinear" if config.interpolation in _BILINEAR else "bicubic"
    mean, std = ((float(a), float(b), float(c)) for a, b, c in (config.mean, config.std))
    return Preprocessing(mean, std, interpolation, float(config.crop_pct))


def is_timms(backbone: str) -> bool:
    """Whether timm has a network of that name."""
    import timm

    return bool(timm.is_model(backbone.removeprefix("hf_hub:").removeprefix("timm/")))


def timms_entry(backbone: str) -> tuple[str, Any]:
    """Return a network's present name, `backbone` or its successor, and what timm lists of its weights, if anything.

    Raises InputError, one line with names near to it, for a network that timm does not know, or weights of it.
    """
    import timm

    if not timm.is_model(backbone):
        if backbone.startswith("sentence-transformers/"):
            raise InputError(f"backbone={shown(backbone)}: a model of texts, and the data are images; name one of timm")
        near = timm.list_models(f"*{backbone.split('.')[0].split('_')[0]}*")[:_NAMES_SHOWN]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(f"backbone={shown(backbone)}: timm has no model of this name{hint}")
    name = timm.models.get_deprecated_models().get(backbone) or backbone
    network, _, tag = name.partition(".")
    with suppress(RuntimeError):  # the network is known, its tag is not
        config = timm.get_pretrained_cfg(name)
        if config is not None or not tag:
            return name, config
    known = ", ".join(timm.list_models(f"{network}.*", include_tags=True)) or "none"
    raise InputError(f"backbone={shown(name)}: timm has no weights {shown(tag)!r} of it; there are {known}")
