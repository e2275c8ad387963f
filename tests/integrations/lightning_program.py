"""Modules of PyTorch Lightning, in one pass and in two; a program: `lightning_program FOLDER [inject]`.

The program trains for two epochs in two processes, and saves in the folder which weights each of them has.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import recallk
from recallk.integrations.lightning import LargeBatchSteps

LABELS = torch.arange(96) // 6


def batches(double: bool = False) -> DataLoader[Any]:
    """Return a loader of batches of eight classes, two an epoch."""
    inputs = torch.randn(96, 8, generator=torch.Generator().manual_seed(1))
    inputs = inputs.double() if double else inputs
    sampler: Any = recallk.ClassBatchSampler(LABELS, batch_size=32)
    return DataLoader(TensorDataset(inputs, LABELS), batch_sampler=sampler)


class OnePass(LightningModule):
    """An ordinary module."""

    def __init__(self, clip_norm: float | None = None, interval: str = "step", frequency: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Linear(8, 4)
        self.loss_fn = recallk.RecallAtKLoss(gather_across_devices=True)
        self.clip_norm, self.interval, self.frequency = clip_norm, interval, frequency
        self.seen: list[list[int]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        embeddings: Tensor = self.network(inputs)
        return embeddings

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        inputs, labels = batch
        self.seen.append(labels.tolist())
        loss: Tensor = self.loss_fn(self(inputs), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        how = {"scheduler": scheduler, "interval": self.interval, "frequency": self.frequency}
        return {"optimizer": optimizer, "lr_scheduler": how}


class TwoPasses(LargeBatchSteps, OnePass):
    """The same in chunks that do not divide the batch; of several processes each embeds its rows."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        own = slice(self.global_rank, None, self.trainer.world_size)
        inputs, labels = batch[0][own], batch[1][own]
        self.seen.append(labels.tolist())
        self.log("loss", self.large_batch_step(inputs, labels, self.loss_fn, chunk_size=5, clip_norm=self.clip_norm))


def trainer(folder: Path, **settings: Any) -> Trainer:
    """Return a trainer that writes and prints nothing."""
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    given: dict[str, Any] = {**dict.fromkeys(quiet, False), "accelerator": "cpu", "max_epochs": 2}
    return Trainer(**{**given, "default_root_dir": folder, **settings})


def main(folder: Path, inject: bool) -> None:
    module = TwoPasses(clip_norm=0.05)
    two = trainer(folder, devices=2, strategy="ddp", use_distributed_sampler=inject, precision="64-true")
    two.fit(module, batches(double=True))
    torch.save(module.network.weight.detach(), folder / f"{module.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "inject" in sys.argv)
