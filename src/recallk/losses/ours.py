"""Recall@k itself. Its settings are keys of the configuration, not of the entry."""

from typing import TYPE_CHECKING

from recallk.losses.entry import BuildContext, Entry

if TYPE_CHECKING:
    from recallk.loss.recall_at_k import RecallAtKLoss


def build_recall_at_k(context: BuildContext, gather_across_devices: bool = False) -> "RecallAtKLoss":
    """Return the surrogate loss, with similarity mixup where it is configured."""
    from recallk.loss.mixup import SimilarityMixup
    from recallk.loss.recall_at_k import RecallAtKLoss

    given = context.recall_at_k
    return RecallAtKLoss(
        ks=given.ks,
        rank_temperature=given.rank_temperature,
        recall_temperature=given.recall_temperatures,
        query_in_database=given.query_in_database,
        mixup=SimilarityMixup(given.mixup_relatives) if given.mixup else None,
        gather_across_devices=gather_across_devices,
    )


def _of_all_processes(context: BuildContext) -> "RecallAtKLoss":
    return build_recall_at_k(context, gather_across_devices=not context.several_labels)


RECALL_AT_K = Entry("recall@k", "Patel et al., CVPR 2022", "pairs", _of_all_processes, extra=None, takes_positives=True)
