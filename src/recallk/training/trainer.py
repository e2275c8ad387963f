"""The loop: batches in two passes, an evaluation now and then, a checkpoint after every epoch."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from recallk.core.errors import InputError
from recallk.core.lock import locked
from recallk.core.seeds import mixed_seed
from recallk.data.item import LabelledItems
from recallk.evaluation.metrics import retrieval_metrics
from recallk.evaluation.protocols import measure
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.losses.build import build_loss
from recallk.models.batches import Cut, cut, read_batches
from recallk.models.build import build
from recallk.models.chunks import Preparation
from recallk.models.freezing import freeze_all_but
from recallk.models.saved import save, write_weights
from recallk.models.weights import fill, read_weights
from recallk.models.whitening_head import begin_as_whitening
from recallk.runs.config import TrainConfig
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, MeasurementKind, Row, Start, Step
from recallk.runs.recipes import unlike
from recallk.training.large_batch import large_batch_backward
from recallk.training.machine import machine, versions
from recallk.training.parameters import parameter_groups
from recallk.training.plan import Plan
from recallk.training.precision import InPrecision, check_gradients, fabric_of
from recallk.training.state import (
    REMEDY,
    State,
    load_state,
    optimizer_state,
    restore_module,
    restore_optimizer,
    restore_scaler,
    save_state,
)
from recallk.training.step_loss import StepLoss

T = TypeVar("T", bound=Row)


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """Return the learning rate of step `step` of `steps`, in `epoch`, all counted from 1.

    A pure function, so that a restart needs no state.
    """
    warmup = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        passed_share = min(1.0, (step - 1) / steps)  # in a very long run, `steps` is what was to be expected
        return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * passed_share))
    if config.schedule == "exponential":
        assert config.epoch_factor is not None
        return config.learning_rate * warmup * float(config.epoch_factor ** (epoch - 1))
    passed = sum(epoch > milestone for milestone in config.milestones)
    return config.learning_rate * warmup * float(config.milestone_factor**passed)


class Trainer:
    """Trains a plan into a run's folder; `rows()` does the work and tells how it goes.

    Where the folder holds a checkpoint already, the network is built without its pretrained weights: they are in it.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        config = plan.config
        self.fabric, self.scaler = fabric_of(config)
        self.plan = plan
        self.config = config
        self.folder = folder
        with torch.random.fork_rng([]):
            torch.manual_seed(mixed_seed(config.seed))
            self.embedder = build(config, "none" if folder.has_checkpoint else config.weights)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self.loss = build_loss(config, len(plan.data.train.classes), config.embedding_size, config.seed).to(
            self.fabric.device
        )
        if config.trained_blocks is not None:
            freeze_all_but(self.embedder, config.trained_blocks)
        groups = parameter_groups(self.embedder, self.loss, config)
        self.rate_factors = [group.rate_factor for group in groups]
        optimizer = kind([group.options for group in groups], lr=config.learning_rate)
        _, self.optimizer = self.fabric.setup(self.embedder, optimizer)
        self._network = InPrecision(self.embedder, self.fabric)
        self._latest: Measurement | None = None
        self._best: tuple[int, float] | None = None  # the chosen epoch so far, and what it was chosen by

    def rows(self, resume: bool = False) -> Iterator[Row]:
        """Train; yield a row of metrics.jsonl after each step and each evaluation. Ends with the chosen model saved.

        A `Step` after each step, the first of an epoch with the share of queries that the loss reaches (recall@k
        only); a `Measurement` of the classes set aside, or of the test classes, after epochs; and at last one
        "result": the test metrics of the chosen epoch's model. The `Start` is written before them, and not yielded.

        With `resume`, the run in the folder goes on from its checkpoint, or begins anew where it has none yet. It may
        have been finished, and be lengthened by a plan of more epochs: the learning rate then follows the longer plan.

        One process at a time is in the folder. Raises InputError, one line, for a folder that is taken or in use, for
        a plan that is not that of the run, where a checkpoint is damaged, where the training diverges, and for whatever
        cannot be read or written. An error before the first checkpoint leaves nothing behind that this call made.
        PyTorch's random state is at the end as it was at the beginning.
        """
        made, devices = False, [self.fabric.device] if self.fabric.device.type == "cuda" else []
        there = os.path.lexists(self.folder.path)
        try:
            with locked(self.folder.path), torch.random.fork_rng(devices):
                self.folder.remove_unfinished()
                made = not resume and not self.folder.taken
                try:
                    if not resume:
                        self.folder.create(self.config, self.plan.data.split)
                    yield from self._rows(self._restore() if resume else 0)
                except (InputError, KeyboardInterrupt):
                    if made:
                        self.folder.remove_unless_started()
                    raise
        except (InputError, KeyboardInterrupt):
            if made and not there:
                self.folder.remove_if_empty()
            raise

    def _rows(self, done: int) -> Iterator[Row]:
        plan, device = self.plan, self.fabric.device
        differences = tuple(plan.differences)
        self.folder.append(Start(done, machine(device), versions(), plan.selection, plan.how_chosen, differences))
        if done == 0:
            if self.config.head == "whitening":
                sizes = {"chunk_size": self.config.chunk_size, "workers": self.config.readers}
                begin_as_whitening(self.embedder, plan.data.train, self.config.whitening, **sizes)
            yield self._evaluate(0)
            if plan.data.validation is not None:
                yield self._validate(0)
        for epoch in range(done + 1, self.config.epochs + 1):
            yield from self._epoch(epoch)
            if epoch % self.config.evaluate_every == 0 or epoch == self.config.epochs:
                measured = self._evaluate(epoch) if plan.data.validation is None else self._validate(epoch)
                yield measured
                self._keep_if_best(epoch, measured)
            self._save(epoch)
            self._forget_others()
        yield self._finish()

    def first_cut(self) -> Cut:
        """Return how the first batch of a run is cut into chunks. Raises InputError for an item without a kind."""
        batch = next(iter(self.plan.sampler.epoch(1)))
        return cut(self._preparation(1), batch, self.config.chunk_size)

    def _preparation(self, epoch: int) -> Preparation:
        config, items = self.config, self.plan.data.train.items
        return self.embedder.training_preparation(items, config, seed=config.seed, epoch=epoch)

    def _keep_if_best(self, epoch: int, measured: Measurement) -> None:
        """Keep the model of the best epoch so far beside the checkpoint: the first of equals, by `selection`."""
        by = "map@r" if self.plan.selection == "validation" else f"recall@{self.config.evaluate_ks[0]}"
        if self.plan.selection == "last" or self._best is None or measured.metrics[by] > self._best[1]:
            self._best = epoch, measured.metrics[by]
            write_weights(self.embedder, self.folder.best(epoch))

    def _forget_others(self) -> None:
        """Remove the models of earlier choices; not before the checkpoint: an interruption would go back to them."""
        if self._best is not None:
            self.folder.forget_best_but(self._best[0])

    def _finish(self) -> Row:
        """Measure the chosen model and save it."""
        assert self._best is not None
        epoch = self._best[0]
        best = self.folder.best(epoch)
        fill(self.embedder, read_weights(best, REMEDY), best, self.config.backbone, exact=True)
        save(self.embedder, self.folder.model)
        if self._latest is not None and self._latest.epoch == epoch:  # just measured
            return self._log(replace(self._latest, kind="result"))
        return self._evaluate(epoch, kind="result")

    def _epoch(self, epoch: int) -> Iterator[Row]:
        config, plan = self.config, self.plan
        torch.manual_seed(mixed_seed(config.seed, epoch))
        preparation = self._preparation(epoch)
        batches = list(plan.sampler.epoch(epoch))
        stream = read_batches(
            preparation, batches, config.chunk_size, budget_bytes=config.host_memory_gb * 2**30, workers=config.readers
        )
        labels = torch.from_numpy(plan.data.train.labels)
        self.embedder.train()
        started = time.perf_counter()
        for number, batch in enumerate(stream):
            step = plan.steps_until(epoch - 1) + number + 1
            rate = learning_rate(config, epoch, step, plan.steps)
            for group, factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
                group["lr"] = rate * factor
            self.optimizer.zero_grad()
            too_high = f"lower the learning rate ({rate:g})"
            loss_fn = StepLoss(self.loss, mixed_seed(config.seed, epoch, number), f"step {step}", too_high)
            loss = large_batch_backward(
                self._network,
                batch,
                labels[batch.items],
                loss_fn,
                batch_norm=config.batch_norm,
                backward=self.fabric.backward,
            )
            if not math.isfinite(loss):
                raise InputError(f"step {step}: the loss is {float(loss)}; {too_high}")
            check_gradients(self.optimizer, self.scaler, f"step {step}", too_high)
            self.optimizer.step()
            seconds, reached = time.perf_counter() - started, None
            if number == 0 and isinstance(self.loss, RecallAtKLoss):
                reached = loss_fn.reached_share(self.loss)
            yield self._log(Step(epoch, step, float(loss), rate, len(batch.items), seconds, reached))
            started = time.perf_counter()

    def _evaluate(self, epoch: int, kind: MeasurementKind = "evaluation") -> Measurement:
        """Measure the model on the test items."""
        test, started = self.plan.data.test, time.perf_counter()
        embeddings = self._embed(test.labelled, epoch)
        metrics = measure(embeddings, test.labelled.labels, test.searches, self.config.evaluate_ks)
        self._latest = self._log_metrics(kind, epoch, metrics, started)
        return self._latest

    def _validate(self, epoch: int) -> Measurement:
        """Measure the model on the training classes set aside."""
        validation, started = self.plan.data.validation, time.perf_counter()
        assert validation is not None
        metrics = retrieval_metrics(self._embed(validation, epoch), validation.labels, ks=self.config.evaluate_ks)
        return self._log_metrics("validation", epoch, metrics, started)

    def _embed(self, labelled: LabelledItems, epoch: int) -> Tensor:
        config = self.config
        embeddings = self.embedder.embed(labelled.items, chunk_size=config.chunk_size, workers=config.readers)
        if bool(torch.isfinite(embeddings).all()):
            return embeddings
        if epoch == 0:
            raise InputError(f"weights={config.weights}: the network gives NaN or infinity; start from others")
        lower = f"lower the learning rate ({config.learning_rate:g})"
        raise InputError(f"epoch {epoch}: the embeddings hold NaN or infinity; {lower}")

    def _log_metrics(self, kind: MeasurementKind, epoch: int, metrics: dict[str, float], started: float) -> Measurement:
        seconds = time.perf_counter() - started
        return self._log(Measurement(kind, epoch, self.plan.steps_until(epoch), metrics, seconds))

    def _log(self, row: T) -> T:
        self.folder.append(row)
        return row

    def _save(self, epoch: int) -> None:
        """Write the checkpoint: of the loss, what it learns or remembers; of the precision, the scale of the loss."""
        state: State = {name: module.state_dict() for name, module in self._modules().items()}
        state |= {
            "optimizer": optimizer_state(self.optimizer.optimizer),
            "scaler": self.scaler and self.scaler.state_dict(),
        }
        save_state(state | {"epoch": epoch, "best": self._best}, self.folder.checkpoint)

    def _restore(self) -> int:
        """Go back to the latest checkpoint, and return its epoch; where there is none, begin the run anew: epoch 0."""
        folder, config = self.folder, self.config
        if not folder.config.is_file():
            raise InputError(f"{folder.path}: no checkpoint and no config.yaml to resume from; is it a run's folder?")
        there, recorded = folder.read_config(), folder.read_split()
        if changed := unlike(config, there, besides=["epochs"]):
            raise InputError(f"{folder.path}: resumed with {'; '.join(changed)}: leave it as it was")
        if recorded is not None and recorded != self.plan.data.split:
            raise InputError(f"{folder.path}: the data has changed since the run began: it must be read as split then")
        if not folder.has_checkpoint:
            folder.begin(config, self.plan.data.split)
            return 0
        if recorded is None:
            raise InputError(f"{folder.path}: no split.json, and so no telling what to train on; start the run anew")
        epoch = self._load()
        if epoch > config.epochs:
            raise InputError(f"epochs={config.epochs}: {epoch} are done already; give {epoch} or more")
        if config != there:  # where the data is by now, for one: others read it there
            folder.write_config(config)
        folder.forget_after(epoch)
        return epoch

    def _load(self) -> int:
        path = self.folder.checkpoint
        state = load_state(path)
        for name, module in self._modules().items():
            restore_module(module, state.get(name), name, path)
        restore_optimizer(self.optimizer.optimizer, state["optimizer"], path)
        restore_scaler(self.scaler, state.get("scaler"), path)
        self._best = state["best"]
        return int(state["epoch"])

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.embedder} | ({"loss": self.loss} if self.loss.state_dict() else {})
