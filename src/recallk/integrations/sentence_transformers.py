"""For sentence-transformers: recall@k as a loss of its trainer, plain and with cached gradients; a batch sampler."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import recallk
from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.text import brief

require("text", "recallk.integrations.sentence_transformers")

from sentence_transformers.base.losses.gradcache import CachedLossMixin, has_static_embedding_input  # noqa: E402
from sentence_transformers.base.sampler import DefaultBatchSampler  # noqa: E402

CITATION = """
@inproceedings{patel2022recall,
    title = {Recall@k Surrogate Loss with Large Batches and Similarity Mixup},
    author = {Patel, Yash and Tolias, Giorgos and Matas, Ji{\\v{r}}{\\'i}},
    booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
    year = {2022},
}
"""


class RecallAtKLoss(nn.Module):
    """The recall@k surrogate of a batch of texts with labels, for `SentenceTransformerTrainer`.

    The data set has one column of texts, and one of labels, whole numbers, named `label` (or as the trainer says).
    Batches need several texts of a label: `ClassBatchSampler` draws them. Each batch ranks itself.

    Args:
        model: the `SentenceTransformer` that is trained.
        settings: those of `recallk.RecallAtKLoss`: ks, temperatures, mixup, and `gather_across_devices=True`, with
            which the batches of all processes are one.

    Raises:
        InputError: for settings that do not fit; from a step, for several columns of texts, labels that are missing or
            no whole numbers, and a batch in which no label occurs twice.

        loss = RecallAtKLoss(model, ks=(1, 2, 4, 8))
        trainer = SentenceTransformerTrainer(model, args, train_dataset=dataset, loss=loss)

    """

    def __init__(self, model: Any, **settings: Any) -> None:
        super().__init__()
        self.model = model
        self.loss = recallk.RecallAtKLoss(**settings)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Return the scalar loss of tokenised texts with labels `(B,)`."""
        embeddings: Tensor = self.model(_only_column(sentence_features))["sentence_embedding"]
        return self._loss_of(embeddings, labels)

    def _loss_of(self, embeddings: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise InputError("texts without labels: give the data set a column named label, of whole numbers")
        loss: Tensor = self.loss(embeddings, labels.reshape(-1))
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, as the model card tells them."""
        loss = self.loss
        mixup = None if loss.mixup is None else f"SimilarityMixup(relatives={loss.mixup.relatives!r})"
        return {
            "ks": list(loss.ks),
            "rank_temperature": loss.rank_temperature,
            "recall_temperature": loss.recall_temperature,
            "query_in_database": loss.query_in_database,
            "mixup": mixup,
            "gather_across_devices": loss.gather_across_devices,
        }

    @property
    def citation(self) -> str:
        """The paper, as the model card cites it."""
        return CITATION


class CachedRecallAtKLoss(CachedLossMixin, RecallAtKLoss):  # type: ignore[misc]
    """`RecallAtKLoss` with cached gradients: batches of thousands in the memory of `mini_batch_size` texts.

    All texts are embedded without gradients, then the loss of the whole batch is taken, then each mini batch is
    embedded again for its part of the gradients, which are those of `RecallAtKLoss`.

    Args:
        model: the `SentenceTransformer` that is trained; not one of static embeddings.
        mini_batch_size: texts that are embedded at a time.
        mini_batch_num_tokens: instead of so many texts, as many as have at most so many tokens.
        show_progress_bar: whether each step shows its mini batches.
        settings: as for `RecallAtKLoss`.

    Raises:
        InputError: as `RecallAtKLoss`, and for a model of static embeddings, which has no activations to save.

        loss = CachedRecallAtKLoss(model, mini_batch_size=64)

    """

    def __init__(
        self,
        model: Any,
        *,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        **settings: Any,
    ) -> None:
        if has_static_embedding_input(model):
            raise InputError("a model of static embeddings has no activations to save: use RecallAtKLoss")
        for name, value in (("mini_batch_size", mini_batch_size), ("mini_batch_num_tokens", mini_batch_num_tokens)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"{name}={brief(value)}: a whole number of at least 1 is needed")
        super().__init__(model, **settings)
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Return the scalar loss of tokenised texts with labels `(B,)`; its backward pass embeds them again."""
        loss: Tensor = CachedLossMixin.forward_cached(self, [_only_column(sentence_features)], labels)
        return loss

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Return the loss of the embeddings of all mini batches, detached where its gradients are taken here."""
        loss = self._loss_of(torch.cat(reps[0]), labels)
        if not with_backward:
            return loss
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, as the model card tells them."""
        sizes = {"mini_batch_size": self.mini_batch_size, "mini_batch_num_tokens": self.mini_batch_num_tokens}
        return RecallAtKLoss.get_config_dict(self) | sizes


class ClassBatchSampler(DefaultBatchSampler):  # type: ignore[misc]
    """Batches with `items_per_class` texts of each of some labels, as `recallk.ClassBatchSampler` draws them.

    Given as `batch_sampler=` in the training arguments, of which it takes the batch size and the seed; for another
    number of texts: `batch_sampler=functools.partial(ClassBatchSampler, items_per_class=8)`. All batches are whole;
    where several processes take turns at them, all take equally many. Evaluation draws its batches likewise.

    Raises InputError for a data set without labels, and as `recallk.ClassBatchSampler`.

        args = SentenceTransformerTrainingArguments(
            "run", per_device_train_batch_size=400, batch_sampler=ClassBatchSampler
        )

    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool = True,  # noqa: ARG002 (there is nothing else to drop)
        valid_label_columns: Sequence[str] | None = ("label",),
        generator: torch.Generator | None = None,
        seed: int = 0,
        items_per_class: int = 4,
    ) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            drop_last=True,
            valid_label_columns=list(valid_label_columns or ()),
            generator=generator,
            seed=seed,
        )
        column = next((name for name in valid_label_columns or () if name in dataset.column_names), None)
        if column is None:
            there = ", ".join(dataset.column_names)
            raise InputError(f"the data set has the columns {there}, and none of labels: name one label")
        self._batches = recallk.ClassBatchSampler(list(dataset[column]), batch_size, items_per_class, seed or 0)

    def set_epoch(self, epoch: int) -> None:
        """Set which epoch is drawn; the trainer does."""
        super().set_epoch(epoch)
        self._batches.set_epoch(int(epoch))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch as places in the data set."""
        return iter(self._batches)

    def __len__(self) -> int:
        """Return how many batches the epoch has."""
        return len(self._batches)


def _only_column(sentence_features: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    columns = list(sentence_features)
    if len(columns) != 1:
        raise InputError(f"{len(columns)} columns of texts: one is needed, whose texts find each other by their labels")
    return columns[0]
