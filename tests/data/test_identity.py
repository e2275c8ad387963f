import itertools

import numpy as np

from recallk.data.identity import Identities


def test_groups_are_those_of_an_explicit_comparison() -> None:
    random = np.random.default_rng(0)
    for count in (0, 1, 2, 3, 10, 60):
        files = random.integers(0, [2, 20], (count, 2)).tolist()
        identities = Identities()
        for number, (device, inode) in enumerate(files):
            identities.add(number, device + 2**63, inode)
        in_order = sorted(range(count), key=lambda number: (files[number], number))
        groups = [list(group) for _, group in itertools.groupby(in_order, key=lambda number: files[number])]
        assert list(identities.repeated()) == sorted(group for group in groups if len(group) > 1)
