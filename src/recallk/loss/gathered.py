"""The batches of all processes as one, the same on each of them, from which gradients return to their owners."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recallk.core import processes
from recallk.core.arrays import ArrayLike, type_name
from recallk.core.errors import InputError
from recallk.core.relevance import Positives
from recallk.loss.batch import Batch, checked_batch


def gathered_batch(
    embeddings: ArrayLike,
    labels: ArrayLike,
    gallery: ArrayLike | None,
    gallery_labels: ArrayLike | None,
    query_rows: ArrayLike | None,
    *,
    parts: bool,
) -> Batch:
    """Return the batches that the processes give, in their order, as one; that of a process may be empty.

    `query_rows` name rows of the process's own gallery. `parts` and the gradient: see `processes.gather_rows`. What
    does not fit in one process is raised as InputError in all.
    """
    with processes.failing_together():
        own = checked_batch(embeddings, labels, gallery, gallery_labels, query_rows, least=0)
        rows = Positives.from_labels(own.labels, own.gallery_labels, own.query_rows).query_rows
    told = processes.of_each(_Told.of(own))
    if len({each.kind for each in told}) > 1:
        kinds = ", ".join(f"process {number}: {each.kind}" for number, each in enumerate(told))
        raise InputError(f"the processes' embeddings are of different kinds: {kinds}")
    queries = _rows_of_all(own.queries, any(each.queries_learn for each in told), parts)
    labels = processes.gather(own.labels)
    if own.gallery is None or own.gallery_labels is None:
        return Batch(queries, labels)
    before = sum(each.gallery_items for each in told[: processes.number()])
    return Batch(
        queries,
        labels,
        _rows_of_all(own.gallery, any(each.gallery_learns for each in told), parts),
        processes.gather(own.gallery_labels),
        processes.gather(torch.where(rows >= 0, rows + before, -1)),
    )


def shared_generator() -> torch.Generator:
    """Return a generator that draws the same on all processes, seeded by the first one's global one."""
    seed = int(torch.randint(2**63 - 1, ()))  # drawn by each, so that equal random states stay equal
    return torch.Generator().manual_seed(processes.of_first(seed))


@dataclass(frozen=True)
class _Told:
    """What a process tells the others of its batch."""

    kind: str
    queries_learn: bool
    gallery_learns: bool
    gallery_items: int

    @classmethod
    def of(cls, batch: Batch) -> "_Told":
        gallery = batch.gallery
        kind = f"{batch.queries.shape[1]} dimensions in {type_name(batch.queries)}"
        if gallery is not None:
            kind += f" with a gallery in {type_name(gallery)}"
        learns = gallery is not None and gallery.requires_grad
        return cls(kind, batch.queries.requires_grad, learns, 0 if gallery is None else len(gallery))


def _rows_of_all(rows: Tensor, learned: bool, parts: bool) -> Tensor:
    """Gather rows `(n, D)`; where any process asks for a gradient, all take part in the backward pass."""
    if learned and not rows.requires_grad:  # no rows, or constants
        rows = rows.detach().requires_grad_()
    return processes.gather_rows(rows, parts=parts)
