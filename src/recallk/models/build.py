"""From settings to an embedder: the one place that says which kind it is."""

from recallk.models.embedder import Embedder
from recallk.models.image_embedder import build_image_embedder
from recallk.models.settings import EmbedderSettings, ImageSettings, TextSettings, VectorSettings
from recallk.models.text_embedder import build_text_embedder
from recallk.models.vector_embedder import VectorEmbedder


def build(settings: EmbedderSettings, weights: str = "none") -> Embedder:
    """Build an embedder with `weights`: "pretrained" (from the model hub), "none", or a file for the backbone.

    That of vectors has no backbone, and takes no weights; that of texts always has its model's. Raises InputError, one
    line, where it cannot be built.

    >>> build(ImageSettings(backbone="test_resnet", image_size=32, embedding_size=8)).noun
    'images'
    >>> build(VectorSettings(input_size=768)).noun
    'vectors'

    """
    if isinstance(settings, VectorSettings):
        return VectorEmbedder(settings)
    if isinstance(settings, TextSettings):
        return build_text_embedder(settings)
    assert isinstance(settings, ImageSettings)
    return build_image_embedder(settings, weights)
