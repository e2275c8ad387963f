"""The keys of recall@k."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recallk.core.bounds import K, Positive


class RecallAtKSettings(BaseModel):
    """The settings of our own loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    mixup: Annotated[
        bool | None,
        Field(description="similarity mixup, for recall@k; by default where a network learns from random weights"),
    ] = None
    mixup_relatives: Annotated[
        Literal["keep", "exclude"],
        Field(description="rank items that share a parent for each other, as the paper, or leave them out"),
    ] = "keep"

    @model_validator(mode="after")
    def _a_temperature_for_each_k(self) -> "RecallAtKSettings":
        temperatures = self.recall_temperature
        if isinstance(temperatures, tuple) and len(temperatures) != len(self.ks):
            raise ValueError(f"recall_temperature has {len(temperatures)} values for {len(self.ks)} ks")
        return self

    @property
    def recall_temperatures(self) -> tuple[float, ...]:
        """One for each k."""
        given = tuple(map(float, self.ks)) if self.recall_temperature == "k" else self.recall_temperature
        return given if isinstance(given, tuple) else (given,) * len(self.ks)
