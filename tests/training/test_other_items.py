"""The trainer trains on items that are no images: vectors, and texts whose chunks are dictionaries."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from recallk import InputError
from recallk.cli.terminal import show_plan
from recallk.data.dataset import Dataset
from recallk.data.item import Item, Record
from recallk.data.records import LabelledItems, labelled
from recallk.data.searches import Search
from recallk.data.split import split_of
from recallk.data.tested import TestItems
from recallk.evaluation.protocols import measure
from recallk.models.chunks import Preparation
from recallk.models.embedder import Embedder
from recallk.models.settings import Augmentation, ImageSettings
from recallk.reporting.run import report
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.training.plan import Plan, lay_out
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer
from tests.rows import measured, steps, without_time

CLASSES, ITEMS, SIZE = 20, 6, 24
SIGNS, NOISE = "abcdefghijklmnop", "qrstuvwxyz"
SETTINGS: dict[str, Any] = {
    "data": "in memory",
    "backbone": "test_resnet",  # of which nothing is used
    "weights": "none",
    "batch_norm": "frozen",
    "embedding_size": 16,
    "batch_size": 16,
    "items_per_class": 2,
    "chunk_size": 7,
    "epochs": 3,
    "learning_rate": 0.02,
    "select": "test",
    "workers": 0,
    "accelerator": "cpu",
}


class Vectors(Preparation):
    """Vectors as they are, or, in training, with noise of their own in every epoch; a chunk is `(n, D)`."""

    def __init__(self, items: Sequence[Any], seed: list[int] | None) -> None:
        self.items, self.seed = items, seed

    def prepare(self, number: int) -> Tensor:
        vector = torch.from_numpy(self.items[number]).float()
        if self.seed is None:
            return vector
        noise = np.random.default_rng([*self.seed, number]).normal(0, 0.1, vector.shape)
        return vector + torch.from_numpy(noise).float()

    def collate(self, prepared: list[Tensor]) -> Tensor:
        return torch.stack(prepared)


class Texts(Preparation):
    """Texts as the numbers of their letters; a chunk is a dictionary, filled up to its longest text."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def prepare(self, number: int) -> Tensor:
        letters = SIGNS + NOISE
        return torch.tensor([letters.index(letter) + 1 for letter in self.items[number]])

    def collate(self, prepared: list[Tensor]) -> dict[str, Tensor]:
        letters = nn.utils.rnn.pad_sequence(prepared, batch_first=True)
        return {"letters": letters, "mask": letters > 0}


class VectorEmbedder(Embedder):
    """A head over vectors, with dropout: both passes must draw the same."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(SIZE, settings.embedding_size))

    def forward(self, chunk: Tensor) -> Tensor:
        return F.normalize(self.head(chunk).float(), dim=1)

    def listed(self, items: Iterable[Any]) -> Sequence[Any]:
        return list(items)

    def preparation(self, items: Sequence[Any]) -> Preparation:
        return Vectors(items, None)

    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Preparation:
        return Vectors(items, [seed, epoch])

    def example(self, count: int) -> Tensor:
        return torch.zeros(count, SIZE)


class TextEmbedder(Embedder):
    """The mean of the letters' embeddings, and a head."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self.letters = nn.Embedding(1 + len(SIGNS + NOISE), 32, padding_idx=0)
        self.head = nn.Linear(32, settings.embedding_size)

    def forward(self, chunk: dict[str, Tensor]) -> Tensor:
        mask = chunk["mask"][..., None]
        mean = (self.letters(chunk["letters"]) * mask).sum(1) / mask.sum(1)
        return F.normalize(self.head(mean).float(), dim=1)

    def listed(self, items: Iterable[Any]) -> Sequence[Any]:
        return list(items)

    def preparation(self, items: Sequence[Any]) -> Preparation:
        return Texts(items)

    def training_preparation(
        self, items: Sequence[Any], augmentation: Augmentation | None, *, seed: int, epoch: int
    ) -> Preparation:
        return Texts(items)

    def example(self, count: int) -> dict[str, Tensor]:
        return {"letters": torch.ones(count, 9, dtype=torch.long), "mask": torch.ones(count, 9, dtype=torch.bool)}


def vectors(random: np.random.Generator) -> list[list[Item]]:
    """Return vectors of classes that differ in their first dimensions; the others are noise, and larger."""
    spread = np.where(np.arange(SIZE) < 6, 0.2, 2.0)
    centres = random.normal(0, 1, (CLASSES, SIZE)) * (np.arange(SIZE) < 6)
    return [[centre + random.normal(0, 1, SIZE) * spread for _ in range(ITEMS)] for centre in centres]


def texts(random: np.random.Generator) -> list[list[Item]]:
    """Return texts of different lengths: four letters that are those of the class, among others that say nothing."""

    def text(signs: list[str]) -> str:
        return "".join(random.permutation([*signs, *random.choice(list(NOISE), random.integers(4, 12))]))

    of_classes = [list(random.choice(list(SIGNS), 4, replace=False)) for _ in range(CLASSES)]
    return [[text(signs) for _ in range(ITEMS)] for signs in of_classes]


