"""Seeds made of several numbers."""

import numpy as np


def mixed_seed(*numbers: int) -> int:
    """Return a seed below 2**63 that depends on all the numbers and their order.

    >>> mixed_seed(1, 2) == mixed_seed(1, 2), mixed_seed(1, 2) == mixed_seed(2, 1)
    (True, False)

    """
    return int(np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
