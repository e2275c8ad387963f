"""The loss as it is called: checks the input, chooses an implementation."""

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recallk.core import processes
from recallk.core.arrays import ArrayLike, checked_ks
from recallk.core.errors import InputError
from recallk.core.relevance import Positives
from recallk.core.text import brief
from recallk.loss.batch import Batch, given_batch, positives_of
from recallk.loss.gathered import gathered_batch, shared_generator
from recallk.loss.kernels import streamed
from recallk.loss.mixup import Relatives, SimilarityMixup
from recallk.loss.of_batch import Implementation, Reduction, loss_of_batch, one_of
from recallk.loss.temperatures import checked_temperatures

OnNoPositives = Literal["raise", "zero"]


def recall_at_k_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None = None,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    *,
    ks: Sequence[int] = (1, 2, 4, 8, 16),
    rank_temperature: float = 0.01,
    recall_temperature: float | Sequence[float] = 1.0,
    query_in_database: bool = True,
    query_rows: ArrayLike | None = None,
    positives: Positives | None = None,
    mix_pairs: ArrayLike | None = None,
    mix_alpha: ArrayLike | None = None,
    mix_relatives: Relatives = "keep",
    implementation: Implementation = "auto",
    reduction: Reduction = "mean",
    normalized: bool = False,
) -> Tensor:
    """Return the recall@k surrogate loss of a batch, between 0 (all positives first) and 1.

    Args:
        embeddings: `(B, D)`, float16, bfloat16, float32 or float64; the queries, of any length. Half precision is
            computed in float32. A row of zeros has similarity 0 with everything. This and all below may be tensors,
            arrays or lists.
        labels: `(B,)` integers of any width, in any order; classes of any size. Queries without a positive are left
            out.
        gallery: `(G, D)` items to rank, apart from the queries; by default the embeddings rank each other.
        gallery_labels: `(G,)` integers.
        ks: the k's of recall@k, each at least 1; those above the database's size are allowed.
        rank_temperature: of the sigmoid that compares two similarities, above 0 (1e-31 in float32).
        recall_temperature: of the sigmoid that compares a rank with k, above 0 (1e-31 over the rank temperature in
            float32); one for all k's or one for each.
        query_in_database: whether the query itself is among the ranked items, as in the authors' code. Of a gallery
            apart, this is said of the queries that `query_rows` find there.
        query_rows: `(B,)` integers in -1 .. G-1: where the queries themselves stand in a gallery apart, each under its
            own label, -1 for those that do not (by default: all). A query is never its own positive. So the shards of a
            batch, each against the whole of it, have the losses and gradients of the batch.
        positives: who is relevant to whom, in place of `labels`, `gallery_labels` and `query_rows`: for several labels
            an item, hierarchies, judged pairs, and items that are ignored for a query (`recallk.Positives`).
        mix_pairs: `(V, 2)` rows of `embeddings`, both of one class: the parents of virtual items. Integers, but not
            uint8, which PyTorch takes for a mask.
        mix_alpha: `(V,)` floating-point numbers in [0, 1], the first parents' shares. No gradient reaches them.
            Labels, pairs and shares are moved to the embeddings' device.
        mix_relatives: "keep", as in the paper, or "exclude": for each query the items that share a parent with it are
            neither positives nor ranked (see `SimilarityMixup`). A query that then has no positive is left out.
        implementation: "definition" (slow, obvious, with second derivatives), "tiled" (exact, streamed, on any
            device), "fused" (the same with Triton kernels, on CUDA and in float32), or "auto": "tiled", until "fused"
            has been seen on a GPU.
        reduction: "mean" over queries, or "none": one loss for each query that has a positive, in the order of
            `embeddings`, virtual items after the real ones.
        normalized: the embeddings have unit length already and are not normalised again.

    Returns:
        A scalar, or `(Q',)` for `reduction="none"`; float64 for float64 input, otherwise float32.

    Raises:
        InputError: for shapes, types or values that do not fit, NaN or infinite embeddings, a batch in which
            no query has a positive, and "fused" where it cannot run. From the backward pass where second derivatives
            are asked for (`create_graph=True`) of any implementation but "definition".

    Source: "Recall@k Surrogate Loss with Large Batches and Similarity Mixup" (CVPR 2022), equations 4 to 7.

    >>> embeddings = torch.eye(4).repeat_interleave(2, 0)  # four classes of two equal items, at right angles
    >>> recall_at_k_loss(embeddings, torch.arange(8) // 2, ks=(1,), query_in_database=False)
    tensor(0.5000)
    >>> recall_at_k_loss([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]], [0, 0, 1, 1], ks=(1, 2))
    tensor(0.7107, dtype=torch.float64)
    >>> labels = torch.arange(8) // 2
    >>> shard = slice(0, 4)  # a part of the batch, against all of it
    >>> recall_at_k_loss(embeddings[shard], labels[shard], embeddings, labels, query_rows=torch.arange(8)[shard])
    tensor(0.2155)

    """
    return loss_of_batch(
        given_batch(embeddings, labels, gallery, gallery_labels, query_rows, positives),
        ks=ks,
        rank_temperature=rank_temperature,
        recall_temperature=recall_temperature,
        query_in_database=query_in_database,
        mix_pairs=mix_pairs,
        mix_alpha=mix_alpha,
        mix_relatives=mix_relatives,
        implementation=implementation,
        reduction=reduction,
        normalized=normalized,
    )


