"""The pickle of Retrieval-SfM-120k: every defect is named with its entry, and a hostile one runs nothing."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk.data.findings import Kind
from recallk.data.source import read_benchmark
from tests.data import limits
from tests.data.benchmarks.test_loaders import SIDE, read, reported
from tests.data.miniatures import jpeg, make, sfm_tables

Tables = dict[str, dict[str, Any]]


def write_tables(root: Path, tables: object, protocol: int = 4) -> Path:
    path = root / "retrieval-SfM-120k.pkl"
    path.write_bytes(pickle.dumps(tables, protocol))
    return path


def spoiled(root: Path, spoil: Callable[[Tables], object]) -> Path:
    make("sfm120k", root)
    tables = sfm_tables()
    spoil(tables)
    return write_tables(root, tables)


def one_more(part: str, cid: object, cluster: object) -> Callable[[Tables], object]:
    def add(tables: Tables) -> None:
        tables[part]["cids"].append(cid)
        tables[part]["cluster"].append(cluster)

    return add


def one_more_pair(part: str, query: object, positive: object) -> Callable[[Tables], object]:
    def add(tables: Tables) -> None:
        tables[part]["qidxs"].append(query)
        tables[part]["pidxs"].append(positive)

    return add


FIRST = f"{10:032x}"
"""The first image of the training part."""


@pytest.mark.parametrize(
    ("spoil", "kind", "place", "message"),
    [
        (one_more("train", "ab" * 16, 0), "missing image", f"train entry {SIDE + 1}", "abab: no such image"),
        (one_more("val", "ab" * 16, 0), "missing image", f"val entry {SIDE + 1}", "abab: no such image"),
        (one_more("train", "new.12", 9), "class with one image", f"train entry {SIDE + 1}", "class train/9 has one"),
        (one_more("val", "new.12", 9), "class with one image", f"val entry {SIDE + 1}", "class val/9 has one image"),
        (one_more("train", FIRST, 0), "duplicate path", f"train entry {SIDE + 1}", "listed already"),
        (one_more("val", FIRST, 0), "image in two splits", f"val entry {SIDE + 1}", "in test, and in train"),
        (one_more("train", 17, 0), "broken name", f"train entry {SIDE + 1}", "the cid 17 is no text"),
        (one_more("train", b"new.12", 0), "broken name", f"train entry {SIDE + 1}", "is no text"),
        (one_more("train", "ew.12", 0), "broken name", f"train entry {SIDE + 1}", "has fewer than 6 characters"),
        (one_more("train", "a/new.12", 0), "broken name", f"train entry {SIDE + 1}", "is no name of a file"),
        (one_more("train", "../ew.12", 0), "broken name", f"train entry {SIDE + 1}", "is no name of a file"),
        (one_more("train", "new...12", 0), "broken name", f"train entry {SIDE + 1}", "is no name of a file"),
        (one_more("train", "new\0.12", 0), "broken name", f"train entry {SIDE + 1}", "is no name of a file"),
        (one_more("train", "new.12", "x"), "label is no number", f"train entry {SIDE + 1}", "cluster is 'x'"),
        (one_more("train", "new.12", True), "label is no number", f"train entry {SIDE + 1}", "cluster is ''"),
        (one_more("train", "new.12", -1), "label is no number", f"train entry {SIDE + 1}", "cluster is '-1'"),
        (one_more("train", "new.12", 0.5), "label is no number", f"train entry {SIDE + 1}", "cluster is '0.5'"),
        (one_more("train", "new.12", float("nan")), "label is no number", f"train entry {SIDE + 1}", "is 'nan'"),
        (one_more_pair("train", 0, SIDE), "label is no number", "train pair 25", f"pidxs is {SIDE}, not from 0 to 29"),
        (one_more_pair("val", -1, 0), "label is no number", "val pair 25", "qidxs is '-1', no number"),
        (one_more_pair("val", None, 0), "label is no number", "val pair 25", "qidxs is 'None', no number"),
    ],
)
def test_a_defect_is_named_with_its_entry(
    spoil: Callable[[Tables], object], kind: Kind, place: str, message: str, tmp_path: Path
) -> None:
    path = spoiled(tmp_path, spoil)
    jpeg(tmp_path / "ims/12/w./ne/new.12")
    problem = reported("sfm120k", tmp_path, kind)
    assert problem.where == f"{path}, {place}"
    assert message in problem.message


def without(part: str, key: str) -> Callable[[Tables], object]:
    return lambda tables: tables[part].pop(key)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tables: tables.pop("train"), "has no table 'train'"),
        (lambda tables: tables.update(val=[1, 2]), "has no table 'val'"),
        (without("train", "cids"), "has no list 'cids' in the table 'train'"),
        (without("val", "cluster"), "has no list 'cluster' in the table 'val'"),
        (without("train", "qidxs"), "has no list 'qidxs' in the table 'train'"),
        (without("val", "pidxs"), "has no list 'pidxs' in the table 'val'"),
        (lambda tables: tables["val"].update(cids="abcdef"), "has no list 'cids' in the table 'val'"),
        (lambda tables: tables["val"].update(cids=np.array(5)), "has no list 'cids' in the table 'val'"),
        (lambda tables: tables["train"]["cluster"].pop(), "30 cids and 29 cluster in the table 'train'"),
        (lambda tables: tables["val"]["pidxs"].pop(), "24 qidxs and 23 pidxs in the table 'val'"),
    ],
)
def test_a_table_that_is_not_whole(spoil: Callable[[Tables], object], message: str, tmp_path: Path) -> None:
    path = spoiled(tmp_path, spoil)
    problem = reported("sfm120k", tmp_path, "missing file")
    assert problem.where == str(path)
    assert message in problem.message


@pytest.mark.parametrize("held", [[], None, "train", {}, 5])
def test_a_pickle_of_something_else(held: object, tmp_path: Path) -> None:
    make("sfm120k", tmp_path)
    write_tables(tmp_path, held)
    findings = read("sfm120k", tmp_path)[1]
    assert [finding.message for finding in findings.errors] == [
        f"has no table {part!r}; get it again" for part in ("train", "val")
    ]


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_lists_and_arrays_are_read_alike(protocol: int, tmp_path: Path) -> None:
    make("sfm120k", tmp_path)
    expected = read("sfm120k", tmp_path)[0]
    tables: Tables = sfm_tables()
    write_tables(tmp_path, tables, protocol)
    assert read("sfm120k", tmp_path)[0] == expected
    for table in tables.values():
        table |= {"cids": np.array(table["cids"]), "cluster": np.array(table["cluster"], np.float64)}
        table |= {"qidxs": np.array(table["qidxs"], np.int32), "pidxs": tuple(table["pidxs"])}
    write_tables(tmp_path, tables, protocol)
    records, findings = read("sfm120k", tmp_path)
    assert not findings.listed
    assert records == expected


class Calls:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = spoiled(tmp_path, lambda tables: tables["val"]["cids"].append(Calls(marker)))
    problem = reported("sfm120k", tmp_path, "missing file")
    assert problem.where == str(path)
    assert "system; nothing was run" in problem.message
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "it would have run"


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "truncated"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("no pickle"), "no pickle, or a damaged one"),
        (as_folder, "a folder, not a file"),
        (as_pipe, "a pipe or a device, not a file"),
    ],
)
def test_an_unreadable_pickle(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    make("sfm120k", tmp_path)
    path = tmp_path / "retrieval-SfM-120k.pkl"
    spoil(path)
    with limits.seconds(20):
        problem = reported("sfm120k", tmp_path, "missing file")
    assert problem.where == str(path)
    assert message in problem.message


def test_the_same_number_is_another_class_in_the_other_part(tmp_path: Path) -> None:
    records, _ = read_benchmark("sfm120k", str(make("sfm120k", tmp_path)))
    assert {record.label for record in records} == {
        f"{part}/{number}" for part in ("train", "val") for number in range(6)
    }
