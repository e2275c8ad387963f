"""The opcodes of a pickle, run on a stack of plain data: https://docs.python.org/3/library/pickletools.html has them.

A pickle is a program, and Python's own reader runs whatever that calls. This one knows no calls but those of
`plain_calls`, of its own making: nothing that a file names is imported, looked up or run.
"""

import codecs
import struct
from collections.abc import Callable
from typing import Any

from recallk.data.plain_calls import CALLS, DType, Named, UnfinishedArray, require_key

_PROTOCOLS = 5
_DAMAGED = "no pickle, or a damaged one"


class Program:
    """A pickle; `run` raises ValueError for whatever is no plain data or damaged, or another error of its parts."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return what is on top of the stack at the end."""
        while (code := self._take(1)) != b".":
            step = _STEPS.get(code)
            if step is None:
                wants = _FORBIDDEN.get(code)
                raise ValueError(f"it wants to {wants}; nothing was run" if wants else _DAMAGED)
            step(self)
        return self._pop()

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError("truncated" if self._at else "empty")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise ValueError("truncated, or no pickle")
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    def _pop(self) -> Any:
        if not self._stack:
            raise ValueError(_DAMAGED)
        return self._stack.pop()

    def _again(self) -> None:
        value = self._pop()
        self._stack += [value, value]

    def _top(self, kind: type[Any]) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise ValueError(_DAMAGED)
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        if not self._below:
            raise ValueError(_DAMAGED)
        items, self._stack = self._stack, self._below.pop()
        return items

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _protocol(self) -> None:
        if (version := self._number("<B")) > _PROTOCOLS:
            raise ValueError(f"of protocol {version}; those up to {_PROTOCOLS} are read")

    def _integer_line(self) -> None:
        line = self._line()
        self._push(line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L")))

    def _long(self, form: str) -> None:
        if (count := self._number(form)) < 0:
            raise ValueError(_DAMAGED)
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _text(self, form: str) -> None:
        self._push(self._take(self._number(form)).decode("utf-8", "surrogatepass"))

    def _bytes(self, form: str) -> None:
        self._push(self._take(self._number(form)))

    def _old_text(self, form: str) -> None:
        if (count := self._number(form)) < 0:
            raise ValueError(_DAMAGED)
        self._push(self._take(count).decode("latin1"))

    def _old_text_line(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise ValueError(_DAMAGED)
        self._push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _extend(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        self._top(dict).update(_table(items))

    def _add_items(self, items: list[Any]) -> None:
        for item in items:
            require_key(item)
        self._top(set).update(items)

    def _frozen(self) -> None:
        items = self._since_mark()
        for item in items:
            require_key(item)
        self._push(frozenset(items))

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _put(self, place: int) -> None:
        if not self._stack:
            raise ValueError(_DAMAGED)
        self._memo[place] = self._stack[-1]

    def _get(self, place: int) -> None:
        if place not in self._memo:
            raise ValueError(_DAMAGED)
        value = self._memo[place]
        built = isinstance(value, UnfinishedArray) and value.array is not None
        self._push(value.array if built else value)

    def _named(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError(_DAMAGED)
        full = f"{module}.{name}"
        if full not in CALLS:
            raise ValueError(f"it wants to call {full}; nothing was run")
        self._push(Named(full, CALLS[full]))

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._named(module.decode("utf-8", "replace"), name.decode("utf-8", "replace"))

    def _instance(self) -> None:
        module, name = (line.decode("utf-8", "replace") for line in (self._line(), self._line()))
        raise ValueError(f"it wants to call {module}.{name}; nothing was run")

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._named(module, name)

    def _call(self) -> None:
        arguments, named = self._pop(), self._pop()
        if not isinstance(named, Named) or named.call is None or not isinstance(arguments, tuple):
            raise ValueError(f"it wants to call {_word_for(named)}; nothing was run")
        self._push(named.call(*arguments))

    def _build(self) -> None:
        state = self._pop()
        made = self._pop()
        if not isinstance(made, DType | UnfinishedArray):
            raise ValueError(f"it wants to change {_word_for(made)}; nothing was run")
        if not isinstance(state, tuple):
            raise ValueError(_DAMAGED)
        made.build(state)
        self._push(made.array if isinstance(made, UnfinishedArray) else made)


def _word_for(value: Any) -> str:
    # not the value's own words: these may be without end
    return value.name if isinstance(value, Named) else f"what is of type {type(value).__name__}"


def _table(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError(_DAMAGED)
    for key in items[::2]:
        require_key(key)
    return dict(zip(items[::2], items[1::2], strict=True))


_STEPS: dict[bytes, Callable[[Program], object]] = {
    b"\x80": Program._protocol,
    b"\x95": lambda p: p._take(8),  # the length of a frame
    b"(": Program._mark,
    b"0": Program._pop,
    b"1": Program._since_mark,
    b"2": Program._again,
    b"N": lambda p: p._push(None),
    b"\x88": lambda p: p._push(True),
    b"\x89": lambda p: p._push(False),
    b"I": Program._integer_line,
    b"L": Program._integer_line,
    b"J": lambda p: p._push(p._number("<i")),
    b"K": lambda p: p._push(p._number("<B")),
    b"M": lambda p: p._push(p._number("<H")),
    b"\x8a": lambda p: p._long("<B"),
    b"\x8b": lambda p: p._long("<i"),
    b"F": lambda p: p._push(float(p._line())),
    b"G": lambda p: p._push(p._number(">d")),
    b"S": Program._old_text_line,
    b"T": lambda p: p._old_text("<i"),
    b"U": lambda p: p._old_text("<B"),
    b"V": lambda p: p._push(p._line().decode("raw-unicode-escape")),
    b"\x8c": lambda p: p._text("<B"),
    b"X": lambda p: p._text("<I"),
    b"\x8d": lambda p: p._text("<Q"),
    b"C": lambda p: p._bytes("<B"),
    b"B": lambda p: p._bytes("<I"),
    b"\x8e": lambda p: p._bytes("<Q"),
    b"\x96": lambda p: p._push(bytearray(p._take(p._number("<Q")))),
    b"]": lambda p: p._push([]),
    b"l": lambda p: p._push(p._since_mark()),
    b"a": Program._append,
    b"e": lambda p: p._extend(p._since_mark()),
    b")": lambda p: p._push(()),
    b"t": lambda p: p._push(tuple(p._since_mark())),
    b"\x85": lambda p: p._tuple(1),
    b"\x86": lambda p: p._tuple(2),
    b"\x87": lambda p: p._tuple(3),
    b"}": lambda p: p._push({}),
    b"d": lambda p: p._push(_table(p._since_mark())),
    b"s": Program._set_item,
    b"u": lambda p: p._set_items(p._since_mark()),
    b"\x8f": lambda p: p._push(set()),
    b"\x90": lambda p: p._add_items(p._since_mark()),
    b"\x91": Program._frozen,
    b"p": lambda p: p._put(int(p._line())),
    b"q": lambda p: p._put(p._number("<B")),
    b"r": lambda p: p._put(p._number("<I")),
    b"\x94": lambda p: p._put(len(p._memo)),
    b"g": lambda p: p._get(int(p._line())),
    b"h": lambda p: p._get(p._number("<B")),
    b"j": lambda p: p._get(p._number("<I")),
    b"c": Program._global,
    b"i": Program._instance,
    b"\x93": Program._stack_global,
    b"R": Program._call,
    b"b": Program._build,
}
_FORBIDDEN = {
    b"o": "build an object of a class",
    b"\x81": "build an object of a class",
    b"\x92": "build an object of a class",
    b"\x82": "call what is registered under a number",
    b"\x83": "call what is registered under a number",
    b"\x84": "call what is registered under a number",
    b"P": "have an object looked up by its name",
    b"Q": "have an object looked up by its name",
    b"\x97": "have a buffer from outside",
    b"\x98": "have a buffer from outside",
}
