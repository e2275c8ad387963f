"""Plain data of every protocol is read as Python's own reader does; whatever else a pickle asks for is not run."""

import builtins
import copyreg
import functools
import os
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recallk import InputError
from recallk.data.plain_pickle import DEEPEST, MOST_BYTES, read_plain_pickle
from tests.data import limits

PROTOCOLS = range(6)
REMEDY = "get it again"


def read(data: bytes, folder: Path) -> Any:
    path = folder / "gnd.pkl"
    path.write_bytes(data)
    return read_plain_pickle(path, "a pickle of plain data", REMEDY)


def refused(data: bytes, folder: Path) -> str:
    with limits.seconds(20), pytest.raises(InputError) as caught:
        read(data, folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'gnd.pkl'}: not a pickle of plain data (")
    assert message.endswith(f"); {REMEDY}")
    assert "\n" not in message
    assert len(message) < 600
    return message


ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.complex_numbers()
)
KEYS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
PLAIN = st.recursive(
    ATOMS,
    lambda parts: st.one_of(
        st.lists(parts),
        st.lists(parts).map(tuple),
        st.dictionaries(KEYS, parts),
        st.sets(KEYS),
        st.frozensets(KEYS),
        st.binary().map(bytearray),
        parts.map(lambda part: [part, part]),
    ),
)


@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_comes_back(value: Any, protocol: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = pickle.dumps(value, protocol)
    # as text, for what Python calls not equal to itself
    assert repr(read(data, tmp_path_factory.getbasetemp())) == repr(pickle.loads(data))


ARRAYS = [
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(6, dtype=">i2")[::-1],
    np.array([], dtype=np.float16),
    np.zeros((0, 4), dtype=np.uint8),
    np.array(5),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["ab", "", "ünï"]),
    np.array([b"ab", b""]),
    np.array([[1, "a"], [None, (2.5, b"x")]], dtype=object),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back(array: np.ndarray[Any, Any], core: bytes, protocol: int, tmp_path: Path) -> None:
    for name in (b"multiarray", b"numeric"):  # the same name of either version of NumPy, with its length before it
        whole = b"numpy._core." + name
        data = pickle.dumps([array, array], protocol)
        data = data.replace(whole, core + b"." + name)
        data = data.replace(bytes([0x8C, len(whole)]) + core, bytes([0x8C, len(core) + 1 + len(name)]) + core)
        first, again = read(data, tmp_path)
        assert first is again
        assert first.dtype == array.dtype
        np.testing.assert_array_equal(first, array, strict=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value", [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("añ"), np.bytes_(b"ab"), np.complex64(1j)]
)
def test_scalars_come_back(value: np.generic, protocol: int, tmp_path: Path) -> None:
    found = read(pickle.dumps({"a": value}, protocol), tmp_path)["a"]
    assert found == value
    assert type(found) is type(value)


PYTHON_2 = {
    "protocol 0": (
        b"(dp0\nS'imlist'\np1\n(lp2\nS'all_souls_000013'\np3\naS'caf\\xe9'\np4\nasS'gnd'\np5\n"
        b"(lp6\n(dp7\nS'bbx'\np8\n(lp9\nF136.5\naI34\naL648L\naI01\nasas."
    ),
    "protocol 2": (
        b"\x80\x02}q\x00(U\x06imlistq\x01]q\x02(U\x10all_souls_000013q\x03U\x04caf\xe9q\x04eU\x03gndq\x05"
        b"]q\x06}q\x07U\x03bbxq\x08]q\x09(G@a\x10\x00\x00\x00\x00\x00K\x22M\x88\x02\x88esau."
    ),
}


@pytest.mark.parametrize("data", PYTHON_2.values(), ids=PYTHON_2)
def test_strings_of_python_2_are_latin_1(data: bytes, tmp_path: Path) -> None:
    expected = {"imlist": ["all_souls_000013", "café"], "gnd": [{"bbx": [136.5, 34, 648, True]}]}
    assert pickle.loads(data, encoding="latin1") == expected
    assert read(data, tmp_path) == expected


def test_an_array_of_python_2(tmp_path: Path) -> None:
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05R"
        b"q\x06(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02i8q\x09K\x00K\x01\x87q\nRq\x0b(K\x03U\x01<q\x0cNNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x10" + struct.pack("<2q", 7, 200) + b"q\x0etq\x0fb."
    )
    assert pickle.loads(data, encoding="latin1").tolist() == [7, 200]
    found = read(data, tmp_path)
    assert found.dtype == np.dtype("<i8")
    assert found.tolist() == [7, 200]


