"""For PyTorch Lightning: a module that trains on large batches in two passes."""

from typing import Any

from torch import Tensor, nn

from recallk.core.errors import InputError, MissingExtraError
from recallk.training.large_batch import large_batch_backward
from recallk.training.two_passes import BatchNorm, Embed, LossFunction

try:
    from pytorch_lightning import LightningModule
except ImportError:
    told = (
        "recallk.integrations.lightning needs pytorch-lightning, which is not installed: pip install pytorch-lightning"
    )
    raise MissingExtraError(told, name="pytorch_lightning") from None


class LargeBatchModule(LightningModule):
    """A network and a loss, trained on batches of any size in the memory of a chunk: `recallk.large_batch_backward`.

    It optimises by itself (Lightning's manual optimisation): subclass it and say `configure_optimizers`. A batch is
    inputs and labels; of `recallk.ClassBatchSampler`, which draws them, the epochs are set here. Schedulers are stepped
    after steps or epochs, as they are configured; the loss is logged as `train_loss`.

    Args:
        network: turns a chunk of inputs into embeddings `(n, D)`.
        loss_fn: takes embeddings `(B, D)` and labels `(B,)`, such as `recallk.RecallAtKLoss`.
        chunk_size, batch_norm, activation_memory, embed: as for `recallk.large_batch_backward`.
        gradient_clip_norm: the largest norm of all gradients; `Trainer(gradient_clip_val=...)` is refused by Lightning
            here.

    Raises:
        InputError: in a step, as `recallk.large_batch_backward`, for several optimizers, and on several devices: there
            an ordinary module with `RecallAtKLoss(gather_across_devices=True)` has one large batch.

        class Model(LargeBatchModule):
            def configure_optimizers(self):
                return torch.optim.AdamW(self.network.parameters(), lr=1e-4)

        trainer.fit(Model(network, recallk.RecallAtKLoss(), chunk_size=64), loader)

    """

    def __init__(
        self,
        network: nn.Module,
        loss_fn: LossFunction,
        *,
        chunk_size: int = 128,
        batch_norm: BatchNorm = "frozen",
        activation_memory: float = 0,
        embed: Embed | None = None,
        gradient_clip_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss_fn = network, loss_fn
        self.gradient_clip_norm = gradient_clip_norm
        self._how: dict[str, Any] = {
            "chunk_size": chunk_size,
            "batch_norm": batch_norm,
            "activation_memory": activation_memory,
            "embed": embed,
        }

    def forward(self, inputs: Any) -> Any:
        """Return what the network makes of inputs."""
        return self.network(inputs)

    def on_train_epoch_start(self) -> None:
        """Tell the sampler which epoch it is; Lightning tells samplers of single items alone."""
        sampler = getattr(self.trainer.train_dataloader, "batch_sampler", None)
        set_epoch = getattr(sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.current_epoch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Make a step of a batch; return its loss."""
        if self.trainer.world_size > 1:
            raise InputError(
                "several devices: a large batch in two passes is for one here; use an ordinary module with "
                "RecallAtKLoss(gather_across_devices=True), or recallk train --devices"
            )
        optimizer = self.optimizers()
        if isinstance(optimizer, list):
            raise InputError(f"{len(optimizer)} optimizers: one is needed")
        inputs, labels = batch
        optimizer.zero_grad()
        loss = large_batch_backward(
            self.network, inputs, labels, self.loss_fn, backward=self.manual_backward, **self._how
        )
        if self.gradient_clip_norm is not None:
            self.clip_gradients(optimizer.optimizer, self.gradient_clip_norm, "norm")
        optimizer.step()
        self._step_schedulers("step", batch_idx)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Step the schedulers of epochs."""
        self._step_schedulers("epoch", self.current_epoch)

    def _step_schedulers(self, interval: str, number: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval and (number + 1) % config.frequency == 0:
                config.scheduler.step()  # type: ignore[call-arg]
