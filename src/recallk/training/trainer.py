"""The loop: batches in two passes, an evaluation now and then, a checkpoint after every epoch."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recallk.core.errors import InputError
from recallk.core.files import write_file
from recallk.data.chunks import read_batches
from recallk.data.images import mixed_seed
from recallk.data.source import Part
from recallk.data.views import TrainView
from recallk.evaluation.metrics import retrieval_metrics
from recallk.evaluation.protocols import rate
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.loss.usable import usable_share
from recallk.models.embedder import Embedder, build
from recallk.training.checkpoint import Row, RunFolder
from recallk.training.config import TrainConfig
from recallk.training.large_batch import large_batch_backward
from recallk.training.losses import build_loss
from recallk.training.plan import Plan


def workers_of(config: TrainConfig) -> int:
    """Return the number of reading processes: what is configured, or one per core."""
    if config.workers is not None:
        return config.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """Return the learning rate of step `step` of `steps`, in `epoch`, all counted from 1.

    A pure function, so that a restart needs no state.
    """
    warmup = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    passed = sum(epoch > milestone for milestone in config.milestones)
    return config.learning_rate * warmup * float(config.milestone_factor**passed)


class _Watched:
    """The loss of one step; draws the same whenever it is asked, and keeps what it was asked."""

    def __init__(self, loss: nn.Module, seed: int) -> None:
        self._loss, self._seed = loss, seed

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self._asked = embeddings.detach(), labels
        loss: Tensor = self._loss(embeddings, labels, generator=self._drawing())
        return loss

    def usable_share(self, loss: RecallAtKLoss) -> float:
        """Return how many of the step's queries had a usable gradient."""
        return usable_share(loss, *self._asked, self._drawing())

    def _drawing(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)


