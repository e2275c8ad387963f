"""Models measured by judged pairs: a run on a folder of BEIR, and vectors with a list of TREC."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import recallk
from recallk import InputError, Positives
from recallk.data.qrels import read_qrels
from recallk.evaluation import judged_metrics
from recallk.runs.folder import RunFolder
from tests.cli.test_cli import recallk as command
from tests.miniature_beir import save_beir
from tests.miniature_texts import SMALL, save_sentence_model
from tests.rows import losses_of, measured, steps

pytestmark = pytest.mark.xdist_group("texts")


def words(**changes: Any) -> list[Any]:
    return [word for key, value in (SMALL | changes).items() for word in (f"--{key.replace('_', '-')}", value)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_beir(folder / "beir")
    given = words(backbone=model, items_per_class=2, batch_size=24, epochs=12)
    assert command("train", "--data", folder / "beir", "--run", folder / "run", *given) == 0
    return folder / "run"


def test_it_is_trained_and_measured(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = list(RunFolder(run).history())
    before, *_, after = measured(rows)
    assert after.metrics["recall@1"] > before.metrics["recall@1"] + 0.1, "the share of queries with a hit"
    assert all(row.items == 24 for row in steps(rows))
    found = recallk.evaluate(run)
    assert found.items == "9 queries among 288 texts, by judged pairs"
    assert found.metrics["hit_rate@1"] == pytest.approx(after.metrics["recall@1"])
    embedder, data = recallk.load(run), run.parent / "beir"
    qrels = read_qrels(data / "qrels" / "test.tsv")
    texts = [line.split('"text": "')[1][:-2] for line in (data / "queries.jsonl").read_text().splitlines()]
    queries = embedder.embed([texts[int(name[1:])] for name in qrels])
    assert command("evaluate", run, "--ks", "1,5") == 0
    printed = capfd.readouterr().out
    for name in ("hit_rate@1", "recall@5", "ndcg@5", "map@5", "mrr@5", "r_precision"):
        assert name in printed
    assert "ndcg@10" not in printed
    assert len(queries) == 9


def test_by_another_list_and_by_query(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, by_query = run.parent / "beir", tmp_path / "by-query.txt"
    dev = data / "qrels" / "dev.tsv"
    assert command("evaluate", run, "--data", data, "--qrels", dev, "--by-query", by_query) == 0
    assert "9 queries among 288 texts" in capfd.readouterr().out
    lines = [line.split("\t") for line in by_query.read_text().splitlines()]
    assert {name for _, name, _ in lines} == {*read_qrels(dev), "all"}
    mean = np.mean([float(value) for metric, name, value in lines if metric == "ndcg@10" and name != "all"])
    assert recallk.evaluate(run, str(data), qrels=dev).metrics["ndcg@10"] == pytest.approx(mean)


def test_resumed_it_goes_on(run: Path, model: Path, tmp_path: Path) -> None:
    data = save_beir(tmp_path / "beir", dev=False)
    given = words(backbone=model, items_per_class=2, batch_size=24)
    assert command("train", "--data", data, "--run", tmp_path / "run", *given) == 0
    assert command("train", "--resume", tmp_path / "run", "--epochs", "4") == 0
    rows = list(RunFolder(tmp_path / "run").history())
    assert {row.epoch for row in steps(rows)} == {1, 2, 3, 4}
    assert len(losses_of(rows)) > 4
    assert "Answered worst" in (tmp_path / "run" / "report.html").read_text()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on vectors with ids, and judged pairs of them."""
    folder = tmp_path_factory.mktemp("vectors")
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 6)
    rows = random.standard_normal((30, 8))[labels] + 0.8 * random.standard_normal((180, 8))
    names = [f"v{number}" for number in range(180)]
    table = {"embedding": list(rows.astype(np.float32)), "label": [f"class {n}" for n in labels], "id": names}
    parquet.write_table(pyarrow.table(table), folder / "v.parquet")
    pairs = [f"v{q} 0 v{d} {1 + (d - q) % 3}" for q in range(0, 180, 9) for d in range(180) if labels[q] == labels[d]]
    (folder / "qrels.txt").write_text("\n".join(pairs))
    given = ("--embedding-size", 4, "--epochs", 2, "--batch-size", 40, "--accelerator", "cpu")
    assert command("train", "--data", folder / "v.parquet", "--run", folder / "run", *given) == 0
    return folder / "run", folder / "qrels.txt"


def test_vectors_with_ids(vectors: tuple[Path, Path]) -> None:
    run, qrels = vectors
    found = recallk.evaluate(run, str(run.parent / "v.parquet"), ks=(3, 10), qrels=qrels)
    assert found.items == "20 queries among 180 vectors, by judged pairs"
    rows = recallk.load(run).embed(np.stack(parquet.read_table(run.parent / "v.parquet")["embedding"].to_pylist()))
    judged, names = read_qrels(qrels), [f"v{number}" for number in range(180)]
    queries = rows[[int(name[1:]) for name in judged]]
    positives = Positives.from_qrels(judged, list(judged), names)
    assert found.metrics == {
        name: pytest.approx(value, abs=1e-6)
        for name, value in judged_metrics(queries, positives, rows, (3, 10)).items()
    }
    assert recallk.evaluate(run, qrels=qrels).metrics.keys() >= {"ndcg@10"}, "the run's own data"


def test_mistakes_are_one_line(vectors: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    other, qrels = vectors
    (tmp_path / "odd").write_text("v999 0 v1 1\n")
    (tmp_path / "texts.csv").write_text("text,label\nred shoe,a\nblue shoe,b\n")
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"run": other, "qrels": tmp_path / "odd"}, "query v999 is no id of"),
        ({"run": other, "qrels": tmp_path / "gone"}, "gone: "),
        ({"run": other, "qrels": qrels, "protocol": "re-identification"}, "is for classes, and these pairs are judged"),
        ({"run": other, "by_query": tmp_path / "x"}, "by_query is for judged pairs: give qrels"),
        ({"run": run, "data": str(tmp_path / "texts.csv"), "qrels": qrels}, "the data has no column id"),
    ]
    for given, told in mistakes:
        with pytest.raises(InputError, match=told) as caught:
            recallk.evaluate(**given)
        assert "\n" not in str(caught.value)
