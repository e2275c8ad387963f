"""What a configuration says of the loss: which one, and the settings of ours."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from recallk.core.bounds import Positive
from recallk.losses.recall_at_k_settings import RecallAtKSettings
from recallk.losses.registry import CATALOGUE, OURS, Loss, checked, entry_of


class LossSettings(RecallAtKSettings):
    """The keys of the loss."""

    loss: Annotated[
        Loss, Field(description=f"one of {', '.join(CATALOGUE)}; in a recipe also {{name: ..., its settings}}")
    ] = OURS
    loss_rate_factor: Annotated[
        Positive, Field(description="learning rate of a loss's own parameters (proxies, centres), times the network's")
    ] = 10.0

    @field_validator("loss", mode="before")
    @classmethod
    def _known_loss(cls, loss: object) -> Loss:
        return checked(loss)

    @model_validator(mode="after")
    def _mixup_is_for_recall_at_k(self) -> "LossSettings":
        if self.mixup and self.loss != OURS:
            raise ValueError(
                f"mixup=true goes with loss={OURS} alone, not with {entry_of(self.loss).name}: leave out one"
            )
        return self