class Calls:
    """Pickled as a call, with a state if one is given."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def marking(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make the file `marker`, by the way in which they would, and what each wants."""
    shell = f"touch {marker}"
    program = f"open({str(marker)!r}, 'w').close()"
    system = "system"
    argument = b"S" + repr(shell).encode() + b"\n"
    found: dict[str, tuple[bytes, str]] = {
        f"REDUCE of protocol {protocol}": (pickle.dumps([1, Calls(os.system, (shell,))], protocol), system)
        for protocol in PROTOCOLS
    }
    for name, calls in {
        "eval": Calls(builtins.eval, (program,)),
        "exec": Calls(builtins.exec, (program,)),
        "getattr": Calls(builtins.getattr, ("", "join")),
        "import": Calls(builtins.__import__, ("os",)),
        "open": Calls(builtins.open, (str(marker), "w")),
        "partial": Calls(functools.partial, (os.system, shell)),
        "load": Calls(np.load, (str(marker),)),
        "fromfile": Calls(np.memmap, (str(marker), "uint8", "w+", 0, (1,))),
        "mkdir": Calls(os.mkdir, (str(marker),)),
    }.items():
        found[f"REDUCE of {name}"] = (pickle.dumps(calls, 4), "it wants to call ")
    found |= {
        "INST": (b"(" + argument + b"ios\nsystem\n.", "os.system"),
        "OBJ": (b"(cos\nsystem\n" + argument + b"o.", "os.system"),
        "OBJ of a name that is admitted": (b"(cnumpy\ndtype\n" + argument + b"o.", "build an object"),
        "NEWOBJ": (b"\x80\x02cos\nsystem\n" + argument + b"\x85\x81.", "os.system"),
        "NEWOBJ of a name that is admitted": (b"\x80\x02cnumpy\nndarray\nK\x01\x85\x85\x81.", "build an object"),
        "NEWOBJ_EX": (b"\x80\x04cos\nsystem\n" + argument + b"\x85}\x92.", "os.system"),
        "NEWOBJ_EX of a name that is admitted": (b"\x80\x04cnumpy\nndarray\nK\x01\x85\x85}\x92.", "build an object"),
        "BUILD with __setstate__": (b"cos\nsystem\n)R}" + argument + b"b.", "os.system"),
        "BUILD of a name": (b"cnumpy\ndtype\n}" + text("__setstate__") + b"K\x01sb.", "change numpy.dtype"),
        "BUILD of a container": (b"\x80\x04]" + text("state") + b"b.", "change what is of type list"),
        "BUILD in steps": (b"c_codecs\nencode\n}S'__call__'\ncos\nsystem\nsb" + argument + b"\x85R.", "os.system"),
        "STACK_GLOBAL": (b"\x80\x04" + text("os") + text(system) + b"\x93" + argument + b"\x85R.", "os.system"),
        "a dotted name": (
            b"\x80\x04" + text("numpy") + text("core.multiarray.os.system") + b"\x93" + argument + b"\x85R.",
            "numpy.core.multiarray.os.system",
        ),
        "a module split elsewhere": (
            b"\x80\x04" + text("numpy.core") + text("multiarray.load") + b"\x93" + argument + b"\x85R.",
            "multiarray.load",
        ),
        "another codec": (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "bytes that are not written as Python does"),
        "EXT1": (b"\x80\x02\x82\xf0" + argument + b"\x85R.", "registered under a number"),
        "EXT2": (b"\x80\x02\x83\xf0\x00" + argument + b"\x85R.", "registered under a number"),
        "EXT4": (b"\x80\x02\x84\xf0\x00\x00\x00" + argument + b"\x85R.", "registered under a number"),
        "PERSID": (b"Pos.system\n.", "looked up"),
        "BINPERSID": (argument + b"Q.", "looked up"),
        "NEXT_BUFFER": (b"\x80\x05\x97.", "a buffer from outside"),
        "a string called": (argument + argument + b"\x85R.", "it wants to call what is of type str"),
        "an array type called": (b"cnumpy\nndarray\n(K\x01K\x01tR.", "it wants to call numpy.ndarray"),
        "an array of callables": (pickle.dumps(np.array([os.system, eval], dtype=object)), "system"),
        "an array of calls": (pickle.dumps(np.array([Calls(os.system, (shell,))], dtype=object)), "system"),
        "a subclass of arrays": (pickle.dumps(np.ma.array([1])), "numpy.ma.core"),
    }
    return found


@pytest.fixture
def registered() -> Any:
    """Something that a program has registered under a number, and used once, so that it is remembered."""
    copyreg.add_extension("os", "system", 0xF0)
    assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
    yield
    copyreg.remove_extension("os", "system", 0xF0)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("way", marking(Path("m")))
