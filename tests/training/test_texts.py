"""Runs on texts: they learn, stop and go on, in several processes, and are the same after they are loaded."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import recallk
from recallk import InputError
from recallk.core import processes
from recallk.evaluation.metrics import retrieval_metrics
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.runs.text_config import TextTrainConfig
from recallk.training.plan import Plan, prepare
from recallk.training.trainer import Trainer
from tests.miniature_texts import SMALL, offers, save_sentence_model, save_texts
from tests.processes import in_processes
from tests.rows import losses_of, measured, without_time

MARGIN = 0.15
"""So much more of recall@1, on classes never seen, a run of a few steps is to reach than the model it began with."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_texts(tmp_path_factory.mktemp("table") / "texts.csv")


def planned(table: Path | str, model: Path | str, **changes: Any) -> Plan:
    return prepare(make_config(SMALL, {"data": str(table), "backbone": str(model)}, changes))


def trained(table: Path | str, model: Path | str, run: Path | str, **changes: Any) -> list[Row]:
    return list(Trainer(planned(table, model, **changes), RunFolder(Path(run))).rows())


def weights(run: Path) -> dict[str, torch.Tensor]:
    return recallk.load(run).state_dict()


def test_a_run_learns_and_the_result_is_what_its_model_gives(table: Path, sentence_model: Path, tmp_path: Path) -> None:
    rows = trained(table, sentence_model, tmp_path / "run", epochs=12)
    before, *_, result = measured(rows)
    assert before.metrics["recall@1"] + MARGIN < result.metrics["recall@1"]
    test = planned(table, sentence_model).data.test.labelled
    assert test.counted == "112 texts of 14 classes"
    found = retrieval_metrics(recallk.load(tmp_path / "run").embed(test.items), test.labels, ks=(1, 2, 4, 8))
    assert {name: found[name] for name in result.metrics} == pytest.approx(result.metrics, abs=1e-6)


def test_a_static_model_learns_too(table: Path, tmp_path: Path) -> None:
    model = save_sentence_model(tmp_path, static=True)
    plan = planned(table, model, learning_rate=2e-2, epochs=20)
    rows = list(Trainer(plan, RunFolder(tmp_path / "run")).rows())
    before, *_, result = measured(rows)
    assert before.metrics["recall@1"] + MARGIN < result.metrics["recall@1"]


