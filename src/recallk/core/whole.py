"""Whole numbers that a program gives."""

from numbers import Integral

from recallk.core.errors import InputError
from recallk.core.text import brief


def check_whole(name: str, value: object, least: int) -> None:
    """Raise InputError, naming it, where a value is no whole number of at least `least`, or has more than 63 bits."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name}={brief(value)}: a whole number of at least {least} is needed")
    if int(value) >= 2**63:
        raise InputError(f"{name}={brief(value)}: a whole number below 2**63 is needed")