class Trainer:
    """Trains a plan into a run's folder; `rows()` does the work and tells how it goes."""

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        config = plan.config
        try:
            self.fabric = Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)
        except (ValueError, RuntimeError) as error:
            raise InputError(f"accelerator={config.accelerator}: {str(error).splitlines()[0]}") from None
        self.plan = plan
        self.config = config
        self.folder = folder
        torch.manual_seed(mixed_seed(config.seed))
        self.embedder: Embedder = build(config, config.weights)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self.loss = build_loss(config, len(plan.train.classes)).to(self.fabric.device)
        groups: list[dict[str, Any]] = [{"params": list(self.embedder.parameters())}]
        self.rate_factors = [1.0]
        if own := list(self.loss.parameters()):
            groups.append({"params": own, "weight_decay": 0.0})  # it would draw a margin's boundary to zero
            self.rate_factors.append(config.loss_rate_factor)
        optimizer = kind(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer = self.fabric.setup(self.embedder, optimizer)
        self.test_embeddings: Tensor | None = None  # (N, D) of the latest evaluation, at last of the chosen model
        self._latest: Row = {}

    def rows(self, resume: bool = False) -> Iterator[Row]:
        """Train; yield a row of metrics.jsonl after each step and each evaluation. Ends with the chosen model saved.

        Rows of kind "step", the first of an epoch with the share of queries that had a usable gradient (recall@k
        only); "validation" (of the classes set aside) and "evaluation" (of the test classes) after
        epochs; and one "result": the test metrics of the chosen epoch's model.
        """
        if resume:
            first = self._restore() + 1
        else:
            self.folder.create(self.config)
            first = 1
        try:
            if first == 1:
                yield self._evaluate(0)
                if self.plan.validation is not None:
                    yield self._validate(0)
            for epoch in range(first, self.config.epochs + 1):
                yield from self._epoch(epoch)
                if epoch % self.config.evaluate_every == 0 or epoch == self.config.epochs:
                    yield self._evaluate(epoch) if self.plan.validation is None else self._validate(epoch)
                    self._keep_if_best(epoch)
                self._save(epoch)
                self._forget_others()
        except (InputError, KeyboardInterrupt):
            self.folder.remove_unless_started()
            raise
        yield self._finish()

    def _keep_if_best(self, epoch: int) -> None:
        """Keep the model of the best epoch so far beside the checkpoint."""
        if self.chosen_epoch() == epoch:
            write_file(self.folder.best(epoch), self._write_weights)

    def _forget_others(self) -> None:
        """Only now: an interruption before the checkpoint goes back to an earlier choice."""
        if any(self.folder.checkpoint.parent.glob("best-*")):
            self.folder.forget_best_but(self.chosen_epoch())

    def chosen_epoch(self) -> int:
        """Return the epoch whose model is kept, of those evaluated so far: the first with the highest recall."""
        kind = "evaluation" if self.plan.validation is None else "validation"
        rows = [row for row in self.folder.history() if row["kind"] == kind and row["epoch"] > 0]
        if self.plan.selection == "last":
            return int(rows[-1]["epoch"])
        return int(max(rows, key=lambda row: row[f"recall@{self.config.evaluate_ks[0]}"])["epoch"])

    def _finish(self) -> Row:
        """Measure the chosen model and save it."""
        epoch = self.chosen_epoch()
        self.embedder.load_state_dict(load_file(self.folder.best(epoch)))
        write_file(self.folder.model, self._write_weights)
        if self._latest.get("epoch") == epoch:  # just measured
            return self._log(**self._latest | {"kind": "result"})
        return self._evaluate(epoch, kind="result")

    def _write_weights(self, path: Path) -> None:
        weights = {name: value.detach().cpu().contiguous() for name, value in self.embedder.state_dict().items()}
        save_file(weights, path)

    def _epoch(self, epoch: int) -> Iterator[Row]:
        config, plan = self.config, self.plan
        torch.manual_seed(mixed_seed(config.seed, epoch))
        view = TrainView(
            plan.train.images,
            config.image_size,
            config.crop_scale,
            config.horizontal_flip,
            config.seed,
            epoch,
            config.interpolation,
        )
        batches = list(plan.sampler.epoch(epoch))
        stream = read_batches(
            view,
            batches,
            config.chunk_size,
            image_bytes=3 * config.image_size**2,
            budget_bytes=config.host_memory_gb * 2**30,
            workers=workers_of(config),
        )
        labels = torch.from_numpy(plan.train.labels)
        self.model.train()
        started = time.perf_counter()
        for number, (items, images) in enumerate(zip(batches, stream, strict=True)):
            step = plan.steps_until(epoch - 1) + number + 1
            rate = learning_rate(config, epoch, step, plan.steps)
            for group, factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
                group["lr"] = rate * factor
            self.optimizer.zero_grad()
            loss_fn = _Watched(self.loss, mixed_seed(config.seed, epoch, number))
            loss = large_batch_backward(
                self.model,
                images,
                labels[items],
                loss_fn,
                batch_norm=config.batch_norm,
                backward=self.fabric.backward,
            )
            if not math.isfinite(loss):
                raise InputError(f"step {step}: the loss is {float(loss)}; lower the learning rate ({rate:g})")
            self.optimizer.step()
            row: Row = {"loss": float(loss), "learning_rate": rate, "images": len(items)}
            row["seconds"] = time.perf_counter() - started
            if number == 0 and isinstance(self.loss, RecallAtKLoss):
                row["usable"] = loss_fn.usable_share(self.loss)
            yield self._log(kind="step", epoch=epoch, step=step, **row)
            started = time.perf_counter()

    def _evaluate(self, epoch: int, kind: str = "evaluation") -> Row:
        """Rate the model on the test images."""
        test, started = self.plan.test, time.perf_counter()
        self.test_embeddings = self._embed(test.part)
        metrics = rate(self.test_embeddings, test.part.labels, test.searches, self.config.evaluate_ks)
        self._latest = self._log_metrics(kind, epoch, metrics, started)
        return self._latest

    def _validate(self, epoch: int) -> Row:
        """Rate the model on the training classes set aside."""
        validation, started = self.plan.validation, time.perf_counter()
        assert validation is not None
        metrics = retrieval_metrics(self._embed(validation), validation.labels, ks=self.config.evaluate_ks)
        return self._log_metrics("validation", epoch, metrics, started)

    def _embed(self, images: Part) -> Tensor:
        return self.embedder.embed(images.images, chunk_size=self.config.chunk_size, workers=workers_of(self.config))

    def _log_metrics(self, kind: str, epoch: int, metrics: dict[str, float], started: float) -> Row:
        step, seconds = self.plan.steps_until(epoch), time.perf_counter() - started
        return self._log(kind=kind, epoch=epoch, step=step, **metrics, seconds=seconds)

    def _log(self, **row: object) -> Row:
        self.folder.append(row)
        return row

    def _save(self, epoch: int) -> None:
        state = self._state() | {"epoch": epoch}
        write_file(self.folder.checkpoint, lambda path: self.fabric.save(path, state))

    def _restore(self) -> int:
        if not self.folder.checkpoint.is_file():
            raise InputError(f"{self.folder.path}: no checkpoint to resume from; start the run anew")
        epoch = int(self.fabric.load(self.folder.checkpoint, self._state())["epoch"])
        self.folder.forget_after(epoch)
        return epoch

    def _state(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the epoch; of the loss, what it learns or remembers."""
        state: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer}
        return state | ({"loss": self.loss} if self.loss.state_dict() else {})
