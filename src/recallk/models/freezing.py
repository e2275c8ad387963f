"""Which parts of a network are trained: all of it, or its last blocks alone."""

from types import SimpleNamespace

from torch import nn

from recallk.core.errors import InputError
from recallk.models.embedder import Embedder
from recallk.models.image_embedder import ImageEmbedder

_NOTHING = "\0"  # a name that no block has: timm puts it behind the last one


def freeze_all_but(embedder: Embedder, trained_blocks: int) -> None:
    """Freeze the backbone of an embedder but for its last blocks, and what comes after them; 0: all of it.

    Blocks are those that timm counts: residual blocks, or those of a transformer. What is frozen is as at test even
    while the embedder trains: batch norm keeps its statistics, nothing is dropped.

    Raises InputError for more blocks than there are, and where timm does not say which they are.
    """
    if not isinstance(embedder, ImageEmbedder):
        raise InputError(f"trained_blocks: a network for {embedder.noun} has no blocks; leave it out")
    backbone = embedder.backbone
    frozen = set(backbone.parameters())
    if trained_blocks:
        layers = _layers(backbone, embedder.settings.backbone)
        blocks = layers[_NOTHING] - 1  # layer 0 is what comes before the blocks
        if trained_blocks > blocks:
            raise InputError(
                f"trained_blocks={trained_blocks}: {embedder.settings.backbone} has {blocks}; leave it out to train all"
            )
        first = layers[_NOTHING] - trained_blocks
        frozen = {parameter for name, parameter in backbone.named_parameters() if layers[name] < first}
    for parameter in frozen:
        parameter.requires_grad_(False)
    embedder.frozen = [part for part in backbone.modules() if _is_frozen(part)]
    embedder.train(embedder.training)


def _is_frozen(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _layers(backbone: nn.Module, name: str) -> dict[str, int]:
    """Return the number of the layer that each parameter is in, counted from the image on."""
    from timm.models import group_parameters  # takes seconds, and vectors have no need of it

    try:
        matcher = backbone.group_matcher(coarse=False)  # type: ignore[operator]
        named = [*backbone.named_parameters(), (_NOTHING, None)]
        layers: dict[str, int] = group_parameters(
            SimpleNamespace(named_parameters=lambda: named), matcher, reverse=True
        )
    except Exception:  # networks that timm has no such list of, or a broken one
        raise InputError(f"trained_blocks: timm does not say which the blocks of {name} are; take 0, or all") from None
    return layers
