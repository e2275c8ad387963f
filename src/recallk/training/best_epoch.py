"""The epoch whose model is the run's: the best so far, by the plan's selection; its weights beside the checkpoint."""

from collections.abc import Mapping

from recallk.core import processes
from recallk.models.embedder import Embedder
from recallk.models.saved import write_weights
from recallk.models.weights import fill, read_weights
from recallk.runs.folder import RunFolder
from recallk.training.plan import Plan
from recallk.training.state import REMEDY


class BestEpoch:
    """`chosen` is the epoch, and what it was chosen by; None before the first one. The first process writes."""

    def __init__(self, folder: RunFolder, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self.chosen: tuple[int, float] | None = None

    def keep_if_best(self, embedder: Embedder, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep the model where it is the best so far, the first of equals; the latest one with selection "last".

        Without metrics, where nothing is measured, the selection is "last".
        """
        selection, ks = self._plan.selection, self._plan.config.evaluate_ks
        reached = metrics["map@r" if selection == "validation" else f"recall@{ks[0]}"] if metrics else 0.0
        if selection == "last" or self.chosen is None or reached > self.chosen[1]:
            self.chosen = epoch, reached
            with processes.failing_together():
                if processes.is_first():
                    write_weights(embedder, self._folder.best(epoch))

    def forget_others(self) -> None:
        """Remove the models of earlier choices; not before the checkpoint: an interruption would go back to them."""
        if self.chosen is not None and processes.is_first():
            self._folder.forget_best_but(self.chosen[0])

    def restore(self, embedder: Embedder) -> int:
        """Give the embedder the weights of the chosen epoch, in all processes, and return the epoch."""
        assert self.chosen is not None, "the last epoch is always measured"
        path = self._folder.best(self.chosen[0])
        with processes.failing_together():
            if processes.is_first():
                fill(embedder, read_weights(path, REMEDY), path, embedder.name, exact=True)
        processes.copy_first([*embedder.parameters(), *embedder.buffers()])
        return self.chosen[0]
