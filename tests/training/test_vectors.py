"""Runs on vectors: trained, stopped and gone on with, in several processes, and the same after they are loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet

import recallk
from recallk import InputError
from recallk.core import processes
from recallk.data.vectors import VectorRows
from recallk.evaluation.metrics import retrieval_metrics
from recallk.models.vector_embedder import VectorEmbedder
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.runs.vector_config import VectorTrainConfig
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import losses_of, measured, without_time

CLASSES, ITEMS, SIZE = 60, 8, 12
SMALL: dict[str, Any] = {"embedding_size": 8, "epochs": 3, "batch_size": 40, "accelerator": "cpu", "select": "last"}
LABELS = np.repeat(np.arange(CLASSES), ITEMS)


def vectors(kind: Any = np.float32) -> NDArray[Any]:
    """Return classes that half of the dimensions tell apart; the others are louder, and say nothing of them."""
    random = np.random.default_rng(0)
    found = random.standard_normal((CLASSES, SIZE))[LABELS] + 0.4 * random.standard_normal((len(LABELS), SIZE))
    found[:, SIZE // 2 :] = 5 * random.standard_normal((len(LABELS), SIZE - SIZE // 2)) + 3
    return found.astype(kind)


def save(folder: Path, array: NDArray[Any], suffix: str) -> Path:
    """Write the vectors as a table, or as an array with a table beside it."""
    columns: dict[str, Any] = {"label": [f"class {n}" for n in LABELS]}
    if suffix == ".npy":
        np.save(folder / "v.npy", array)
        parquet.write_table(pyarrow.table(columns), folder / "v.parquet")
    else:
        parquet.write_table(pyarrow.table({"embedding": list(array), **columns}), folder / "v.parquet")
    return folder / f"v{suffix}"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("table"), vectors(), ".parquet")


def trained(data: Path | str, run: Path | str, **changes: Any) -> list[Row]:
    return list(Trainer(prepare(make_config(SMALL, {"data": str(data)}, changes)), RunFolder(Path(run))).rows())


def weights(run: Path) -> dict[str, torch.Tensor]:
    return recallk.load(run).state_dict()


@pytest.mark.parametrize("head", ["linear", "residual", "mlp"])
def test_a_head_learns_and_the_result_is_what_its_model_gives(table: Path, tmp_path: Path, head: str) -> None:
    config = make_config(SMALL, {"data": str(table), "head": head, "epochs": 6})
    assert isinstance(config, VectorTrainConfig)
    assert config.input_size == SIZE
    rows = trained(table, tmp_path / "run", head=head, epochs=6)
    before, *_, result = measured(rows)
    assert before.metrics["recall@1"] + 0.2 < result.metrics["recall@1"]
    test = prepare(config).data.test.labelled
    assert isinstance(test.items, VectorRows)
    given = test.items.table.array[test.items.rows]
    embedder = recallk.load(tmp_path / "run")
    assert isinstance(embedder, VectorEmbedder)
    found = retrieval_metrics(embedder.transform(given), test.labels, ks=(1, 2, 4, 8))
    assert {name: found[name] for name in result.metrics} == pytest.approx(result.metrics, abs=1e-6)
    untrained = retrieval_metrics(torch.from_numpy(given), test.labels, ks=(1, 2, 4, 8))
    assert {name: untrained[name] for name in before.metrics} == pytest.approx(before.metrics, abs=1e-6)


def test_the_input_is_standardised_by_the_training_vectors_alone(table: Path, tmp_path: Path) -> None:
    trained(table, tmp_path / "run", epochs=1)
    embedder = recallk.load(tmp_path / "run")
    assert isinstance(embedder, VectorEmbedder)
    train = prepare(make_config(SMALL, {"data": str(table)})).data.train.items
    assert isinstance(train, VectorRows)
    array = vectors()[train.rows].astype(np.float64)
    assert np.allclose(embedder.mean.numpy(), array.mean(0), rtol=1e-6)
    assert np.allclose(embedder.deviation.numpy(), array.std(0), rtol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_a_mapped_file_trains_as_a_table(tmp_path: Path, half: bool) -> None:
    array = vectors(np.float16 if half else np.float32)
    ends = []
    for suffix in (".parquet", ".npy"):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        ends.append((without_time(trained(save(folder, array, suffix), folder / "run")), weights(folder / "run")))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(value, ends[1][1][name]) for name, value in ends[0][1].items())


def test_a_run_cut_off_within_an_epoch_goes_on_bit_for_bit(table: Path, tmp_path: Path) -> None:
    changes = {"checkpoint_minutes": 1e-6, "mixup": True}
    whole = trained(table, tmp_path / "whole", **changes)
    plan, folder = prepare(make_config(SMALL, {"data": str(table)}, changes)), RunFolder(tmp_path / "cut")
    assert plan.steps > 6
    rows = Trainer(plan, folder).rows()
    while len(losses_of(folder.history() if folder.metrics.exists() else [])) < plan.steps // 3 + 2:
        next(rows)
    rows.close()  # type: ignore[attr-defined]
    recorded = folder.read_split()
    list(Trainer(prepare(folder.read_config(), recorded), folder).rows(resume=True))
    assert without_time(folder.history()) == without_time(whole)
    end = weights(folder.path)
    assert all(torch.equal(value, end[name]) for name, value in weights(tmp_path / "whole").items())


def test_vectors_that_are_gone_or_new_since_the_run(tmp_path: Path) -> None:
    data, run = save(tmp_path, vectors(), ".parquet"), tmp_path / "run"
    trained(data, run, epochs=1)
    config, split = RunFolder(run).read_config(), RunFolder(run).read_split()
    columns = parquet.read_table(data)
    parquet.write_table(pyarrow.concat_tables([columns, columns.slice(0, 3)]), data)
    plan = prepare(config, split)
    assert any("new since the run: 3 items of 1 class; left out" in note.message for note in plan.data.notes)
    parquet.write_table(columns.slice(1), data)
    with pytest.raises(InputError, match="1 of the run's items cannot be found, so it"):
        prepare(config, split)


def test_numbers_that_were_not_looked_at_are_found_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recallk.data.vector_files.CHECKED_BYTES", 1)
    monkeypatch.setattr("recallk.data.vector_files.SAMPLE", 40)
    array = vectors()
    train = prepare(make_config(SMALL, {"data": str(save(tmp_path, array, ".npy"))})).data.train.items
    assert isinstance(train, VectorRows)
    row = int(train.rows[-1])
    array[row, 3] = np.nan
    save(tmp_path, array, ".npy")
    with pytest.raises(InputError, match=rf"v\.npy, row {row + 1}: NaN or infinity"):
        trained(tmp_path / "v.npy", tmp_path / "run")


CASES: dict[str, dict[str, Any]] = {"recall@k": {}, "mixup": {"mixup": True}, "mlp": {"head": "mlp"}}


def all_trained(data: str, folder: str) -> dict[str, tuple[dict[str, torch.Tensor], list[Row]]]:
    found = {}
    for name, changes in CASES.items():
        rows = trained(data, f"{folder}/{name}", chunk_size=7, **changes)
        processes.copy_first([])  # the model is written by the first one
        found[name] = (weights(Path(folder, name)), rows)
    return found


def test_two_processes_train_what_one_trains(table: Path, tmp_path: Path) -> None:
    (one,), (first, second) = (in_processes(all_trained, n, str(table), str(tmp_path / str(n))) for n in (1, 2))
    for name, (expected, rows) in one.items():
        for found, other_rows in (first[name], second[name]):
            assert all(torch.allclose(value, expected[key], atol=2e-5) for key, value in found.items())
            for mine, theirs in zip(measured(rows), measured(other_rows), strict=True):
                assert theirs.metrics == pytest.approx(mine.metrics, abs=1e-9)
