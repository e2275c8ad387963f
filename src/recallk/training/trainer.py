"""The loop: batches in two passes, an evaluation now and then, a checkpoint after every epoch and some minutes."""

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from recallk.core import processes
from recallk.data.records import LabelledItems
from recallk.evaluation.protocols import measure
from recallk.losses.build import build_loss
from recallk.models.batches import Cut, TwiceReadBatch, cut, read_batches
from recallk.models.chunks import Preparation
from recallk.models.saved import save
from recallk.models.settings import Augmentation
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, MeasurementKind, Row, Start, Step
from recallk.training.activations import KeptActivations, kept_activations
from recallk.training.best_epoch import BestEpoch
from recallk.training.checkpoint import Checkpoint, Position, Standing, begin_again
from recallk.training.chunk_size import find_chunk_size, halved, least_chunk, require_work_for_all
from recallk.training.folder import run_in
from recallk.training.loggers import logger_of
from recallk.training.machine import machine, versions
from recallk.training.measuring import MetricsOf, measure_together
from recallk.training.network import fit_to, network_of, remember_origin, speed_up
from recallk.training.parameters import optimizer_of
from recallk.training.plan import Plan
from recallk.training.precision import fabric_of
from recallk.training.schedule import set_learning_rate
from recallk.training.setbacks import NotFiniteError, ShortOfMemoryError, diverged
from recallk.training.step import Made, StepMaker
from recallk.training.stopping import Stopped, Stopping, end_by

T = TypeVar("T", bound=Row)


