"""Which names are of one file, whatever their spelling: links, `a/../a`, capitals where the system ignores them."""

from array import array
from collections.abc import Iterator

import numpy as np


class Identities:
    """The files behind many names, 16 bytes for each; the names are numbered from 0, in the order of adding."""

    def __init__(self) -> None:
        self._devices, self._inodes = array("Q"), array("Q")
        self._files = array("Q")  # the numbers of those names that have a file

    def add(self, number: int, device: int, inode: int) -> None:
        """Add the file of name `number`, as `os.stat` tells it."""
        self._files.append(number)
        self._devices.append(device)
        self._inodes.append(inode)

    def repeated(self) -> Iterator[list[int]]:
        """Yield the numbers of the names that are of one file, two at least, from the lowest."""
        if len(self._files) < 2:
            return
        files, devices, inodes = (np.frombuffer(a, np.uint64) for a in (self._files, self._devices, self._inodes))
        order = np.lexsort((files, inodes, devices))
        same = (np.diff(inodes[order]) == 0) & (np.diff(devices[order]) == 0)
        groups: dict[int, list[int]] = {}
        start = -1
        for place in np.flatnonzero(same).tolist():
            if start < 0 or start + len(groups[start]) - 1 != place:
                start = place
                groups[start] = [int(files[order[place]])]
            groups[start].append(int(files[order[place + 1]]))
        yield from sorted(groups.values())
