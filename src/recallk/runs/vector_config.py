"""The keys of a run on vectors."""

from typing import Annotated, Literal

from pydantic import Field

from recallk.core.bounds import Positive
from recallk.core.files import user_path
from recallk.data.settings import ABOUT_ITEMS
from recallk.models.settings import LARGEST_EMBEDDING, VectorSettings
from recallk.runs.train_config import TrainConfig

DEFAULT_VECTOR_CHUNK = 2_048


class VectorTrainConfig(VectorSettings, TrainConfig):
    """The keys of a run on vectors, with the defaults for a head, which is small and begins from nothing."""

    items: Annotated[Literal["vectors"], Field(description=ABOUT_ITEMS)] = "vectors"
    input_size: int = Field(
        ge=1,
        le=LARGEST_EMBEDDING,
        default_factory=lambda given: _width(given["data"]),
        description="dimensions of the vectors; by default those of --data",
    )
    chunk_size: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"],
        Field(description="items on the device at a time; auto: as many as fit, tried before the run begins"),
    ] = DEFAULT_VECTOR_CHUNK
    learning_rate: Positive = 3e-3

    @property
    def network(self) -> str:
        """Say in words what is trained."""
        return f"{self.head} head over standardised vectors of {self.input_size:,}, {self.embedding_size} dimensions"

    @property
    def before(self) -> str:
        """Say in a word what is measured before training."""
        return "as given"


def _width(data: str) -> int:
    """Return how many numbers the vectors of a file have."""
    from recallk.data.vector_files import width  # which imports PyArrow

    return width(user_path(data))
