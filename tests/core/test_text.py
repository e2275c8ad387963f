import pytest

from recallk import InputError
from recallk.core.text import brief, one_line, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words, Zürich, 猫", "plain words, Zürich, 猫"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("two\nlines\tand\ra tab", r"two\nlines\tand\ra tab"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202eright to left", r"\u202eright to left"),
        ("no UTF-8: \udcff", r"no UTF-8: \udcff"),
        ("wide\u3000space, joined \u200d", "wide\u3000space, joined \u200d"),
        (7, "7"),
    ],
)
def test_what_a_terminal_would_act_on_is_written_out(text: object, expected: str) -> None:
    assert shown(text) == expected
    assert shown(text).encode()  # can be printed


def test_an_error_is_one_line() -> None:
    assert one_line(ValueError("first\n  second\x07")) == r"first second\x07"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("long " * 1000))) < 310


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no word")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a\x1b", r"'a\x1b'"), (3, "3"), (Odd(), "a value of type Odd")],
)
def test_any_value_in_brief(value: object, expected: str) -> None:
    assert brief(value) == expected
    assert brief(10**5000) == "a value of type int"
    assert len(brief("long" * 100)) < 110


def test_an_error_never_holds_what_a_terminal_would_act_on() -> None:
    assert str(InputError("a\x1b[2J\nb")) == r"a\x1b[2J\nb"
    assert str(InputError(str(InputError("a\x1b")))) == r"a\x1b"
