"""From settings to an embedder: the one place that says which kind it is."""

from recallk.models.embedder import Embedder
from recallk.models.image_embedder import build_image_embedder
from recallk.models.settings import EmbedderSettings


def build(settings: EmbedderSettings, weights: str) -> Embedder:
    """Build an embedder with `weights`: "pretrained" (from the model hub), "none", or a file for the backbone.

    Raises InputError, one line, where it cannot be built.

    >>> build(EmbedderSettings(backbone="test_resnet", image_size=32, embedding_size=8), "none").noun
    'images'

    """
    return build_image_embedder(settings, weights)