class Trainer:
    """Trains a plan into a run's folder; `rows()` does the work and tells how it goes.

    Where the folder holds a checkpoint already, the network is built without its pretrained weights: they are in it.
    In a group of processes (`launch`) all of them train alike, each its share of every batch; the first one writes.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        config = plan.config
        require_work_for_all(plan)
        self.fabric, self.scaler = fabric_of(config)
        self.plan = plan
        self.config = config
        self.folder = folder
        self._logger = logger_of(config, folder)
        self.embedder = network_of(config, restored=folder.has_checkpoint)
        remember_origin(self.embedder, plan.data.train)
        train = plan.data.train
        several = train.label_sets is not None
        loss = build_loss(config, len(train.classes), config.embedding_size, config.seed, several_labels=several)
        self.loss = loss.to(self.fabric.device)
        optimizer, self.rate_factors = optimizer_of(self.embedder, self.loss, config)
        _, self.optimizer = self.fabric.setup(self.embedder, optimizer)
        speed_up(self.embedder, config)
        self.chunk_size = least_chunk(config) if config.chunk_size == "auto" else config.chunk_size
        self.how_chunked = ""
        self._stopping = Stopping()
        self._steps = StepMaker(
            self.embedder, self.loss, self.optimizer, self.fabric, self.scaler, config.batch_norm_policy, self._stopping
        )
        if several:
            self._steps.positives_of = lambda labels: train.positives_of(labels.cpu().numpy())
        self._checkpoint = Checkpoint(folder, self.embedder, self.loss, self.optimizer.optimizer, self.scaler)
        self._kept = KeptActivations(0, 0.0)
        self._latest: Measurement | None = None
        self._position: Position | None = None  # None: nothing has been trained yet
        self._saved = time.monotonic()
        self._best = BestEpoch(folder, plan)

    def choose_chunk_size(self) -> None:
        """With chunk_size=auto, find a number, the same in all processes, which all call this; else do nothing.

        The number takes the place of "auto" in the configuration: a run that is resumed cuts its chunks as before.
        """
        if self.config.chunk_size == "auto":
            found = find_chunk_size(self)
            self.chunk_size, self.how_chunked = found.size, found.how
            self.config = self.config.model_copy(update={"chunk_size": found.size})
            self.plan = replace(self.plan, config=self.config)
            require_work_for_all(self.plan)

    def rows(self, resume: bool = False) -> Iterator[Row]:
        """Train; yield a row of metrics.jsonl after each step and each evaluation. Ends with the chosen model saved.

        A `Step` after each step, the first of an epoch with the share of queries that the loss reaches (recall@k
        only); a `Measurement` of the validation classes, or of the test classes, after epochs; and at last one
        "result": the test metrics of the chosen epoch's model, or none where they are not measured. The `Start` is
        written before them, and not yielded.

        With `resume`, the run in the folder goes on from its checkpoint, or begins anew where it has none yet. It may
        have been finished, and be lengthened by a plan of more epochs: the learning rate then follows the longer plan.

        One process at a time is in the folder. Raises InputError, one line, for a folder that is taken or in use, for
        a plan that is not that of the run, where a checkpoint is damaged, where the training diverges, and for whatever
        cannot be read or written. An error before the first checkpoint leaves nothing behind that this call made.
        PyTorch's random state is at the end as it was at the beginning.
        """
        self.choose_chunk_size()
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        try:
            create = partial(self.folder.create, self.config, self.plan.data.split)
            begin = partial(begin_again, self.folder, self.plan) if resume else create
            with run_in(self.folder, begin, resume), torch.random.fork_rng(devices), self._stopping, self._logger:
                if resume:
                    self._restore()
                yield from self._rows(self._position)
        except Stopped as stopped:
            end_by(stopped.by)

    def _rows(self, position: Position | None) -> Iterator[Row]:
        plan, device = self.plan, self.fabric.device
        done = 0 if position is None else position.epoch - 1
        differences = tuple(plan.differences)
        self._log(Start(done, machine(device), versions(), plan.selection, plan.how_chosen, differences))
        if position is None:
            fit_to(self.embedder, plan.data.train, self.config, self.chunk_size)
            self._begin_alike()
            if self.config.measure_before and not plan.data.test.none:
                yield self._evaluate(0)
            if plan.data.validation is not None:
                yield self._validate(0)
            position = Position(1, 0)
        self._kept = kept_activations(self)
        while position.epoch <= self.plan.epochs:
            epoch = position.epoch
            self._position = position
            try:
                yield from self._epoch(position)
                if self.plan.evaluates_after(epoch):
                    measured = None
                    if plan.data.validation is not None:
                        measured = self._validate(epoch)
                    elif plan.measures_after:
                        measured = self._evaluate(epoch)
                    if measured is not None:
                        yield measured
                    self._best.keep_if_best(self.embedder, epoch, measured.metrics if measured else {})
            except Stopped:
                self._save()
                raise
            position = self._position = Position(epoch + 1, 0)
            self._save()
            self._best.forget_others()
        yield self._finish()
        self._stopping.agree()  # a signal that came after the last chunk

    def _begin_alike(self) -> None:
        """Give all processes the weights of the first: they drew the same, but a library may round otherwise."""
        modules = (self.embedder, self.loss)
        processes.copy_first([tensor for module in modules for tensor in (*module.parameters(), *module.buffers())])

    def first_cut(self) -> Cut:
        """Return how the first batch of a run is cut into chunks. Raises InputError for an item without a kind."""
        batch = next(iter(self.plan.sampler.epoch(1)))
        return cut(self._preparation(1), batch, self.chunk_size)

    def _preparation(self, epoch: int) -> Preparation:
        config, items = self.config, self.plan.data.train.items
        varied = config if isinstance(config, Augmentation) else None
        return self.embedder.training_preparation(items, varied, seed=config.seed, epoch=epoch)

    def _finish(self) -> Row:
        """Measure the chosen model and save it."""
        epoch = self._best.restore(self.embedder)
        with processes.failing_together():
            if processes.is_first():
                save(self.embedder, self.folder.model)
        if not self.plan.measures_after:
            return self._log(Measurement("result", epoch, self.plan.steps_until(epoch)))
        if self._latest is not None and self._latest.epoch == epoch:  # just measured
            return self._log(replace(self._latest, kind="result"))
        return self._evaluate(epoch, kind="result")

    def _epoch(self, position: Position) -> Iterator[Row]:
        """Train the batches of an epoch that are not done."""
        epoch, done, note = position.epoch, position.batches, ""
        batches = list(self.plan.sampler.epoch(epoch))
        self.embedder.train()
        started = time.perf_counter()
        while done < len(batches):
            for batch in self._read(epoch, batches[done:]):
                step = self.plan.steps_until(epoch - 1) + done + 1
                rate = set_learning_rate(self.optimizer, self.rate_factors, self.config, epoch, step, self.plan.steps)
                made, shortage = None, None
                try:
                    made = self._step(batch, epoch, done, step)
                except NotFiniteError as error:
                    if self.config.on_non_finite == "stop":
                        raise diverged(step, rate, error) from None
                    batch.pass_over()
                    note = "; ".join(filter(None, (note, f"skipped: {error.what}")))
                except ShortOfMemoryError as error:
                    shortage = str(error)
                if shortage is not None:
                    del batch  # with what has been read of it, and its readers
                    note = "; ".join(filter(None, (note, self._take_smaller_chunks(step, shortage))))
                    break  # the batch is read again, in such chunks, and the step repeated
                done += 1
                self._position = Position(epoch, done)
                items, seconds = len(batch.all_items), time.perf_counter() - started
                loss, reached, kept = (None, None, None) if made is None else (made.loss, made.reached, made.kept)
                yield self._log(Step(epoch, step, loss, rate, items, seconds, reached, note or None, kept))
                note = ""
                self._save_if_due()
                started = time.perf_counter()

    def _read(self, epoch: int, batches: list[NDArray[np.int64]]) -> Iterator[TwiceReadBatch]:
        config = self.config
        return read_batches(
            self._preparation(epoch),
            batches,
            self.chunk_size,
            budget_bytes=config.host_memory_gb * 2**30,
            workers=config.readers,
            kept=lambda: self._kept.share,
        )

    def _take_smaller_chunks(self, step: int, shortage: str) -> str:
        """Halve the chunks from here on, alike in all processes; return a note."""
        self.chunk_size, note = halved(self.chunk_size, self.plan, step, shortage)
        self._kept = KeptActivations(self._kept.budget // 2, 0.0)
        gc.collect()  # what the step has left
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        return note

    def _step(self, batch: TwiceReadBatch, epoch: int, number: int, step: int) -> Made:
        """Make one step of all processes; raises as `StepMaker.make`."""
        labels = torch.from_numpy(self.plan.data.train.labels)[batch.items]
        seeds, looks = (self.config.seed, epoch, number), epoch == 1 or self.plan.evaluates_after(epoch)
        made = self._steps.make(batch, labels, seeds, step, self._kept.budget, tell_reached=looks and number == 0)
        self._kept = replace(self._kept, share=made.kept)  # so many will be, of the next batch
        return made

    def _evaluate(self, epoch: int, kind: MeasurementKind = "evaluation") -> Measurement:
        """Measure the model on the test items."""
        test, ks = self.plan.data.test, self.config.evaluate_ks
        items = test.labelled
        self._latest = self._measure(kind, epoch, items, lambda rows: measure(rows, items, test.searches, ks))
        return self._latest

    def _validate(self, epoch: int) -> Measurement:
        """Measure the model on the validation classes."""
        validation, ks = self.plan.data.validation, self.config.evaluate_ks
        assert validation is not None
        searches = [validation.search]
        return self._measure("validation", epoch, validation, lambda rows: measure(rows, validation, searches, ks))

    def _measure(
        self, kind: MeasurementKind, epoch: int, labelled: LabelledItems, metrics_of: MetricsOf
    ) -> Measurement:
        started, stopping = time.perf_counter(), self._stopping
        embedder = self.embedder if epoch else self.embedder.untrained()
        found = measure_together(embedder, labelled.items, metrics_of, self.config, epoch, self.chunk_size, stopping)
        seconds = time.perf_counter() - started
        return self._log(Measurement(kind, epoch, self.plan.steps_until(epoch), found, seconds))

    def _log(self, row: T) -> T:
        with processes.failing_together():
            if processes.is_first():
                self.folder.append(row)
                self._logger.follow(row)
        return row

    def _save_if_due(self) -> None:
        """Write a checkpoint where some minutes have passed since the last; the first process has the clock."""
        due = processes.is_first() and time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes
        if self._stopping.agree(also=due):
            self._save()

    def _save(self) -> None:
        assert self._position is not None
        self._checkpoint.save(Standing(self._position, self._best.chosen, self.chunk_size), self.config)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        """Go back to the latest checkpoint, where there is one; rows of what is made again are dropped."""
        if (found := self._checkpoint.load(self.plan)) is None:
            return
        self._position, self._best.chosen, self.chunk_size = found.position, found.best, found.chunk_size
        if not processes.is_first():
            return
        folder, epoch = self.folder, found.position.epoch - 1
        if self.config != folder.read_config():  # where the data is by now, for one: others read it there
            folder.write_config(self.config)
        folder.forget_after(epoch, self.plan.steps_until(epoch) + found.position.batches)
        self._best.forget_others()