@pytest.mark.parametrize("changes", [{}, {"chunk_size": 7, "mixup": True}, {"embedding_size": 8}])
def test_a_run_goes_on_as_if_nothing_had_been(
    table: Path, sentence_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = trained(table, sentence_model, tmp_path / "whole", **changes)
    plan, folder = planned(table, sentence_model, checkpoint_minutes=1e-9, **changes), RunFolder(tmp_path / "cut")
    rows = Trainer(plan, folder).rows()
    while len(losses_of(folder.history() if folder.metrics.exists() else [])) < plan.steps // 2 + 1:
        next(rows)
    rows.close()  # type: ignore[attr-defined]
    list(Trainer(prepare(folder.read_config(), folder.read_split()), folder).rows(resume=True))
    assert without_time(folder.history()) == without_time(whole)
    end = weights(folder.path)
    assert all(torch.equal(value, end[name]) for name, value in weights(tmp_path / "whole").items())


def test_the_same_in_chunks_and_in_one(table: Path, tmp_path: Path) -> None:
    """Without dropout, which is drawn for each chunk, the chunks that a batch is cut into change nothing."""
    model = save_sentence_model(tmp_path, dropout=0.0)
    for size in (40, 7):
        trained(table, model, tmp_path / str(size), chunk_size=size, activation_memory_gb=0, epochs=1)
    one, other = weights(tmp_path / "40"), weights(tmp_path / "7")
    assert all(torch.allclose(value, other[name], atol=1e-5) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_bf16_and_validation_and_given_splits(sentence_model: Path, tmp_path: Path) -> None:
    sides = {"red": "train", "blue": "train", "green": "val", "black": "test", "white": "test", "grey": "train"}
    rows = [(text, label, sides[label.split()[0]]) for text, label in offers()]
    table = save_texts(tmp_path / "t.csv", rows, ("text", "label", "split"))
    found = trained(table, sentence_model, tmp_path / "run", select="validation", precision="bf16-mixed", epochs=2)
    assert len(measured(found, "validation")) == 3
    split = RunFolder(tmp_path / "run").read_split()
    assert split is not None
    assert {side: len(labels) for side, labels in split.splits.items()} == {"train": 18, "validation": 6, "test": 12}


def test_what_is_chosen_for_texts_is_told(table: Path, sentence_model: Path, tmp_path: Path) -> None:
    def chosen(model: Path, **changes: Any) -> dict[str, tuple[object, str]]:
        config = make_config({"data": str(table), "backbone": str(model)}, changes)
        return {choice.key: (choice.value, choice.why) for choice in prepare(config).choices}

    found = chosen(sentence_model)
    assert found["learning_rate"] == (2e-5, "what transformers of texts are usually fine-tuned with")
    assert found["batch_size"][0] == 128
    assert found["warmup_steps"][1] == "one in 10 of all steps"
    steps = planned(table, sentence_model, epochs=None, batch_size=128, items_per_class=8).steps
    assert found["warmup_steps"][0] == round(steps / 10)
    assert found["mixup"][0] is False
    assert "learning_rate" not in chosen(sentence_model, learning_rate=1e-4)
    static = chosen(save_sentence_model(tmp_path, static=True))
    assert static["learning_rate"] == (2e-1, "a table of vectors of tokens takes a far higher rate than a transformer")


def test_the_configuration_is_read_as_it_was_written(table: Path, sentence_model: Path) -> None:
    config = make_config({"data": str(table), "backbone": str(sentence_model)})
    assert isinstance(config, TextTrainConfig)
    assert (config.embedding_size, config.optimizer, config.schedule) == (24, "adamw", "cosine")
    again = make_config(config.model_dump())
    assert again == config
    assert "learning_rate" not in config.model_fields_set


def test_texts_without_ids_of_a_closed_set_are_found_on_their_sides(sentence_model: Path, tmp_path: Path) -> None:
    """Of a class with items on both sides, those that the table says are tested on, whatever the order of its rows."""
    rows = [(text, label, "test" if number % 8 < 3 else "train") for number, (text, label) in enumerate(offers())]
    table = save_texts(tmp_path / "t.csv", rows, ("text", "label", "split"))
    trained(table, sentence_model, tmp_path / "run", closed_set=True, epochs=1)
    folder = RunFolder(tmp_path / "run")
    test = prepare(folder.read_config(), folder.read_split()).data.test.labelled
    assert [str(item) for item in test.items] == [text for text, _, side in rows if side == "test"]


def test_texts_that_are_gone_or_new_since_the_run(sentence_model: Path, tmp_path: Path) -> None:
    rows = [(text, label, f"offer {number}") for number, (text, label) in enumerate(offers())]
    table = save_texts(tmp_path / "t.csv", rows, ("text", "label", "id"))
    trained(table, sentence_model, tmp_path / "run", epochs=1)
    config, split = RunFolder(tmp_path / "run").read_config(), RunFolder(tmp_path / "run").read_split()
    save_texts(table, [*rows, ("one more red shoe", "red shoe", "offer new")], ("text", "label", "id"))
    plan = prepare(config, split)
    assert any("new since the run: 1 item of 1 class; left out" in note.message for note in plan.data.notes)
    save_texts(table, rows[1:], ("text", "label", "id"))
    with pytest.raises(InputError, match=r"1 of the run's items cannot be found \(offer 0 among them\)"):
        prepare(config, split)


def test_the_finished_run_needs_its_backbone_no_more(table: Path, sentence_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "backbone"
    shutil.copytree(sentence_model, model)
    trained(table, model, tmp_path / "run", epochs=1)
    found = recallk.load(tmp_path / "run").embed(["red shoe"])
    shutil.rmtree(model)
    assert torch.equal(recallk.load(tmp_path / "run").embed(["red shoe"]), found)
    assert recallk.evaluate(tmp_path / "run").metrics["recall@1"] > 0


def all_trained(table: str, model: str, folder: str) -> dict[str, tuple[dict[str, torch.Tensor], list[Row]]]:
    found = {}
    for name, changes in {"recall@k": {}, "mixup": {"mixup": True}}.items():
        rows = trained(table, model, f"{folder}/{name}", chunk_size=7, epochs=1, **changes)
        processes.copy_first([])  # the model is written by the first one
        found[name] = (weights(Path(folder, name)), rows)
    return found


@pytest.mark.slow
def test_two_processes_train_what_one_trains(table: Path, sentence_model: Path, tmp_path: Path) -> None:
    places = (str(table), str(sentence_model))
    (one,), (first, second) = (in_processes(all_trained, n, *places, str(tmp_path / str(n))) for n in (1, 2))
    for name, (expected, rows) in one.items():
        for found, other_rows in (first[name], second[name]):
            assert all(torch.allclose(value, expected[key], atol=2e-5) for key, value in found.items())
            for mine, theirs in zip(measured(rows), measured(other_rows), strict=True):
                assert theirs.metrics == pytest.approx(mine.metrics, abs=1e-9)
