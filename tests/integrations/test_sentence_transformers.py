"""recall@k in sentence-transformers: its trainer, cached gradients, samplers, several processes, what is refused."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recallk import InputError, SimilarityMixup
from recallk.core import processes
from recallk.evaluation import retrieval_metrics
from tests.miniature_texts import offers, save_sentence_model
from tests.processes import in_processes

pytestmark = pytest.mark.xdist_group("sentence-transformers")
MARGIN = 0.15
"""By which recall@1 of unseen classes has to rise: stated before the first run."""
ROWS = offers()
NAMES = sorted({label for _, label in ROWS})
NUMBER = {name: number for number, name in enumerate(NAMES)}
TRAIN, TEST = ([row for row in ROWS if (NUMBER[row[1]] + NUMBER[row[1]] // 6) % 2 == side] for side in (0, 1))
"""Of every colour, and of every thing, half of the classes."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("model"))


def load(saved: Path | str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(saved), device="cpu")


def dataset(rows: list[tuple[str, str]]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"text": [text for text, _ in rows], "label": [NUMBER[label] for _, label in rows]})


def recall(model: Any) -> float:
    embeddings = model.encode([text for text, _ in TEST], show_progress_bar=False)
    return retrieval_metrics(embeddings, [NUMBER[label] for _, label in TEST], ks=(1,))["recall@1"]


def gradients(
    saved: Path | str, cached: bool, rows: list[tuple[str, str]], **settings: Any
) -> tuple[float, torch.Tensor]:
    """Return the loss of a batch, with dropout, and the gradients of all parameters in one row."""
    from recallk.integrations.sentence_transformers import CachedRecallAtKLoss, RecallAtKLoss

    model = load(saved)
    model.train()
    loss_fn = CachedRecallAtKLoss(model, mini_batch_size=5, **settings) if cached else RecallAtKLoss(model, **settings)
    features = model.preprocess([text for text, _ in rows])
    labels = torch.tensor([NUMBER[label] for _, label in rows])
    torch.manual_seed(0)
    if cached:
        loss = loss_fn([features], labels)
    else:  # the same dropout: as many texts at a time
        parts = [model.preprocess([text for text, _ in rows[start : start + 5]]) for start in range(0, len(rows), 5)]
        embeddings = torch.cat([model(part)["sentence_embedding"] for part in parts])
        loss = loss_fn.loss(embeddings, labels)
    loss.backward()
    found = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return float(loss.detach()), torch.cat(found)


@pytest.mark.parametrize("settings", [{}, {"ks": (1, 4), "query_in_database": False}, {"mixup": SimilarityMixup()}])
def test_cached_gradients_are_those_of_one_pass(saved: Path, settings: dict[str, Any]) -> None:
    rows = TRAIN[::3]
    loss, expected = gradients(saved, False, rows, **settings)
    cached_loss, found = gradients(saved, True, rows, **settings)
    assert cached_loss == pytest.approx(loss, abs=1e-5)
    assert float(expected.norm()) > 1e-3, "vacuous otherwise"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def _share_of_a_batch(saved: str, cached: bool) -> tuple[float, Any]:
    from torch.nn.parallel import DistributedDataParallel

    from recallk.integrations.sentence_transformers import CachedRecallAtKLoss, RecallAtKLoss

    model = load(saved)
    for name, parameter in model.named_parameters():  # a parameter without a gradient keeps the others from their mean
        parameter.requires_grad_("pooler" not in name)
    wrapped = DistributedDataParallel(model)
    kind = partial(CachedRecallAtKLoss, mini_batch_size=5) if cached else RecallAtKLoss
    loss_fn = kind(model, gather_across_devices=True)
    loss_fn.model = wrapped  # as the trainer does
    own = TRAIN[::3][processes.number() :: 2]
    loss = loss_fn([model.preprocess([text for text, _ in own])], torch.tensor([NUMBER[label] for _, label in own]))
    loss.backward()
    grads = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return float(loss.detach()), torch.cat(grads).numpy()