class RecallAtKLoss(nn.Module):
    """`recall_at_k_loss` as a module that holds its settings and draws mixup anew in every call.

    With `gather_across_devices=True`, in a process group of PyTorch (`DistributedDataParallel`, Lightning), the batches
    of all processes are one batch. Each gives its embeddings `(n, D)` with labels `(n,)`, n of any size, 0 included; a
    class may be scattered over processes. Each ranks a share of the queries, virtual ones included, against all items
    ("definition": all queries). Every process gets the loss of the whole batch, and `DistributedDataParallel`, which
    takes the mean of the processes' gradients, leaves in the parameters the gradients of one process with the whole
    batch; what reaches the embeddings themselves is as many times as large as there are processes. All processes must
    call the loss, and its backward pass, together. Without a group, or alone in it, nothing changes.

    A batch in which no query has a positive raises InputError; with `on_no_positives="zero"` its loss is zero, with
    gradients of zero, and the first one is told by a warning: for batches that another program draws.

        model = DistributedDataParallel(network)
        loss_fn = RecallAtKLoss(gather_across_devices=True)
        loss_fn(model(images), labels).backward()  # images and labels of this process

    >>> loss_fn = RecallAtKLoss(ks=(1, 2), mixup=SimilarityMixup())
    >>> embeddings = torch.randn(40, 16, requires_grad=True)
    >>> loss_fn(embeddings, torch.arange(40) // 4).backward()
    >>> embeddings.grad.shape
    torch.Size([40, 16])

    """

    def __init__(
        self,
        ks: Sequence[int] = (1, 2, 4, 8, 16),
        rank_temperature: float = 0.01,
        recall_temperature: float | Sequence[float] = 1.0,
        query_in_database: bool = True,
        mixup: SimilarityMixup | None = None,
        implementation: Implementation = "auto",
        gather_across_devices: bool = False,
        on_no_positives: OnNoPositives = "raise",
    ) -> None:
        super().__init__()
        self.ks = checked_ks(ks)
        self.rank_temperature, self.recall_temperature = checked_temperatures(
            rank_temperature, recall_temperature, len(self.ks)
        )
        one_of("implementation", implementation, Implementation)
        if not isinstance(mixup, SimilarityMixup | None):
            raise InputError(f"mixup={brief(mixup)}: give recallk.SimilarityMixup(), or None for no mixup")
        if not isinstance(gather_across_devices, bool):
            raise InputError(f"gather_across_devices={brief(gather_across_devices)}: True or False is needed")
        one_of("on_no_positives", on_no_positives, OnNoPositives)
        self.on_no_positives = on_no_positives
        self._told = False
        self.query_in_database = query_in_database
        self.mixup = mixup
        self.implementation: Implementation = implementation
        self.gather_across_devices = gather_across_devices

    def forward(
        self,
        embeddings: ArrayLike,
        labels: ArrayLike | None = None,
        gallery: ArrayLike | None = None,
        gallery_labels: ArrayLike | None = None,
        *,
        query_rows: ArrayLike | None = None,
        positives: Positives | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the scalar loss of `embeddings (B, D)` with `labels (B,)`, against a gallery where one is given.

        `query_rows (B,)` say where the embeddings themselves stand in the gallery (-1: nowhere). `generator`, on the
        CPU, draws the mixup; PyTorch's global one by default. `positives` take the place of labels; mixup and gathered
        batches need labels. Raises as `recall_at_k_loss`.

        Where batches are gathered, so is the gallery, and `query_rows` name rows of the process's own. All processes
        draw the same mixup: from generators seeded alike, or, without, with a seed from the first process's global one.
        InputError is raised in all processes, also where embeddings differ in dimensions or type, and from the backward
        pass where second derivatives are asked for.
        """
        if positives is not None and (self.mixup is not None or self.gather_across_devices):
            what = "similarity mixup mixes items" if self.mixup is not None else "processes gather items"
            raise InputError(f"{what} of one class: give labels, or leave out positives")
        gathered = self.gather_across_devices and not processes.is_alone()
        shared = gathered and self.implementation != "definition"  # which knows nothing of shares
        if gathered and labels is not None:
            batch = gathered_batch(embeddings, labels, gallery, gallery_labels, query_rows, parts=shared)
        else:
            batch = given_batch(embeddings, labels, gallery, gallery_labels, query_rows, positives)
        if self.on_no_positives == "zero" and not bool((positives_of(batch).counts > 0).any()):
            return self._nothing(batch)
        mix_pairs, mix_alpha = None, None
        if self.mixup is not None:
            if gathered and generator is None:
                generator = shared_generator()
            mix_pairs, mix_alpha = self.mixup.draw(batch.labels, generator)
        loss = loss_of_batch(
            batch,
            ks=self.ks,
            rank_temperature=self.rank_temperature,
            recall_temperature=self.recall_temperature,
            query_in_database=self.query_in_database,
            mix_pairs=mix_pairs,
            mix_alpha=mix_alpha,
            mix_relatives="keep" if self.mixup is None else self.mixup.relatives,
            implementation=self.implementation,
            share=(processes.number(), processes.count()) if shared else streamed.WHOLE,
        )
        return processes.total(loss) if shared else loss

    def _nothing(self, batch: Batch) -> Tensor:
        """Return zero, whose gradients are zero; the first time with a warning."""
        if not self._told:
            warnings.warn("no query has a positive in a batch: its loss is zero, and it teaches nothing", stacklevel=5)
            self._told = True
        wide = torch.float64 if batch.queries.dtype == torch.float64 else torch.float32
        parts = [batch.queries] if batch.gallery is None else [batch.queries, batch.gallery]
        return torch.stack([(part.to(wide) * 0).sum() for part in parts]).sum()

    def extra_repr(self) -> str:
        """Return the settings for `print(loss)`."""
        return (
            f"ks={self.ks}, rank_temperature={self.rank_temperature}, "
            f"recall_temperature={self.recall_temperature}, query_in_database={self.query_in_database}, "
            f"mixup={self.mixup}, implementation={self.implementation!r}, "
            f"gather_across_devices={self.gather_across_devices}, on_no_positives={self.on_no_positives!r}"
        )
