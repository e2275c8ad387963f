"""What can go wrong through no fault of the program, as errors that say what to do."""

from recallk.core.text import shown


class RecallkError(Exception):
    """Base of all errors that a person can mend: one line, that may hold what somebody else wrote."""

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


class InputError(RecallkError, ValueError):
    """A value, file or folder given by the caller cannot be used; the message says which and what would work."""


class MissingExtraError(RecallkError, ImportError):
    """A package of an extra is not installed: the message says which extra to install, `name` is the module."""

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, PyTorch or the system has found no memory, on the CPU or a GPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # PyTorch's, without importing it
        or "allocate memory" in str(error)
        or "ALLOC_FAILED" in str(error)  # cuBLAS and cuDNN
    )
