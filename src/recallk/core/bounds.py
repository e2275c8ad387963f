"""Types for the numbers of a configuration, with bounds: what lies beyond them is a typing mistake."""

from typing import Annotated

from pydantic import Field, ValidationError

from recallk.core.errors import InputError
from recallk.core.text import brief

Positive = Annotated[float, Field(ge=1e-12, le=1e30, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
K = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Epoch = Annotated[int, Field(ge=1, le=100_000)]


def mistake(error: ValidationError) -> InputError:
    """Return the first thing that is wrong with some keys in a line: the key, its value and what is allowed."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["loc"]:
        message = f"{first['loc'][0]}={brief(first['input'])}: {message[0].lower()}{message[1:]}"
    return InputError(message)
