"""The loop: batches in two passes, an evaluation now and then, a checkpoint after every epoch and some minutes."""

import copy
import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.core.lock import locked
from recallk.core.seeds import mixed_seed
from recallk.data.item import LabelledItems
from recallk.evaluation.metrics import retrieval_metrics
from recallk.evaluation.protocols import measure
from recallk.loss.recall_at_k import RecallAtKLoss
from recallk.losses.build import build_loss
from recallk.models.batches import Cut, TwiceReadBatch, cut, read_batches
from recallk.models.build import build
from recallk.models.chunks import Preparation
from recallk.models.embedder import Embedder
from recallk.models.freezing import freeze_all_but
from recallk.models.saved import save, write_weights
from recallk.models.together import embed_together
from recallk.models.weights import fill, read_weights
from recallk.models.whitening_head import begin_as_whitening
from recallk.runs.config import TrainConfig
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, MeasurementKind, Row, Start, Step
from recallk.runs.recipes import unlike
from recallk.training.activations import KeptActivations, kept_activations
from recallk.training.chunk_size import find_chunk_size, least_chunk
from recallk.training.loggers import logger_of
from recallk.training.machine import machine, versions
from recallk.training.parameters import parameter_groups
from recallk.training.plan import Plan
from recallk.training.precision import InPrecision, SeededChunk, check_gradients, fabric_of
from recallk.training.replay import Buffers
from recallk.training.setbacks import NotFiniteError, Setback, ShortOfMemoryError, check, shortage_told
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
from recallk.training.stopping import Stopped, Stopping, end_by
from recallk.training.together import Together
from recallk.training.two_passes import two_passes

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


def _require_work_for_all(plan: Plan) -> None:
    """Raise InputError where a batch has fewer chunks than there are processes: some would have nothing to do."""
    if plan.config.chunk_size == "auto":
        return  # it is found so that they have
    chunks, count = math.ceil(plan.items_per_step / plan.config.chunk_size), processes.count()
    if chunks < count:
        raise InputError(
            f"a batch of {plan.items_per_step:,} {plan.data.train.noun} is cut into {chunks} chunks, for {count} "
            f"processes: lower chunk_size to {plan.items_per_step // count}, or take fewer devices"
        )


@dataclass(frozen=True)
class Position:
    """Where a run stands: in an epoch, from 1, of which so many batches are done; its evaluation is not."""

    epoch: int
    batches: int


def _diverged(step: int, rate: float, error: NotFiniteError) -> processes.SharedError:
    remedies = ", or ".join(filter(None, (f"lower the learning rate ({rate:g})", error.remedy)))
    return processes.SharedError(
        f"step {step}: {error.what}; {remedies}, or leave such steps out (--on-non-finite skip)"
    )


class _ChunksOfStep:
    """The chunks of a batch, each with random numbers of its own, which its number in the whole batch decides."""

    def __init__(self, batch: TwiceReadBatch, seeds: tuple[int, ...], stopping: Stopping) -> None:
        self._batch, self._seeds, self._stopping = batch, seeds, stopping

    def __iter__(self) -> Iterator[SeededChunk]:
        for number, chunk in enumerate(self._batch, start=self._batch.share.start):
            self._stopping.check()
            yield SeededChunk(mixed_seed(*self._seeds, number), chunk)

    def second_reading(self, kept: int) -> Iterator[SeededChunk]:
        """Yield the chunks behind the first `kept` again."""
        for number, chunk in enumerate(self._batch.second_reading(kept), start=self._batch.share.start + kept):
            self._stopping.check()
            yield SeededChunk(mixed_seed(*self._seeds, number), chunk)


class _Undo:
    """What a step moves besides gradients before it is made: the network's buffers, what a loss remembers."""

    def __init__(self, embedder: Embedder, loss: nn.Module) -> None:
        self._loss, self._buffers = loss, Buffers(embedder)
        self._memory = copy.deepcopy(loss.state_dict()) if any(True for _ in loss.buffers()) else None

    def restore(self) -> None:
        """Go back to what there was."""
        self._buffers.restore()
        if self._memory is not None:
            self._loss.load_state_dict(self._memory)


