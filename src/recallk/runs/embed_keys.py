"""The keys of training that say how items are embedded where nothing is trained."""

from recallk.models.settings import ImageSettings

OF_NETWORK = (
    "weights",
    *(key for key in ImageSettings.model_fields if key not in ("backbone", "head", "embedding_size")),
    "max_length",
)
"""What a backbone is, and what it sees."""
OF_SOURCE = ("dataset", "items", "columns", "root")
OF_READING = ("chunk_size", "workers", "accelerator")
EMBED_KEYS = (*OF_NETWORK, *OF_SOURCE, *OF_READING)
