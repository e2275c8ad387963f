"""From a configuration to a run that is known to be able to start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.core.progress import Advance, silent
from recallk.data.dataset import Dataset, read_for_training
from recallk.data.label_sets import LabelSets
from recallk.data.split import Split
from recallk.losses.registry import OURS, check_batch, entry_of
from recallk.runs.train_config import TrainConfig
from recallk.training.choices import (
    Choice,
    choose_batch,
    choose_epoch_by,
    choose_items_per_class,
    choose_length,
    choose_mirroring,
    choose_mixup,
    choose_rate,
    with_choices,
)
from recallk.training.sampler import LeftOut, Lengths, Sampler, WholeSet, make_sampler, whole_set


@dataclass(frozen=True)
class Plan:
    """A run whose data, batches and settings have been checked; nothing has been written yet."""

    config: TrainConfig
    data: Dataset
    sampler: Sampler | WholeSet
    left_out: LeftOut
    lengths: Lengths  # of the epochs, in batches
    choices: Sequence[Choice]  # what the configuration left open

    @property
    def epochs(self) -> int:
        """How often training goes through the data."""
        assert self.config.epochs is not None, "it has been chosen"
        return self.config.epochs

    def evaluates_after(self, epoch: int) -> bool:
        """Whether the model is measured after an epoch."""
        return epoch == self.epochs or epoch % (self.config.evaluate_every or 1) == 0

    @property
    def selection(self) -> Literal["validation", "test", "last"]:
        """How the epoch is chosen whose model is the run's; the last where there are too few classes to validate on."""
        assert self.config.select is not None, "it has been chosen"
        return "last" if self.config.select == "validation" and self.data.validation is None else self.config.select

    @property
    def measures_after(self) -> bool:
        """Whether the test items are measured after training."""
        return self.config.measure_after and not self.data.test.none

    @property
    def how_chosen(self) -> str:
        """Say in words how that epoch is chosen."""
        if self.selection == "validation":
            by = "the validation classes given" if self.data.validation_given else "training classes set aside"
            return f"the best by MAP@R on {by}" + ("" if self.data.test.none else "; the test classes played no part")
        if self.selection == "last":
            why = self.data.why_no_validation
            return f"the last: {why}" if why else "the last"
        return "the best on the test classes, as in the paper: an optimistic number"

    @property
    def steps(self) -> int:
        """Steps of the whole run; expected from the first epochs, where there are very many."""
        return self.lengths.total

    @property
    def batches(self) -> tuple[int, int]:
        """Return the fewest and the most batches of an epoch."""
        return self.lengths.fewest_and_most

    @property
    def smaller_batches(self) -> str | None:
        """Say in words where the batches are smaller than asked for; None where they are not."""
        asked, sampler = self.config.batch_size, self.sampler
        if asked is None or asked == self.items_per_step or isinstance(sampler, WholeSet):
            return None
        return (
            f"batches of {self.items_per_step:,} {self.data.train.noun}, and not of the {asked:,} asked for: "
            f"only {sampler.classes_per_batch:,} training classes have {self.config.of_a_class} "
            f"{self.data.train.noun}"
        )

    @property
    def skipped(self) -> str | None:
        """Say in words how many files could not be read; None where none were left out."""
        skipped = len(self.data.split.skipped)
        if not skipped:
            return None
        return f"{skipped:,} of {self.data.files + skipped:,} {self.data.train.noun} that cannot be read are left out"

    @property
    def differences(self) -> list[str]:
        """Say in words where the data made the run differ from its configuration, or from what was published."""
        told = [] if self.smaller_batches is None else [self.smaller_batches]
        if self.skipped is not None:
            told.append(self.skipped)
        searches = self.data.test.searches
        if self.selection == "test" and len(searches) > 1:
            told.append(
                f"the model is of one epoch, the best on the {searches[0].name} test set, not of one for each test set"
            )
        return told + [note.message for note in self.data.notes if note.kind == "other counts"]

    def steps_until(self, epoch: int) -> int:
        """Return the steps of all epochs up to and with `epoch`, counted from 1."""
        return self.lengths.until(epoch)

    @property
    def items_seen(self) -> int:
        """Items seen in the whole run."""
        return self.steps * self.items_per_step

    @property
    def items_per_step(self) -> int:
        """Items of a batch."""
        return self.sampler.items_per_batch


def prepare(config: TrainConfig, recorded: Split | None = None, advance: Advance = silent) -> Plan:
    """Read the data and lay out the batches; with the `recorded` split of a run that has begun, as it was then.

    Raises InputError, one line, for whatever would not train.
    """
    return lay_out(config, read_for_training(config, recorded, advance), begun=recorded is not None)


def lay_out(config: TrainConfig, data: Dataset, begun: bool = False) -> Plan:
    """Lay out the batches for data that has been read, and choose what the configuration leaves open.

    Of a run that has `begun`, an open batch size is what it was before they were chosen: all classes, 4,000 items.
    Raises InputError for a batch that the data does not allow.
    """
    _check_several(config, data)
    sets, labels = _classes(config, data)
    choices = [] if begun else choose_items_per_class(config, labels)
    choices += [] if begun else choose_batch(with_choices(config, choices), labels)
    choices += choose_epoch_by(config, data)
    config = with_choices(config, choices)
    sampler, left_out = _batches(config, data, labels, sets)
    choices += choose_length(config, sampler)
    choices += [] if begun else [*choose_rate(config), *choose_mirroring(config, data), *choose_mixup(config, data)]
    config = with_choices(config, choices)
    return Plan(config, data, sampler, left_out, Lengths(sampler, config.epochs or 1), choices)


def _classes(config: TrainConfig, data: Dataset) -> tuple[LabelSets | None, NDArray[np.int64]]:
    """Return what batches are drawn by: classes; of items with several labels all, and those of the first epoch."""
    train = data.train
    if train.label_sets is None:
        return None, train.labels
    sets = LabelSets.of(train.classes, train.labels)
    return sets, sets.drawn(config.seed, 1)


def _check_several(config: TrainConfig, data: Dataset) -> None:
    """Raise InputError for what cannot be trained where items have several labels."""
    if data.train.label_sets is None:
        return
    if not entry_of(config.loss).takes_positives:
        raise InputError(
            f"loss={entry_of(config.loss).name} is for one label an item, and these have several: {OURS} is not"
        )
    if config.mixup:
        raise InputError("mixup mixes items of one class, and these have several labels: leave it out")


def _batches(
    config: TrainConfig, data: Dataset, labels: NDArray[np.int64], sets: LabelSets | None
) -> tuple[Sampler | WholeSet, LeftOut]:
    fewer = data.validation is not None or config.limit_classes is not None  # classes than the batch was chosen for
    left_out = LeftOut(0, 0)
    sampler: Sampler | WholeSet
    if config.batch_size == "all":
        sampler = whole_set(labels, several=sets is not None)
        _check_sizes(config, sampler)
    else:
        sampler, left_out = make_sampler(labels, config.batch_size, config.of_a_class, config.seed, fewer, sets)
    check_batch(config.loss, sampler.items_per_batch, sampler.items_per_class)
    return sampler, left_out


def _check_sizes(config: TrainConfig, sampler: WholeSet) -> None:
    entry = entry_of(config.loss)
    if entry.needs == "equal classes" and not sampler.equal_classes:
        raise InputError(f"loss={entry.name} needs classes of one size, and batch_size=all leaves them as they are")
