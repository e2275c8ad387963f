"""Types for the numbers of a configuration, with bounds: what lies beyond them is a typing mistake."""

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(ge=1e-12, le=1e30, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
K = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Epoch = Annotated[int, Field(ge=1, le=100_000)]
