"""What can keep a step from being made: it happens in one process, and all of them take it alike."""

from enum import IntEnum

from recallk.core import processes


class Setback(IntEnum):
    """What a process tells the others (`Stopping.agree`); where they have several, the largest counts."""

    NONE = 0
    NOT_FINITE = 1


class NotFiniteError(processes.SharedError):
    """Embeddings, loss or gradients of a step are NaN or infinite: it would spoil whatever it moves.

    `what` says which, `remedy` what else may help than a lower learning rate.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy
