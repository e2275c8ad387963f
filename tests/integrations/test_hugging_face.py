"""The Trainer of Hugging Face takes whole batches of a sampler, other ones in each epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

import recallk

pytestmark = pytest.mark.xdist_group("integrations")
LABELS = torch.arange(96) // 6


def sampler() -> Any:
    return recallk.ClassBatchSampler(LABELS, batch_size=32)


class Recording(Trainer):
    """As the page has it, and it remembers which labels a batch had."""

    seen: list[list[int]]

    def get_train_dataloader(self) -> DataLoader[Any]:
        rows: Any = self.train_dataset
        data = DataLoader(rows, batch_sampler=sampler(), collate_fn=self.data_collator)
        prepared: DataLoader[Any] = self.accelerator.prepare(data)
        return prepared

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        self.seen.append(inputs["labels"].tolist())
        loss: Tensor = recallk.RecallAtKLoss()(model(inputs["x"]), inputs["labels"])
        return loss


class Network(nn.Linear):
    """Named as the Trainer looks for it: it leaves out columns that `forward` does not name."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(x)


def test_batches_are_whole_and_others_in_each_epoch(tmp_path: Path) -> None:
    rows = [{"x": torch.randn(8), "labels": label} for label in LABELS]
    arguments = TrainingArguments(str(tmp_path), num_train_epochs=2, report_to="none", use_cpu=True)
    trainer = Recording(Network(8, 4), arguments, train_dataset=rows)
    trainer.seen, expected = [], []
    trainer.train()
    of_epoch = sampler()
    for epoch in range(2):
        of_epoch.set_epoch(epoch)
        expected += [LABELS[batch].tolist() for batch in of_epoch]
    assert trainer.seen == expected
    assert trainer.state.global_step == len(expected) == 4
