"""Strings that somebody else wrote (labels, file names, messages of libraries) as they may be shown."""

import unicodedata

_JOINERS = "\u200c\u200d"  # several scripts and emoji need them
_LONGEST, _BRIEF = 300, 100


def shown(text: object) -> str:
    r"""Return the text with everything written out that a terminal or a page would act on.

    Control characters, changes of direction, line breaks and bytes that are no UTF-8 come as escapes such as `\x1b`.

    >>> shown("cat\x1b[2J")
    'cat\\x1b[2J'
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in str(text))


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line of at most 300 characters; its type where it says nothing."""
    text = shown(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def brief(value: object) -> str:
    """Return a value of any type as a message shows it, in a line of about 100 characters."""
    try:
        text = shown(repr(value))
    except Exception:  # an integer of thousands of digits, or whatever a class of the caller's does
        return f"a value of type {shown(type(value).__name__)}"
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def _harmless(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
