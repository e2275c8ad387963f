"""The share of queries that the loss reaches: a rank far beyond every k has next to no gradient."""

import torch
from torch import Tensor

from recallk.core.precision import full_precision
from recallk.core.relevance import Positives
from recallk.loss.definition import loss_of_a_query, rankings
from recallk.loss.kernels.unit import unit_rows
from recallk.loss.pruning import most_similar, positive_limit
from recallk.loss.recall_at_k import RecallAtKLoss

LEAST = 0.01  # of the largest
QUERIES = 250  # of a batch: enough for a share to within a few percent


def reached_share(
    loss: RecallAtKLoss,
    embeddings: Tensor,
    labels: Tensor,
    generator: torch.Generator | None = None,
    positives: Positives | None = None,
) -> float:
    """Return the share of the queries of `embeddings (B, D)`, labels `(B,)`, that the loss reaches, in [0, 1].

    Not reached is a query whose first positive is ranked beyond every k, and whose own loss has, by its
    similarities, a gradient with less than a hundredth of the length of the largest in the batch. (A query that is
    solved needs no gradient.) Measured by the definition on about 250 queries spread over the batch, virtual ones
    included where `loss` mixes; `generator` and `positives` as for `loss`. Not from the paper.

    >>> labels = torch.arange(40) % 10
    >>> reached_share(RecallAtKLoss(), torch.eye(10)[labels], labels)
    1.0

    """
    mix_pairs = mix_alpha = None
    if loss.mixup is not None:
        mix_pairs, mix_alpha = loss.mixup.draw(labels, generator)
    queries = len(labels) + (0 if mix_pairs is None else len(mix_pairs))
    lengths, beyond = [], []
    with full_precision(embeddings.device), torch.enable_grad():
        unit = unit_rows(embeddings.detach().float())
        for similarity, positive, ranked in rankings(
            unit,
            labels,
            None,
            None,
            loss.query_in_database,
            None,
            mix_pairs,
            None if mix_alpha is None else mix_alpha.to(unit),
            loss.mixup is not None and loss.mixup.relatives == "exclude",
            every=max(1, queries // QUERIES),
            positives=None if positives is None else positives.to(embeddings.device),
        ):
            columns = positive.nonzero().T
            limit = positive_limit(loss.ks, loss.recall_temperature, len(similarity))
            _, columns, _ = most_similar(
                similarity[columns], columns, torch.ones_like(columns, dtype=torch.bool), limit
            )
            nearest = torch.zeros_like(positive).index_fill_(0, columns[0], True)
            similarity.requires_grad_()
            own = loss_of_a_query(similarity, nearest, ranked, loss.ks, loss.rank_temperature, loss.recall_temperature)
            lengths.append(torch.autograd.grad(own, similarity)[0].norm())
            above = (similarity > similarity[positive].max()) & ranked
            beyond.append(above.sum() >= max(loss.ks))
    found = torch.stack(lengths)
    vanished = found <= LEAST * found.max()
    return float((~(vanished & torch.stack(beyond))).float().mean())
