"""Large batches in two passes as steps of PyTorch Lightning, which this file does without: the module brings it."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recallk.core.errors import InputError
from recallk.training.large_batch import large_batch_backward
from recallk.training.two_passes import BatchNorm, LossFunction

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule as _Module
    from torch.optim import Optimizer
else:
    _Module = object


class LargeBatchSteps(_Module):
    """Gives a `LightningModule`, of `pytorch_lightning` or `lightning`, steps with `recallk.large_batch_backward`.

    Named before `LightningModule` among the bases. Optimisation is manual, by one optimiser; its schedulers are moved
    as Lightning moves them: those of `interval="step"` and "epoch", with their `frequency`. It works with all
    precisions, on one device and with `strategy="ddp"`: there each process gives its own rows of one batch, and a loss
    with `gather_across_devices=True` makes the gradients those of one process with the whole batch.

        class Retrieval(LargeBatchSteps, LightningModule):
            def __init__(self, network):
                super().__init__()
                self.network, self.loss_fn = network, recallk.RecallAtKLoss()

            def forward(self, images):
                return self.network(images)

            def training_step(self, batch, batch_idx):
                images, labels = batch
                self.log("loss", self.large_batch_step(images, labels, self.loss_fn, chunk_size=100))

    """

    @property
    def automatic_optimization(self) -> bool:
        """False: a step is made when `large_batch_step` is called. Raises InputError where True is set."""
        return False

    @automatic_optimization.setter
    def automatic_optimization(self, automatic: bool) -> None:
        if automatic:
            raise InputError("automatic_optimization=True: steps in two passes are made by hand")

    def large_batch_step(
        self,
        inputs: Any,
        labels: Any,
        loss_fn: LossFunction,
        chunk_size: int = 128,
        *,
        clip_norm: float | None = None,
        batch_norm: BatchNorm = "frozen",
        activation_memory: float = 0,
    ) -> Tensor:
        """Make a step of the optimiser and of its schedulers on one whole batch; return the detached loss.

        To be called once in a `training_step`, which need not return anything.

        Args:
            inputs: the batch, as for `recallk.large_batch_backward`; the module's `forward` embeds its chunks.
            labels: as there; so are `loss_fn`, `chunk_size`, `batch_norm` and `activation_memory`.
            loss_fn: takes embeddings `(B, D)` and the labels.
            chunk_size: rows of a chunk.
            clip_norm: the norm to which gradients are clipped, in the place of the Trainer's `gradient_clip_val`, which
                Lightning does not take where optimisation is manual.
            batch_norm: "frozen" or "per-chunk".
            activation_memory: bytes in which activations may be kept.

        Raises:
            InputError: where `LightningModule` comes first among the bases, for several optimisers, a scheduler that
                waits for a metric, a strategy that cuts the model into parts, and as `recallk.large_batch_backward`
                does.

        """
        optimizer, model = self._only_optimizer(), self._whole_model()
        optimizer.zero_grad()
        plugin = self.trainer.precision_plugin

        def backward(loss: Tensor) -> None:  # `manual_backward` would have DDP wait for gradients that come later
            plugin.backward(plugin.pre_backward(loss, self), self, None)

        loss = large_batch_backward(
            model,
            inputs,
            labels,
            loss_fn,
            chunk_size,
            batch_norm=batch_norm,
            backward=backward,
            activation_memory=activation_memory,
        )
        plugin.post_backward(loss, self)
        self._step(optimizer, clip_norm)
        self._move_schedulers()
        return loss

    def _only_optimizer(self) -> Any:
        if self.automatic_optimization:  # Lightning would move the schedulers once more, and not say so
            raise InputError(
                f"{type(self).__name__}: Lightning makes the steps itself; name LargeBatchSteps before LightningModule"
            )
        optimizer = self.optimizers()
        if isinstance(optimizer, list):
            raise InputError(f"configure_optimizers gives {len(optimizer)} optimizers: a large batch is a step of one")
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                raise InputError(
                    "ReduceLROnPlateau waits for a metric: choose a scheduler that goes by steps or epochs"
                )
        return optimizer

    def _whole_model(self) -> Any:
        """Return what is to be trained: the module itself, or `DistributedDataParallel` around it."""
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel) or (model is self and self.trainer.world_size == 1):
            return model
        name = type(self.trainer.strategy).__name__
        raise InputError(f"{name}: large batches in two passes take one device, or strategy='ddp'")

    def _step(self, optimizer: Any, clip_norm: float | None) -> None:
        """Make a step; gradients are clipped right before it, where Lightning has removed the scale from them."""

        def clip(raw: "Optimizer", *_: object) -> None:
            self.clip_gradients(raw, gradient_clip_val=clip_norm, gradient_clip_algorithm="norm")

        hook = None if clip_norm is None else optimizer.register_step_pre_hook(clip)
        try:
            optimizer.step()
        finally:
            if hook is not None:
                hook.remove()

    def _move_schedulers(self) -> None:
        trainer = self.trainer
        for config in trainer.lr_scheduler_configs:
            by_step = config.interval == "step"
            done = 1 + (
                trainer.fit_loop.batch_idx if by_step else trainer.current_epoch
            )  # steps are those of the epoch
            if (by_step or trainer.is_last_batch) and done % config.frequency == 0:
                self.lr_scheduler_step(config.scheduler, None)
