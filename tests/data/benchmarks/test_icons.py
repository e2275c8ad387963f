"""Icons of many sets: what counts as one drawing, the split, licences, and each way in which a package is damaged."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from recallk import InputError, MissingExtraError
from recallk.data.benchmarks.benchmark import Origin
from recallk.data.benchmarks.check import by_licence
from recallk.data.benchmarks.icons import _plain_names, origins, read
from recallk.data.dataset import read_for_test, read_for_training
from recallk.data.findings import Findings
from recallk.data.item import Drawing
from recallk.data.settings import DataSettings
from recallk.data.source import read_benchmark
from tests.cli.test_cli import recallk
from tests.data.miniatures import icon_package, make

PACKAGE = "node_modules/@iconify/json"


def bodies(*names: str, **told: Any) -> dict[str, Any]:
    return {"icons": {name: {"body": f"<path id='{name}'/>"} for name in names}, **told}


def by_class(root: Path) -> dict[str, list[str]]:
    findings, found = Findings(), dict[str, list[str]]()
    for record in read(root, findings):
        assert isinstance(record.item, Drawing)
        found.setdefault(record.label, []).append(record.item.name)
    assert not findings.listed
    return found


def package(root: Path, first: Mapping[str, Any], *others: Mapping[str, Any], **told: Mapping[str, Any]) -> Path:
    """Make a package of the set `one`, of `others`, and of three more sets that draw a house and a key."""
    more = {f"other{number}": held for number, held in enumerate(others)}
    usual = {f"usual{number}": bodies("house", "key") for number in range(3)}
    icon_package(root, {"one": first, **more, **usual}, **told)
    return root


def test_a_class_is_a_name_that_four_sets_draw(tmp_path: Path) -> None:
    root = package(tmp_path, bodies("house", "wheel"), bodies("wheel"), bodies("wheel"))
    assert by_class(root) == {"house": ["one:house", "usual0:house", "usual1:house", "usual2:house"]}


def test_a_set_that_is_hidden_is_left_out(tmp_path: Path) -> None:
    root = package(tmp_path, bodies("house", "key"), bodies("house"), other0={"hidden": True})
    assert by_class(root)["house"] == ["one:house", "usual0:house", "usual1:house", "usual2:house"]
    assert by_class(package(tmp_path / "few", bodies("house"), one={"hidden": True})) == {}


def test_icons_that_are_left_out(tmp_path: Path) -> None:
    """Hidden ones, those that move, empty ones, and other names of a drawing."""
    first = bodies("house", "key", "lock", aliases={"wheel": {"parent": "house"}})
    first["icons"]["lock"]["body"] = ""
    first["icons"]["house"]["hidden"] = True
    first["icons"]["key"]["body"] = '<path d="M0 0"><animate attributeName="d"/></path>'
    assert (
        by_class(package(tmp_path, first, bodies("wheel", "lock"), bodies("wheel", "lock"), bodies("wheel", "lock")))
        == {}
    )


TWO_STYLES = {"line": "Line", "bold": "Bold"}
SOME_PLAIN = {"": "Regular", "thin": "Thin"}
SIZES = {"24-regular": "24", "20-filled": "20 Filled", "filled": "Filled"}
FIRST = {"round": "Round", "round-thin": "Round Thin", "sharp": "Sharp"}


@pytest.mark.parametrize(
    ("held", "names"),
    [
        (bodies("key", "key-fill", "key-16-solid", "align-line"), {"key": "key", "align-line": "align-line"}),
        (bodies("key-line", "key-solid", "key-duo"), {"key": "key-line"}),
        (bodies("key-20", "key-24", "lock-2", "lock-50"), {"key": "key-20", "lock-2": "lock-2", "lock-50": "lock-50"}),
        (bodies("key-line", "text-bold-line", suffixes=TWO_STYLES), {"key": "key-line", "text-bold": "text-bold-line"}),
        (bodies("key", "key-thin", "text-thin", suffixes=SOME_PLAIN), {"key": "key", "text-thin": "text-thin"}),
        (bodies("key-24-regular", "key-20-filled", suffixes=SIZES), {"key": "key-20-filled"}),
        (
            bodies("round-thin-key", "sharp-key-line", prefixes=FIRST),
            {"key": "round-thin-key", "key-line": "sharp-key-line"},
        ),
        (bodies("key-fill", "lock", suffixes={"": "Line"}), {"key-fill": "key-fill", "lock": "lock"}),
        (bodies("key-fill", "lock", suffixes=["fill"]), {"key-fill": "key-fill", "lock": "lock"}),
    ],
    ids=["usual", "no plain one", "sizes", "told", "told, some plain", "longest", "beginnings", "none", "no table"],
)
def test_styles_and_sizes_of_one_set_are_one_drawing(held: Mapping[str, Any], names: Mapping[str, str]) -> None:
    assert _plain_names(held) == names


def test_the_drawing_is_what_the_files_say(tmp_path: Path) -> None:
    first = bodies("house", "key", width=20, height=10, left=-1)
    first["icons"]["key"] |= {"width": 30.5, "top": 2}
    items = {record.label: record.item for record in read(package(tmp_path, first), Findings())[::4]}
    assert items == {
        "house": Drawing("one:house", "<path id='house'/>", (-1, 0, 20, 10), 64),
        "key": Drawing("one:key", "<path id='key'/>", (-1, 2, 30.5, 10), 64),
    }
    (tmp_path / "json/one.json").write_text(json.dumps(bodies("house", "key")))
    items = {record.label: record.item for record in read(tmp_path, Findings())[::4]}
    assert items["house"] == Drawing("one:house", "<path id='house'/>", (0, 0, 16, 16), 64)


def test_the_split_hangs_on_names_alone(tmp_path: Path) -> None:
    names = [f"thing-{number}" for number in range(400)]
    few, many = package(tmp_path / "few", bodies("house")), tmp_path / "many"
    icon_package(many, {f"set{number}": bodies("house", *names) for number in range(4)})
    split = {record.label: record.split for record in read(many, Findings())}
    assert split["house"] == read(few, Findings())[0].split == "test"
    assert [split[name] for name in names[:5]] == ["train", "test", "train", "train", "test"]
    assert 160 < list(split.values()).count("train") < 240


def test_two_readings_in_two_processes_are_in_one_order(tmp_path: Path) -> None:
    make("icons", tmp_path)
    program = (
        "import sys; from pathlib import Path; from recallk.data.benchmarks.icons import read;"
        "from recallk.data.findings import Findings;"
        "print([(r.item.name, r.label, r.split) for r in read(Path(sys.argv[1]), Findings())])"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    one, other = (
        subprocess.check_output(words, env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}) for seed in "12"
    )
    assert one == other
    assert one.count(b"thing") == 2 * 60


def test_a_run_finds_its_drawings_by_name(tmp_path: Path) -> None:
    root = make("icons", tmp_path)
    settings = DataSettings(data=str(root), dataset="icons")
    before = read_for_training(settings)
    tested = before.split.splits["test"]
    assert next(iter(tested.values())) == [f"set{number}:{next(iter(tested))}" for number in range(5)]
    path = root / PACKAGE / "json/set3.json"
    held = json.loads(path.read_text())
    gone = next(iter(tested))
    held["icons"].pop(gone)
    path.write_text(json.dumps(held))
    items, notes = read_for_test(settings, before.split)
    assert f"gone since the run: 1 item of 1 class (set3:{gone})" in notes[-1].message
    assert len(items.labelled) == 29


def test_licences(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"license": {"title": "Apache 2.0", "url": ""}}
    root = package(tmp_path, bodies("house", "key"), bodies("wheel"), usual1=free, one={"author": {"name": "Ann"}})
    found = origins(root, read(root, Findings()))
    assert found[0] == Origin("One", "Ann", "MIT", 2)
    assert found[2] == Origin("Usual1", "Author of usual1", "Apache 2.0", 2)
    assert len(found) == 4  # not of the set that none of the drawings is from
    assert [(row.licence, row.sets, row.images) for row in by_licence(found)] == [("MIT", 3, 6), ("Apache 2.0", 1, 2)]
    assert origins(tmp_path / "nowhere", []) == []

    monkeypatch.setattr("recallk.cli.data.console", Console(width=200, highlight=False, markup=False))
    assert recallk("data", "check", "icons", "--data", root) == 0
    printed = capsys.readouterr().out
    rows = [re.findall(r"[\w.]+", line) for line in printed.splitlines()]
    assert ["MIT", "3", "6"] in rows
    assert ["Apache", "2.0", "1", "2"] in rows
    assert "8 of 8 images opened" in printed


def spoil_list(home: Path) -> None:
    (home / "collections.json").write_text((home / "collections.json").read_text()[:-20])


def spoil_licence(home: Path) -> None:
    path = home / "collections.json"
    path.write_text(path.read_text().replace('"license"', '"licence"', 1))


def spoil_set(home: Path) -> None:
    path = home / "json/set1.json"
    path.write_text(path.read_text()[:-20])


def change_set(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        path = home / "json/set1.json"
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return spoil


def first_icon(held: dict[str, Any]) -> dict[str, Any]:
    icon: dict[str, Any] = next(iter(held["icons"].values()))
    return icon


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda home: (home / "collections.json").unlink(), "wrong root"),
        (spoil_list, r"collections.json: not a whole JSON file of @iconify/json \(.*\)"),
        (
            lambda home: (home / "collections.json").write_text("[]"),
            r"collections.json: not a whole JSON .*\(no table\)",
        ),
        (lambda home: (home / "collections.json").write_text('{"a": 1}'), r"no name, author or licence of the set a"),
        (spoil_licence, r"collections.json: no name, author or licence of the set set0"),
        (lambda home: (home / "json/set1.json").unlink(), r"set1.json: no such file"),
        (spoil_set, r"set1.json: not a whole JSON file"),
        (lambda home: (home / "json/set1.json").write_text("\xff" * 3, "latin-1"), r"set1.json: not a whole JSON file"),
        (lambda home: (home / "json/set1.json").write_text("[" * 100_000), r"set1.json: not a whole JSON file"),
        (change_set(lambda held: held.pop("icons")), r"set1.json: has no table of icons"),
        (change_set(lambda held: held.update(icons=[1])), r"set1.json: has no table of icons"),
        (change_set(lambda held: held["icons"].update(a=1)), r"set1.json: has no table of icons"),
        (change_set(lambda held: first_icon(held).pop("body")), r"set1.json: the icon thing-\d+ has no body"),
        (change_set(lambda held: first_icon(held).update(body=7)), r"set1.json: the icon thing-\d+ has no body"),
        (change_set(lambda held: first_icon(held).update(width=0)), r"the icon thing-\d+ has no width or height above"),
        (change_set(lambda held: first_icon(held).update(top="1")), r"the icon thing-\d+ has no width or height above"),
        (change_set(lambda held: held.update(height=float("nan"))), r"the icon thing-\d+ has no width or height above"),
    ],
)
def test_a_damaged_package_is_one_line(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    root = make("icons", tmp_path)
    spoil(root / PACKAGE)
    if message == "wrong root":
        message = r"looked for collections.json here .*give the folder in which `npm install @iconify/json` ran"
    with pytest.raises(InputError, match=message) as caught:
        read_benchmark("icons", str(root))
    assert "npm install @iconify/json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_drawn_is_found_by_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make("icons", tmp_path)
    change_set(lambda held: first_icon(held).update(body="<no svg"))(root / PACKAGE)
    assert recallk("data", "check", "icons", "--data", root, "--all") == 2
    assert "cannot be drawn" in capsys.readouterr().out.replace("\n", " ")


def test_who_lacks_the_package_is_told_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingExtraError, match=r"icons needs resvg-py.*pip install 'recallk\[icons\]'"):
        read(make("icons", tmp_path), Findings())
