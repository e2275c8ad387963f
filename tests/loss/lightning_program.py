"""A program as a user of PyTorch Lightning would write it: `python -m tests.loss.lightning_program FOLDER`.

It takes a step in two processes, and saves in the folder which gradients each of them has.
"""

import sys
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from recallk import RecallAtKLoss, SimilarityMixup
from tests.loss.test_gathered import SEED, SIZES, gradients_of, network, own_of


class Retrieval(LightningModule):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.network = network()
        self.loss = RecallAtKLoss(mixup=SimilarityMixup(), gather_across_devices=True)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        own = own_of(self.global_rank, SIZES[self.global_rank], torch.float32)
        return DataLoader(TensorDataset(own.queries, own.labels), batch_size=SIZES[self.global_rank])

    def training_step(self, batch: list[Tensor]) -> Tensor:
        inputs, labels = batch
        generator = torch.Generator().manual_seed(SEED + self.global_step)
        loss: Tensor = self.loss(self.network(inputs), labels, generator=generator)
        return loss

    def on_after_backward(self) -> None:
        torch.save(gradients_of(self), self.folder / f"{self.global_rank}.pt")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(folder: Path) -> None:
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        use_distributed_sampler=False,
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Retrieval(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
