"""The keys of a run on texts."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from recallk.core.bounds import Positive
from recallk.data.settings import ABOUT_ITEMS
from recallk.models.settings import TextSettings
from recallk.runs.train_config import TrainConfig

OF_TRANSFORMERS, OF_STATIC = 2e-5, 2e-1
"""Learning rates: what transformers are usually fine-tuned with; a table of vectors of tokens takes far more (as
sentence-transformers' own, and the best of three in docs/text.md)."""


class TextTrainConfig(TextSettings, TrainConfig):
    """The keys of a run on texts, with the defaults for a model that knows something already."""

    items: Annotated[Literal["texts"], Field(description=ABOUT_ITEMS)] = "texts"
    learning_rate: Annotated[
        Positive, Field(description=f"of texts {OF_TRANSFORMERS:g}, and {OF_STATIC:g} for a static model")
    ]

    @model_validator(mode="wrap")
    @classmethod
    def _has_a_rate(cls, given: Any, made: ModelWrapValidatorHandler[Self]) -> Self:
        """Take the rate that follows from the model, as one that nobody gave."""
        if not isinstance(given, dict) or "learning_rate" in given:
            return made(given)
        rate = usual_rate(given.get("backbone", cls.model_fields["backbone"].default))
        config = made({"learning_rate": rate} | given)
        config.model_fields_set.discard("learning_rate")
        return config

    @model_validator(mode="after")
    def _are_of_a_table(self) -> "TextTrainConfig":
        if self.dataset != "own":
            raise ValueError(f"items=texts, and {self.dataset} holds images: leave items out")
        return self

    @property
    def fine_tunes(self) -> bool:
        """Whether the network begins with weights that know something."""
        return True

    @property
    def network(self) -> str:
        """Say in words what is trained."""
        length = "" if self.max_length is None else f", up to {self.max_length:,} tokens"
        return f"{self.backbone}{length}, {self.embedding_size} dimensions"


def usual_rate(backbone: str) -> float:
    """Return the rate that a model of texts is fine-tuned with. Raises InputError where it cannot be loaded."""
    from recallk.models.sentence_model import about  # which needs a further package

    return OF_STATIC if about(backbone).static else OF_TRANSFORMERS
