"""The loop: batches in two passes, an evaluation now and then, a checkpoint after every epoch."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor

from recallk.data.chunks import read_batches
from recallk.data.images import mixed_seed
from recallk.data.source import Part, check_images, check_test_positives, part, read_data, split_classes
from recallk.data.views import TrainView
from recallk.errors import InputError
from recallk.evaluation.metrics import retrieval_metrics
from recallk.loss.mixup import SimilarityMixup
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.models.embedder import Embedder, build
from recallk.training.checkpoint import Row, RunFolder, replace_file
from recallk.training.config import TrainConfig
from recallk.training.large_batch import large_batch_backward
from recallk.training.sampler import LeftOut, Sampler, make_sampler


@dataclass(frozen=True)
class Plan:
    """A run whose data, batches and settings have been checked; nothing has been written yet."""

    config: TrainConfig
    split_by_us: bool  # not given with the data
    train: Part
    test: Part
    sampler: Sampler
    left_out: LeftOut
    batches: tuple[int, ...]  # of each epoch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return sum(self.batches)

    def steps_until(self, epoch: int) -> int:
        """Return the steps of all epochs up to and with `epoch`, counted from 1."""
        return sum(self.batches[:epoch])


def prepare(config: TrainConfig) -> Plan:
    """Read and split the data and lay out the batches. Raises InputError for whatever would not train."""
    given = read_data(config.data)
    records = split_classes(given, config.test_fraction, config.split_seed)
    train, test = part(records, "train"), part(records, "test")
    check_test_positives(test)
    sampler, left_out = make_sampler(train.labels, config.batch_size, config.items_per_class, config.seed)
    check_images(records)
    batches = tuple(sampler.batches(epoch) for epoch in range(1, config.epochs + 1))
    return Plan(config, given[0].split is None, train, test, sampler, left_out, batches)


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
        optimizer = kind(self.embedder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer = self.fabric.setup(self.embedder, optimizer)
        self.loss = RecallAtKLoss(
            ks=config.ks,
            rank_temperature=config.rank_temperature,
            recall_temperature=config.recall_temperature,
            query_in_database=config.query_in_database,
            mixup=SimilarityMixup() if config.mixup else None,
        )
        self.test_embeddings: Tensor | None = None  # (N, D) of the latest evaluation

    def rows(self, resume: bool = False) -> Iterator[Row]:
        """Train; yield a row of metrics.jsonl after each step and each evaluation. Ends with the model saved."""
        if resume:
            first = self._restore() + 1
        else:
            self.folder.create(self.config)
            first = 1
        try:
            if first == 1:
                yield self._evaluate(0)
            for epoch in range(first, self.config.epochs + 1):
                yield from self._epoch(epoch)
                if epoch % self.config.evaluate_every == 0 or epoch == self.config.epochs:
                    yield self._evaluate(epoch)
                self._save(epoch)
        except (InputError, KeyboardInterrupt):
            self.folder.remove_unless_started()
            raise
        if self.test_embeddings is None:  # a finished run, resumed
            self._evaluate(self.config.epochs, log=False)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.embedder.state_dict().items()}
        replace_file(self.folder.model, lambda path: save_file(weights, path))

    def _epoch(self, epoch: int) -> Iterator[Row]:
        config, plan = self.config, self.plan
        torch.manual_seed(mixed_seed(config.seed, epoch))
        view = TrainView(
            plan.train.images, config.image_size, config.crop_scale, config.horizontal_flip, config.seed, epoch
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
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad()
            mixing = torch.Generator().manual_seed(mixed_seed(config.seed, epoch, number))
            loss = large_batch_backward(
                self.model,
                images,
                labels[items],
                partial(self.loss, generator=mixing),
                batch_norm=config.batch_norm,
                backward=self.fabric.backward,
            )
            self.optimizer.step()
            seconds = time.perf_counter() - started
            started = time.perf_counter()
            yield self._log(
                kind="step",
                epoch=epoch,
                step=step,
                loss=float(loss),
                learning_rate=rate,
                images=len(items),
                seconds=seconds,
            )

    def _evaluate(self, epoch: int, log: bool = True) -> Row:
        started = time.perf_counter()
        self.test_embeddings = self.embedder.embed(
            self.plan.test.images,
            chunk_size=self.config.chunk_size,
            workers=workers_of(self.config),
        )
        metrics = retrieval_metrics(self.test_embeddings, self.plan.test.labels, ks=self.config.evaluate_ks)
        row = dict(kind="evaluation", epoch=epoch, step=self.plan.steps_until(epoch), **metrics)
        return self._log(**row, seconds=time.perf_counter() - started) if log else row

    def _log(self, **row: object) -> Row:
        self.folder.append(row)
        return row

    def _save(self, epoch: int) -> None:
        state = {"model": self.model, "optimizer": self.optimizer, "epoch": epoch}
        replace_file(self.folder.checkpoint, lambda path: self.fabric.save(path, state))

    def _restore(self) -> int:
        if not self.folder.checkpoint.is_file():
            raise InputError(f"{self.folder.path}: no checkpoint to resume from; start the run anew")
        state = {"model": self.model, "optimizer": self.optimizer}
        epoch = int(self.fabric.load(self.folder.checkpoint, state)["epoch"])
        self.folder.forget_after(epoch)
        return epoch
