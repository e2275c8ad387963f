"""A network of timm by name, with weights or without."""

import warnings
from contextlib import suppress
from typing import Any, cast

from torch import nn

from recallk.core.errors import InputError
from recallk.core.files import require_file, user_path
from recallk.core.text import one_line
from recallk.models.fetching import not_fetched, quiet, where_weights_are
from recallk.models.preprocessing import timms_entry
from recallk.models.settings import ImageSettings
from recallk.models.weights import fill, read_weights


def make_backbone(settings: ImageSettings, weights: str) -> nn.Module:
    """Return the network that gives the features; `weights` as in `build`. Raises InputError, one line."""
    name, _ = timms_entry(settings.backbone)
    if weights == "pretrained":
        overlay = where_weights_are(name)
        try:
            return _create(name, settings, pretrained=True, pretrained_cfg_overlay=overlay or None)
        except Exception as error:
            raise not_fetched(settings.backbone, one_line(error)) from None
    try:
        backbone = _create(name, settings)
    except Exception as error:
        raise InputError(f"backbone={settings.backbone}: timm cannot build it ({one_line(error)})") from None
    if weights != "none":
        path = user_path(weights)
        try:
            require_file(path)
        except InputError as error:
            raise InputError(f"weights={error}; give a file, 'pretrained' or 'none'") from None
        state = read_weights(path, "give another, 'pretrained' or 'none'")
        fill(backbone, state, path, settings.backbone, exact=False)
    return backbone


def own_size(backbone: str) -> int | None:
    """Return the side of the square images that timm lists for a network; None where it lists none."""
    _, config = timms_entry(backbone)
    return None if config is None else int(config.input_size[1])


def patch_size(backbone: nn.Module) -> int:
    """Return the side of the patches that a network divides images into, 1 where it does not."""
    size = getattr(getattr(backbone, "patch_embed", None), "patch_size", 1)
    return int(size if isinstance(size, int) else max(size))


def _create(name: str, settings: ImageSettings, **options: Any) -> nn.Module:
    import timm  # takes seconds, and vectors have no need of it

    options |= {"num_classes": 0, "global_pool": ""}
    sized: list[dict[str, Any]] = [{"img_size": settings.image_size}]  # fully convolutional ones take any size
    if settings.image_shape == "keep":  # positions stay as many as the weights have, and are interpolated each time
        sized = [{"dynamic_img_size": True}, {"strict_img_size": False}, *sized]
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        for given in sized:
            with suppress(TypeError):  # the network has no such option
                return cast(nn.Module, timm.create_model(name, **given, **options))
        return cast(nn.Module, timm.create_model(name, **options))
