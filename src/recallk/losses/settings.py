"""What a configuration says of the loss: which one, and the settings of ours."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recallk.core.bounds import K, Positive
from recallk.losses.registry import CATALOGUE, OURS, Loss, checked, entry_of


class LossSettings(BaseModel):
    """The keys of the loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Annotated[
        Loss, Field(description=f"one of {', '.join(CATALOGUE)}; in a recipe also {{name: ..., its settings}}")
    ] = OURS
    loss_rate_factor: Annotated[
        Positive, Field(description="learning rate of a loss's own parameters (proxies, centres), times the network's")
    ] = 10.0
    ks: Annotated[tuple[K, ...], Field(min_length=1, max_length=100, description="the k's of recall@k")] = (
        1,
        2,
        4,
        8,
        16,
    )
    rank_temperature: Annotated[Positive, Field(description="softness of comparing two similarities")] = 0.01
    recall_temperature: Annotated[
        Positive | tuple[Positive, ...] | Literal["k"],
        Field(description="softness of comparing a rank with k; one, one per k, or 'k': each k its own"),
    ] = 1.0
    query_in_database: Annotated[bool, Field(description="rank the query among the others, as the paper")] = True
    mixup: Annotated[bool, Field(description="similarity mixup, for recall@k")] = False
    mixup_relatives: Annotated[
        Literal["keep", "exclude"],
        Field(description="rank items that share a parent for each other, as the paper, or leave them out"),
    ] = "keep"

    @field_validator("loss", mode="before")
    @classmethod
    def _known_loss(cls, loss: object) -> Loss:
        return checked(loss)

    @model_validator(mode="after")
    def _settings_of_the_loss_fit(self) -> "LossSettings":
        if self.mixup and self.loss != OURS:
            raise ValueError(
                f"mixup=true goes with loss={OURS} alone, not with {entry_of(self.loss).name}: leave out one"
            )
        temperatures = self.recall_temperature
        if isinstance(temperatures, tuple) and len(temperatures) != len(self.ks):
            raise ValueError(f"recall_temperature has {len(temperatures)} values for {len(self.ks)} ks")
        return self

    @property
    def recall_temperatures(self) -> tuple[float, ...]:
        """One for each k."""
        given = tuple(map(float, self.ks)) if self.recall_temperature == "k" else self.recall_temperature
        return given if isinstance(given, tuple) else (given,) * len(self.ks)