@pytest.mark.parametrize("cached", [False, True])
def test_two_processes_have_one_batch(saved: Path, tmp_path: Path, cached: bool) -> None:
    still = save_sentence_model(tmp_path / "still", dropout=0.0)
    rows = [row for start in range(2) for row in TRAIN[::3][start::2]]
    loss, expected = gradients(still, False, rows)
    for own_loss, found in in_processes(_share_of_a_batch, 2, str(still), cached):
        assert own_loss == pytest.approx(loss, abs=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


def fit(model: Any, folder: Path, loss: Any, epochs: float = 12, resume: bool = False, **further: Any) -> Any:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    from recallk.integrations.sentence_transformers import ClassBatchSampler

    args = SentenceTransformerTrainingArguments(
        str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=48,
        learning_rate=further.pop("learning_rate", 1e-3),
        batch_sampler=further.pop("batch_sampler", ClassBatchSampler),
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="epoch",
        logging_strategy="no",
        **further,
    )
    trainer = SentenceTransformerTrainer(model, args, train_dataset=dataset(TRAIN), loss=loss)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_the_trainer_learns_and_goes_on(saved: Path, tmp_path: Path) -> None:
    from recallk.integrations.sentence_transformers import CITATION, CachedRecallAtKLoss

    model = load(saved)
    before = recall(model)
    loss = CachedRecallAtKLoss(model, mini_batch_size=16, ks=(1, 2, 4))
    fit(model, tmp_path / "run", loss, epochs=10)
    trainer = fit(load(saved), tmp_path / "run", CachedRecallAtKLoss(model, ks=(1, 2, 4)), epochs=12, resume=True)
    assert trainer.state.epoch == 12
    assert recall(trainer.model) > before + MARGIN
    trainer.model.save_pretrained(str(tmp_path / "saved"))
    assert recall(load(tmp_path / "saved")) == pytest.approx(recall(trainer.model))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "CachedRecallAtKLoss" in card
    assert '"rank_temperature": 0.01' in card
    assert CITATION.strip().splitlines()[1] in card


def test_the_trainer_takes_other_batches_in_each_epoch(saved: Path, tmp_path: Path) -> None:
    from recallk.integrations.sentence_transformers import ClassBatchSampler, RecallAtKLoss

    seen: list[tuple[int, ...]] = []

    class Watched(RecallAtKLoss):
        def forward(self, sentence_features: Any, labels: Any = None) -> torch.Tensor:
            seen.append(tuple(labels.tolist()))
            return super().forward(sentence_features, labels)

    model = load(saved)
    sampler = partial(ClassBatchSampler, items_per_class=8)
    fit(model, tmp_path / "run", Watched(model), epochs=2, batch_sampler=sampler)
    assert len(seen) == 6
    assert len(set(seen)) == 6
    for batch in seen:
        assert np.unique(batch, return_counts=True)[1].tolist() == [8] * 6
    assert sorted(label for batch in seen[:3] for label in batch) == sorted(NUMBER[label] for _, label in TRAIN)


def test_processes_that_take_turns_take_equally_many() -> None:
    from accelerate.data_loader import BatchSamplerShard

    from recallk.integrations.sentence_transformers import ClassBatchSampler

    sampler = ClassBatchSampler(dataset(TRAIN), 16)
    assert len(sampler) == 9
    shards = [list(BatchSamplerShard(sampler, 2, number, even_batches=False)) for number in range(2)]
    assert [len(shard) for shard in shards] == [4, 4]
    taken = [item for shard in shards for batch in shard for item in batch]
    assert len(set(taken)) == len(taken) == 128


def _refused(saved: Path) -> dict[str, tuple[Callable[[], Any], str]]:
    from recallk.integrations.sentence_transformers import CachedRecallAtKLoss, ClassBatchSampler, RecallAtKLoss

    model = load(saved)
    one, labels = model.preprocess(["red shoe", "blue shoe"]), torch.tensor([0, 0])
    return {
        "two columns": (lambda: RecallAtKLoss(model)([one, one], labels), "2 columns of texts: one is needed"),
        "no labels": (
            lambda: CachedRecallAtKLoss(model)([one], None),
            "texts without labels: give the data set a column",
        ),
        "scores": (lambda: RecallAtKLoss(model)([one], torch.rand(2)), "labels are float32: integers are needed"),
        "nothing to find": (lambda: RecallAtKLoss(model)([one], torch.arange(2)), "no query has a positive"),
        "settings": (lambda: RecallAtKLoss(model, ks=(0,)), "at least 1, got 0"),
        "mini batches": (lambda: CachedRecallAtKLoss(model, mini_batch_size=0), "mini_batch_size=0: a whole number"),
        "no column": (
            lambda: ClassBatchSampler(dataset(TRAIN).rename_column("label", "kind"), 16),
            "the data set has the columns text, kind, and none of labels",
        ),
        "batch size": (
            lambda: ClassBatchSampler(dataset(TRAIN), 18),
            "batch_size=18 is no multiple of items_per_class=4",
        ),
    }


MISTAKES = [
    "two columns",
    "no labels",
    "scores",
    "nothing to find",
    "settings",
    "mini batches",
    "no column",
    "batch size",
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(saved: Path, mistake: str) -> None:
    known = _refused(saved)
    assert list(known) == MISTAKES
    call, told = known[mistake]
    with pytest.raises(InputError, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_static_embeddings_train_but_are_not_cached(tmp_path: Path) -> None:
    from recallk.integrations.sentence_transformers import CachedRecallAtKLoss, RecallAtKLoss

    model = load(save_sentence_model(tmp_path, static=True))
    with pytest.raises(InputError, match="static embeddings has no activations to save: use RecallAtKLoss"):
        CachedRecallAtKLoss(model)
    before = recall(model)
    fit(model, tmp_path / "run", RecallAtKLoss(model), learning_rate=0.02)
    assert recall(model) > before + MARGIN


def test_the_page_runs_and_learns(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "integrations" / "sentence-transformers.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M))
    code = code.replace("sentence-transformers/all-MiniLM-L6-v2", str(saved))  # which would be fetched
    code = code.replace('report_to="none"', 'report_to="none", disable_tqdm=True, use_cpu=True, save_strategy="no"')
    exec(compile(code, "sentence-transformers.md", "exec"), {})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recall@1 of labels")]
    before, after = map(float, re.findall(r"\d\.\d+", line))
    assert after > before + MARGIN
    assert recall(load(tmp_path / "offers")) > 0
