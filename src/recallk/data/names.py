"""Very many names in little more memory than they have characters."""

import os
from array import array


class Names:
    """A list of names, as those of files; a string is made when it is asked for.

    >>> names = Names()
    >>> names.append("a.jpg"), names.append("b.jpg"), names[1], len(names)
    (None, None, 'b.jpg', 2)
    """

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("Q")

    def append(self, name: str) -> None:
        """Add a name."""
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        return os.fsdecode(bytes(self._text[start : self._ends[number]]))
