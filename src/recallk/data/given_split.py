"""What the sides of a split are called where data come with one: in a column `split`, or as folders at the top."""

from collections.abc import Collection

from recallk.data.records import VALIDATION

_SIDES = {"train": "train", "test": "test", **dict.fromkeys(("val", "valid", VALIDATION), VALIDATION)}
WANTED = "write train, val or test, or leave the column out"


def side_called(name: str | None) -> str | None:
    """Return the side that a name stands for, in any letter case; None where it stands for none.

    >>> side_called("Val"), side_called("train"), side_called("dev")
    ('validation', 'train', None)

    """
    return _SIDES.get((name or "").casefold())


def are_sides(names: Collection[str]) -> bool:
    """Whether names are those of a split: all of sides, train and another among them.

    >>> are_sides(["test", "train"]), are_sides(["train"]), are_sides(["test", "train", "more"])
    (True, False, False)

    """
    sides = {side_called(name) for name in names}
    return None not in sides and len(sides) == len(names) > 1 and "train" in sides