def test_a_hostile_pickle_runs_nothing(way: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data, wanted = marking(marker)[way]
    assert wanted in refused(data, tmp_path)
    assert not marker.exists()


def test_the_hostile_pickles_would_run(tmp_path: Path) -> None:
    for way in ("REDUCE of protocol 4", "REDUCE of open", "INST", "OBJ", "STACK_GLOBAL"):
        marker = tmp_path / way.replace(" ", "-")
        pickle.loads(marking(marker)[way][0])
        assert marker.exists(), way


def nested(count: int) -> bytes:
    return b"\x80\x02" + b")" + count * b"\x85" + b"."


def doubled(count: int) -> bytes:
    return b"\x80\x04)" + count * b"2\x86" + b"."


ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01%bcnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no pickle at all", "no pickle, or a damaged one"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "no pickle, or a damaged one"),
        (b"\x80\x06N.", "of protocol 6"),
        (b"\x80\x02.", "no pickle, or a damaged one"),
        (b"\x80\x02K\x01K\x02a.", "no pickle, or a damaged one"),
        (b"\x80\x04K\x01K\x02\x93.", "no pickle, or a damaged one"),
        (b"\x80\x02)" + 60 * b"2\x86" + b")R.", "it wants to call what is of type tuple"),
        (b"\x80\x02e.", "no pickle, or a damaged one"),
        (b"\x80\x022.", "no pickle, or a damaged one"),
        (b"\x80\x02h\x01.", "no pickle, or a damaged one"),
        (b"\x80\x02}(K\x01u.", "no pickle, or a damaged one"),
        (b"S'abc", "truncated"),
        (b"I" + 10_000 * b"9" + b"\n.", "integer string conversion"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.", "truncated"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.", "truncated"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.", "truncated"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"r\xff\xff\xff\xff.", "no pickle, or a damaged one"),
        (b"\x80\x02\x8b" + struct.pack("<i", -5) + b".", "no pickle, or a damaged one"),
        (b"\x80\x02T" + struct.pack("<i", -5) + b".", "no pickle, or a damaged one"),
        (nested(100_000), f"nested more than {DEEPEST} deep"),
        (doubled(100_000), f"nested more than {DEEPEST} deep"),
        (b"\x80\x02]q\x00h\x00a.", f"nested more than {DEEPEST} deep"),
        (b"\x80\x02})" + 60 * b"2\x86" + b"K\x01s.", "keys are neither text nor numbers"),
        (b"\x80\x04\x8f()" + 60 * b"2\x86" + b"\x90.", "keys are neither text nor numbers"),
        (b"\x80\x04()" + 60 * b"2\x86" + b"\x91.", "keys are neither text nor numbers"),
        (b"\x80\x02cnumpy\ndtype\n.", "numpy.dtype itself"),
        (ARRAY.split(b"(K\x01%b")[0] + b".", "an array without elements"),
        (ARRAY.replace(b"%b", b"M\xff\xff\x85") + b"U\x02i8K\x00K\x01\x87R\x89C\x08abcdefghtb.", "its shape says"),
        (ARRAY.replace(b"%b", b"J\xff\xff\xff\xff\x85") + b"U\x02i8K\x00K\x01\x87R\x89C\x00tb.", "its shape says"),
        (ARRAY.replace(b"%b", b"M\xff\xff\x85") + b"U\x02S0K\x00K\x01\x87R\x89C\x00tb.", "without any characters"),
        (ARRAY.replace(b"%b", b"K\x01\x85") + b"U\x02U1K\x00K\x01\x87R\x89C\x04\xff\xff\xff\x7ftb.", "no characters"),
        (
            ARRAY.replace(b"%b", b"K\x01\x85") + b"U\x02O8K\x00K\x01\x87R\x89C\x08abcdefghtb.",
            "are no list",
        ),
        (ARRAY.replace(b"%b", b"K\x01\x85") + b"U\x02V8K\x00K\x01\x87R\x89C\x08abcdefghtb.", "neither numbers nor"),
        (ARRAY.replace(b"%b", b"K\x01\x85") + b"U\x02M8K\x00K\x01\x87R\x89C\x08abcdefghtb.", "neither numbers nor"),
        (pickle.dumps(np.zeros(2, dtype="i4,f4")), "neither numbers nor"),
    ],
)
def test_a_bad_file_is_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(data, tmp_path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_cut_anywhere_is_one_line(protocol: int, tmp_path: Path) -> None:
    value = {"cids": ["a", "b"], "cluster": np.arange(3), "more": (1.5, None, True, 2**70, b"x", {1})}
    data = pickle.dumps(value, protocol)
    for length in range(len(data)):
        refused(data[:length], tmp_path)


@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), protocol=st.sampled_from(PROTOCOLS))
def test_a_byte_that_changed_is_an_input_error_at_most(
    place: int, byte: int, protocol: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(pickle.dumps({"cids": ["a", "b"], "cluster": np.arange(3), "x": (1.5, 2**70, {1})}, protocol))
    data[place % len(data)] = byte
    # any other error fails the test
    with suppress(InputError):
        read(bytes(data), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder, not a file"),
        (os.mkfifo, "a pipe or a device, not a file"),
    ],
)
def test_no_file(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "gnd.pkl"
    make(path)
    with limits.seconds(20), pytest.raises(InputError, match=message):
        read_plain_pickle(path, "a pickle of plain data", REMEDY)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "gnd.pkl"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="larger than the 128 MB"):
        read_plain_pickle(path, "a pickle of plain data", REMEDY)