@dataclass(frozen=True)
class Modality:
    """Items of one kind, and what embeds them."""

    noun: str
    items: Callable[[np.random.Generator], list[list[Item]]]
    embedder: Callable[[ImageSettings], Embedder]

    def dataset(self) -> Dataset:
        """Return half of the classes to train on, half to test on."""
        made = self.items(np.random.default_rng(0))
        splits = {
            side: [Record(item, f"class{c:02}", side) for c in of_side for item in made[c]]
            for side, of_side in (("train", range(0, CLASSES, 2)), ("test", range(1, CLASSES, 2)))
        }
        train, test = (labelled(records) for records in splits.values())
        items = TestItems(test, [Search("", np.arange(len(test)))])
        return Dataset(train, None, "", items, split_of(splits, Path()), True, [], 0, 0)


MODALITIES = {m.noun: m for m in (Modality("vectors", vectors, VectorEmbedder), Modality("texts", texts, TextEmbedder))}


@pytest.fixture(params=MODALITIES)
def modality(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Modality:
    chosen = MODALITIES[request.param]
    monkeypatch.setattr("recallk.training.network.build", lambda settings, weights: chosen.embedder(settings))
    return chosen


def plan_of(modality: Modality, **changes: Any) -> Plan:
    return lay_out(make_config(SETTINGS, changes), modality.dataset())


def train(modality: Modality, run: Path, **changes: Any) -> list[Row]:
    return list(Trainer(plan_of(modality, **changes), RunFolder(run)).rows())


def test_they_are_learned_and_measured(modality: Modality, tmp_path: Path) -> None:
    trainer = Trainer(plan_of(modality, epochs=12), RunFolder(tmp_path / "run"))
    rows = list(trainer.rows())
    first, *_, result = measured(rows)
    assert result.kind == "result"
    assert result.metrics["recall@1"] > first.metrics["recall@1"] + 0.1
    assert all(row.items == 16 for row in steps(rows))
    test: LabelledItems = trainer.plan.data.test.labelled
    assert test.counted == f"60 {modality.noun} of 10 classes"
    again = measure(trainer.embedder.embed(test.items), test, trainer.plan.data.test.searches, (1, 2, 4, 8))
    assert again == {name: pytest.approx(result.metrics[name], abs=1e-6) for name in again}


def test_a_batch_is_read_again_or_waits_in_memory_with_the_same_end(modality: Modality, tmp_path: Path) -> None:
    rows = without_time(train(modality, tmp_path / "waiting"))
    assert rows == without_time(train(modality, tmp_path / "again", host_memory_gb=0))
    assert rows == without_time(train(modality, tmp_path / "workers", workers=2))
    whole = steps(train(modality, tmp_path / "one", chunk_size=16))
    if modality.noun == "texts":  # without dropout, which is drawn chunk by chunk
        assert [row.loss for row in steps(rows)] == pytest.approx([row.loss for row in whole], abs=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_end(modality: Modality, tmp_path: Path) -> None:
    rows = without_time(train(modality, tmp_path / "whole"))
    folder = RunFolder(tmp_path / "cut")
    for row in Trainer(plan_of(modality), folder).rows():
        if row.epoch == 2:
            break
    plan = lay_out(folder.read_config(), modality.dataset())
    assert folder.read_split() == plan.data.split
    list(Trainer(plan, folder).rows(resume=True))
    assert without_time(folder.history()) == rows
    one, other = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_is_not_resumed_with_other_items(modality: Modality, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    next(Trainer(plan_of(modality), folder).rows())
    data = modality.dataset()
    fewer = split_of({"train": data.train.records[1:], "test": data.test.labelled.records}, Path())
    plan = lay_out(folder.read_config(), Dataset(data.train, None, "", data.test, fewer, True, [], 0, 0))
    with pytest.raises(InputError, match="the data has changed since the run began"):
        list(Trainer(plan, folder).rows(resume=True))


def test_they_are_called_what_they_are(modality: Modality, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(Trainer(plan_of(modality), RunFolder(tmp_path / "run")))
    printed = capsys.readouterr().out
    assert f"train     60 {modality.noun} of 10 classes" in printed
    assert f"batch     16 {modality.noun}: 2 of each of 8 classes, in chunks of 7" in printed
    assert "images" not in printed


def test_the_memory_of_a_step_is_measured(modality: Modality, tmp_path: Path) -> None:
    memory = step_memory(Trainer(plan_of(modality), RunFolder(tmp_path / "run")))
    assert 0 < memory.chunk < 1e5
    assert memory.fits


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_cannot_be_prepared_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    modality = MODALITIES["texts"]
    monkeypatch.setattr("recallk.training.network.build", lambda settings, weights: modality.embedder(settings))
    plan = plan_of(modality, workers=workers)
    first = plan.data.train.records[0]
    plan.data.train.records[0] = Record("???", first.label, first.split)  # type: ignore[index]
    with pytest.raises(InputError, match=r"items cannot be read \(ValueError: substring not found\)") as caught:
        list(Trainer(plan, RunFolder(tmp_path / "run")).rows())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_page_has_their_numbers_and_says_what_it_cannot_show(modality: Modality, tmp_path: Path) -> None:
    train(modality, tmp_path / "run")
    (missing,) = report(tmp_path / "run")
    assert missing.startswith("no queries and no similarities are shown: in memory: no such folder")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "recall@1 from" in page
    assert "60 items of 10 classes" in page
