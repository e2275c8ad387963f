"""What can go wrong through no fault of the program, as errors that say what to do."""


class RecallkError(Exception):
    """Base of all errors that a person can mend; the command line prints them as one line."""


class InputError(RecallkError, ValueError):
    """A value, file or folder given by the caller cannot be used; the message says which and what would work."""
