"""Folders as BEIR lays them out and lists of judged pairs: what is read of them, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from recallk import InputError
from recallk.data.beir import Beir
from recallk.data.kind import kind_of
from recallk.data.qrels import read_qrels
from recallk.data.source import read_own
from tests.miniature_beir import save_beir


def test_records(tmp_path: Path) -> None:
    folder = save_beir(tmp_path / "beir")
    assert kind_of(str(folder)) == "texts"
    records, notes = read_own(str(folder))
    assert notes == []
    counts = {
        (split, role): sum((record.split, record.role) == (split, role) for record in records)
        for split in ("train", "validation", "test")
        for role in ("query", "gallery")
    }
    assert counts[("train", "query")] == 18
    assert counts[("validation", "query")] == counts[("test", "query")] == 9
    assert counts[("test", "gallery")] == 288, "all of the corpus"
    assert 18 * 8 < counts[("train", "gallery")] < 288, "with those that are judged and wrong"
    first = next(record for record in records if record.role == "query" and record.split == "train")
    answers = [record for record in records if record.split == "train" and first.label in record.label.split("|")]
    assert len(answers) == 9
    assert {str(record.item).split()[-1] for record in answers if record.role == "query"} == {
        str(first.item).split()[-1]
    }
    assert any(record.label == "" for record in records if record.split == "train")


def test_a_title_comes_before_the_text(tmp_path: Path) -> None:
    beir = Beir(save_beir(tmp_path / "beir"))
    text = beir.documents["d0"]
    assert text.startswith(f"{text[:3]} ")
    assert text.id == "d0"


def test_a_document_may_answer_several_queries(tmp_path: Path) -> None:
    folder = save_beir(tmp_path / "beir")
    with (folder / "qrels" / "train.tsv").open("a") as file:
        file.write("q0\td287\t1\nq2\td287\t2\n")
    labels = [record.label for record in read_own(str(folder))[0] if record.split == "train"]
    assert "q0|q2" in labels


def test_qrels_of_trec_and_of_beir(tmp_path: Path) -> None:
    (tmp_path / "trec").write_text("q1 0 d1 2\nq1\t0\td2\t0\n\nq2 Q0 d1 1\n")
    (tmp_path / "beir").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n")
    assert read_qrels(tmp_path / "trec") == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}} == read_qrels(tmp_path / "beir")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no pair is judged in it"),
        ("q 0 d x\n", "line 1: the grade is x, and no number"),
        ("q 0 d nan\n", "line 1: the grade is nan, and no number"),
        ("q 0 d 1\nq 0 d\n", "line 2 has 3 fields; query, iteration, document and grade are needed"),
        ("a\tb\tc\nq\td\t1\t2\n", "line 2 has 4 fields; query, document and grade are needed"),
        ("q 0 d 1\nq 0 d 2\n", "line 2: q and d are judged twice, with two grades"),
    ],
)
def test_odd_qrels_are_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        read_qrels(tmp_path / "qrels")
    assert "\n" not in str(caught.value)


def _append(name: str, text: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(f"\n{text}\n")

    return change


def _remove_qrels(folder: Path) -> None:
    for file in (folder / "qrels").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_append("corpus.jsonl", "{"), "corpus.jsonl: not texts as BEIR writes them .line 289 is no JSON"),
        (_append("corpus.jsonl", '{"_id": "d1", "text": "x"}'), "line 289: the _id d1 is there twice"),
        (_append("corpus.jsonl", '{"_id": "x", "text": ""}'), "line 289: empty text"),
        (_append("corpus.jsonl", '{"_id": "x", "text": ["a"]}'), "line 289: _id, title and text are to be texts"),
        (_append("queries.jsonl", '{"text": "x"}'), "no object with _id and text"),
        (_append("qrels/train.tsv", "q99\td1\t1"), "train.tsv: query q99 is not in .*queries.jsonl"),
        (_append("qrels/test.tsv", "q1\td999\t1"), "test.tsv: document d999 is not in .*corpus.jsonl"),
        (_remove_qrels, "no train.tsv, dev.tsv or test.tsv with judged pairs"),
    ],
)
def test_odd_folders_are_one_line(tmp_path: Path, change: Callable[[Path], object], told: str) -> None:
    change(save_beir(tmp_path / "beir"))
    with pytest.raises(InputError, match=told) as caught:
        read_own(str(tmp_path / "beir"))
    assert "\n" not in str(caught.value)