class Trainer:
    """Trains a plan into a run's folder; `rows()` does the work and tells how it goes.

    Where the folder holds a checkpoint already, the network is built without its pretrained weights: they are in it.
    In a group of processes (`launch`) all of them train alike, each its share of every batch; the first one writes.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        config = plan.config
        _require_work_for_all(plan)
        self.fabric, self.scaler = fabric_of(config)
        self.plan = plan
        self.config = config
        self.folder = folder
        self._logger = logger_of(config, folder)
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
        self.embedder.speed_up(compile_it=config.compile, channels_last=config.channels_last)
        self._network = InPrecision(self.embedder, self.fabric)
        self.chunk_size = least_chunk(config) if config.chunk_size == "auto" else config.chunk_size
        self.how_chunked = ""
        self._stopping = Stopping()
        self._kept = KeptActivations(0, 0.0)
        self._latest: Measurement | None = None
        self._position: Position | None = None  # None: nothing has been trained yet
        self._saved = time.monotonic()
        self._best: tuple[int, float] | None = None  # the chosen epoch so far, and what it was chosen by

    def choose_chunk_size(self) -> None:
        """With chunk_size=auto, find a number, the same in all processes, which all call this; else do nothing.

        The number takes the place of "auto" in the configuration: a run that is resumed cuts its chunks as before.
        """
        if self.config.chunk_size == "auto":
            found = find_chunk_size(self)
            self.chunk_size, self.how_chunked = found.size, found.how
            self.config = self.config.model_copy(update={"chunk_size": found.size})
            self.plan = replace(self.plan, config=self.config)
            _require_work_for_all(self.plan)

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
        self.choose_chunk_size()
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        try:
            with self._in_folder(resume), torch.random.fork_rng(devices), self._stopping, self._logger:
                yield from self._rows(self._position)
        except Stopped as stopped:
            end_by(stopped.by)

    @contextmanager
    def _in_folder(self, resume: bool) -> Iterator[None]:
        """Have the folder for this run alone, begun or restored; only the first process writes into it."""
        made, there = False, os.path.lexists(self.folder.path)
        try:
            with ExitStack() as held:
                try:
                    with processes.failing_together():
                        if processes.is_first():
                            held.enter_context(locked(self.folder.path))
                            self.folder.remove_unfinished()
                            made = not resume and not self.folder.taken
                            if resume:
                                self._find_checkpoint()
                            else:
                                self.folder.create(self.config, self.plan.data.split)
                    if resume:
                        self._restore()
                    yield
                except (InputError, KeyboardInterrupt, Stopped):
                    if made:
                        self.folder.remove_unless_started()
                    raise
        except (InputError, KeyboardInterrupt, Stopped):
            if made and not there:
                self.folder.remove_if_empty()
            raise

    def _rows(self, position: Position | None) -> Iterator[Row]:
        plan, device = self.plan, self.fabric.device
        done = 0 if position is None else position.epoch - 1
        differences = tuple(plan.differences)
        self._write(Start(done, machine(device), versions(), plan.selection, plan.how_chosen, differences))
        if position is None:
            if self.config.head == "whitening":
                sizes = {"chunk_size": self.chunk_size, "workers": self.config.readers}
                begin_as_whitening(self.embedder, plan.data.train, self.config.whitening, **sizes)
            self._begin_alike()
            yield self._evaluate(0)
            if plan.data.validation is not None:
                yield self._validate(0)
            position = Position(1, 0)
        self._kept = kept_activations(self)
        while position.epoch <= self.config.epochs:
            epoch = position.epoch
            self._position = position
            try:
                yield from self._epoch(position)
                if epoch % self.config.evaluate_every == 0 or epoch == self.config.epochs:
                    measured = self._evaluate(epoch) if plan.data.validation is None else self._validate(epoch)
                    yield measured
                    self._keep_if_best(epoch, measured)
            except Stopped:
                self._save()
                raise
            position = self._position = Position(epoch + 1, 0)
            self._save()
            self._forget_others()
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
        return self.embedder.training_preparation(items, config, seed=config.seed, epoch=epoch)

    def _keep_if_best(self, epoch: int, measured: Measurement) -> None:
        """Keep the model of the best epoch so far beside the checkpoint: the first of equals, by `selection`."""
        by = "map@r" if self.plan.selection == "validation" else f"recall@{self.config.evaluate_ks[0]}"
        if self.plan.selection == "last" or self._best is None or measured.metrics[by] > self._best[1]:
            self._best = epoch, measured.metrics[by]
            with processes.failing_together():
                if processes.is_first():
                    write_weights(self.embedder, self.folder.best(epoch))

    def _forget_others(self) -> None:
        """Remove the models of earlier choices; not before the checkpoint: an interruption would go back to them."""
        if self._best is not None and processes.is_first():
            self.folder.forget_best_but(self._best[0])

    def _finish(self) -> Row:
        """Measure the chosen model and save it."""
        assert self._best is not None
        epoch = self._best[0]
        best = self.folder.best(epoch)
        with processes.failing_together():
            if processes.is_first():
                fill(self.embedder, read_weights(best, REMEDY), best, self.config.backbone, exact=True)
                save(self.embedder, self.folder.model)
        processes.copy_first([*self.embedder.parameters(), *self.embedder.buffers()])
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
                rate = self._set_rate(epoch, step)
                made, shortage = None, None
                try:
                    made = self._step(batch, epoch, done, step)
                except NotFiniteError as error:
                    if self.config.on_non_finite == "stop":
                        raise _diverged(step, rate, error) from None
                    batch.pass_over()
                    note = "; ".join(filter(None, (note, f"skipped: {error.what}")))
                except ShortOfMemoryError as error:
                    shortage = str(error)
                if shortage is not None:
                    note = self._take_smaller_chunks(step, shortage)
                    break  # the batch is read again, in such chunks, and the step repeated
                done += 1
                self._position = Position(epoch, done)
                items, seconds = len(batch.all_items), time.perf_counter() - started
                loss, reached, kept = (None, None, None) if made is None else made
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

    def _set_rate(self, epoch: int, step: int) -> float:
        """Have the optimiser take the learning rate of a step, and return it."""
        rate = learning_rate(self.config, epoch, step, self.plan.steps)
        for group, factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = rate * factor
        return rate

    def _take_smaller_chunks(self, step: int, shortage: str) -> str:
        """Halve the chunks from here on, alike in all processes; return a note. Raises InputError where it cannot."""
        size, least = min(self.chunk_size, self.plan.items_per_step), least_chunk(self.config)
        if size <= least:
            raise processes.SharedError(
                f"step {step}: out of memory ({shortage}) in chunks of {size}; lower --image-size, or take a smaller "
                f"network"
            )
        self.chunk_size = size = max(least, size // 2)
        self._kept = KeptActivations(self._kept.budget // 2, 0.0)
        gc.collect()  # what the step has left
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        seen = ", which batch norm sees" if self.config.batch_norm == "per-chunk" else ": the result stays the same"
        return f"out of memory ({shortage}); repeated, and from here on, in chunks of {size}{seen}"

    def _step(self, batch: TwiceReadBatch, epoch: int, number: int, step: int) -> tuple[float, float | None, float]:
        """Make one step of all processes; return its loss, the share of queries that this reached, and of chunks kept.

        Which queries are reached is found out for an epoch's first step.

        Where the run is to stop, Stopped is raised, where loss or gradients are not finite, NotFiniteError, and where
        memory has run out, ShortOfMemoryError: parameters, moments, buffers and what the loss remembers are then as
        before the step.
        """
        self.optimizer.zero_grad()
        seeds = (self.config.seed, epoch, number)
        labels = torch.from_numpy(self.plan.data.train.labels)[batch.items]
        sizes = dict(zip(batch.share, batch.sizes, strict=True))
        loss_fn = StepLoss(self.loss, mixed_seed(*seeds), sizes, self._stopping)
        undo = _Undo(self.embedder, self.loss)
        together = Together(self.embedder)

        def backward(loss: Tensor) -> None:
            self.fabric.backward(loss)
            loss_fn.exchanging = False

        try:
            with shortage_told(self._stopping, unless=lambda: loss_fn.exchanging):
                made = two_passes(
                    self._network,
                    _ChunksOfStep(batch, seeds, self._stopping),
                    labels,
                    loss_fn,
                    batch_norm=self.config.batch_norm,
                    backward=backward,
                    activation_memory=self._kept.budget,
                )
            loss = made.loss
            found = self._stopping.agree(also=Setback.NONE if math.isfinite(loss) else Setback.NOT_FINITE)
            check(found, not_finite=f"the loss is {float(loss)}")
            together.synchronise(chunks=len(batch.share))
            check_gradients(self.optimizer, self.scaler, step)
        except Stopped as stopped:
            undo.restore()
            if not stopped.agreed:
                self._stopping.agree()
            raise
        except (NotFiniteError, ShortOfMemoryError):
            undo.restore()
            raise
        self.optimizer.step()
        reached = None
        if number == 0 and isinstance(self.loss, RecallAtKLoss):
            reached = loss_fn.reached_share(self.loss)
        self._kept = replace(self._kept, share=made.kept / made.chunks)  # so many will be, of the next batch
        return float(loss), reached, self._kept.share

    def _evaluate(self, epoch: int, kind: MeasurementKind = "evaluation") -> Measurement:
        """Measure the model on the test items."""
        test, ks = self.plan.data.test, self.config.evaluate_ks
        self._latest = self._measure(
            kind, epoch, test.labelled, lambda embeddings: measure(embeddings, test.labelled.labels, test.searches, ks)
        )
        return self._latest

    def _validate(self, epoch: int) -> Measurement:
        """Measure the model on the training classes set aside."""
        validation, ks = self.plan.data.validation, self.config.evaluate_ks
        assert validation is not None
        labels = validation.labels
        return self._measure(
            "validation", epoch, validation, lambda embeddings: retrieval_metrics(embeddings, labels, ks=ks)
        )

    def _measure(
        self,
        kind: MeasurementKind,
        epoch: int,
        labelled: LabelledItems,
        metrics_of: Callable[[Tensor], dict[str, float]],
    ) -> Measurement:
        """Have all processes embed, and the first one measure: all get its metrics."""
        started = time.perf_counter()
        embeddings = embed_together(
            self.embedder,
            labelled.items,
            agree=self._stopping.agree,
            chunk_size=self.chunk_size,
            workers=self.config.readers,
            advance=lambda _: self._stopping.check(),
        )
        metrics = processes.from_first(lambda: metrics_of(self._finite(embeddings, epoch)))
        seconds = time.perf_counter() - started
        return self._log(Measurement(kind, epoch, self.plan.steps_until(epoch), metrics, seconds))

    def _finite(self, embeddings: Tensor, epoch: int) -> Tensor:
        """Return the embeddings. Raises InputError where they are no numbers."""
        config = self.config
        if bool(torch.isfinite(embeddings).all()):
            return embeddings
        if epoch == 0:
            raise InputError(f"weights={config.weights}: the network gives NaN or infinity; start from others")
        lower = f"lower the learning rate ({config.learning_rate:g})"
        raise InputError(f"epoch {epoch}: the embeddings hold NaN or infinity; {lower}")

    def _log(self, row: T) -> T:
        self._write(row)
        return row

    def _write(self, row: Row) -> None:
        with processes.failing_together():
            if processes.is_first():
                self.folder.append(row)
                self._logger.follow(row)

    def _save_if_due(self) -> None:
        """Write a checkpoint where some minutes have passed since the last; the first process has the clock."""
        due = processes.is_first() and time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes
        if self._stopping.agree(also=due):
            self._save()

    def _save(self) -> None:
        """Write the checkpoint: of the loss, what it learns or remembers; of the precision, the scale of the loss.

        No random state: what is drawn follows from the seed, the epoch, the step and the chunk.
        """
        position = self._position
        assert position is not None
        with processes.failing_together():
            if processes.is_first():
                state: State = {name: module.state_dict() for name, module in self._modules().items()}
                state |= {
                    "optimizer": optimizer_state(self.optimizer.optimizer),
                    "scaler": self.scaler and self.scaler.state_dict(),
                    "epoch": position.epoch,
                    "batches": position.batches,
                    "best": self._best,
                    "chunks": (self.config.chunk_size, self.chunk_size),
                }
                save_state(state, self.folder.checkpoint)
        self._saved = time.monotonic()

    def _find_checkpoint(self) -> None:
        """Check that the run in the folder is this one; where it has no checkpoint yet, begin it anew."""
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
        elif recorded is None:
            raise InputError(f"{folder.path}: no split.json, and so no telling what to train on; start the run anew")

    def _restore(self) -> None:
        """Go back to the latest checkpoint, where there is one; rows of what is made again are dropped."""
        with processes.failing_together():
            if self.folder.has_checkpoint:
                self._position = self._load()
        if self._position is None or not processes.is_first():
            return
        folder, epoch = self.folder, self._position.epoch - 1
        if self.config != folder.read_config():  # where the data is by now, for one: others read it there
            folder.write_config(self.config)
        folder.forget_after(epoch, self.plan.steps_until(epoch) + self._position.batches)
        self._forget_others()

    def _load(self) -> Position:
        path = self.folder.checkpoint
        state = load_state(path)
        for name, module in self._modules().items():
            restore_module(module, state.get(name), name, path)
        restore_optimizer(self.optimizer.optimizer, state["optimizer"], path)
        restore_scaler(self.scaler, state.get("scaler"), path)
        position, self._best = Position(state["epoch"], state["batches"]), state["best"]
        self._take_chunks_of(state.get("chunks"), path)
        begun = position.epoch if position.batches else position.epoch - 1
        if begun > self.config.epochs:
            raise InputError(f"epochs={self.config.epochs}: {begun} are done already; give {begun} or more")
        self._check_position(position)
        return position

    def _check_position(self, position: Position) -> None:
        """Raise InputError where the run cannot stand there, or what it had chosen by then is gone."""
        plan, path, done = self.plan, self.folder.checkpoint, position.epoch - 1
        if position.batches > (batches := plan.steps_until(position.epoch) - plan.steps_until(done)):
            raise InputError(
                f"{path}: {position.batches} batches of epoch {position.epoch} are done, which has {batches}; {REMEDY}"
            )
        if self._best is None:
            chosen = done < min(self.config.evaluate_every, self.config.epochs)  # none had to be
        else:
            epoch = self._best[0]
            needed = plan.selection != "last" or done == self.config.epochs
            chosen = 1 <= epoch <= done and (not needed or os.path.lexists(self.folder.best(epoch)))
        if not chosen:
            raise InputError(f"{path}: the model of the epoch that was the best is not there; {REMEDY}")

    def _take_chunks_of(self, recorded: Any, path: Path) -> None:
        """Cut chunks as the run did, which may have halved them, unless another size is configured by now."""
        match recorded:
            case (int(given), int(size)) if 0 < size <= given:
                self.chunk_size = size if given == self.config.chunk_size else self.chunk_size
            case _:
                raise InputError(f"{path}: it does not say how the batches were cut; {REMEDY}")

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.embedder} | ({"loss": self.loss} if self.loss.state_dict() else {})
