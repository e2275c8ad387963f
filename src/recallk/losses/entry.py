"""What is known of a loss, and how it is built. Light: an entry imports PyTorch only when it builds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from recallk.core.extras import Extra

if TYPE_CHECKING:
    from torch import nn

    from recallk.losses.recall_at_k_settings import RecallAtKSettings

Needs = Literal["pairs", "triples", "equal classes", "classes"]
Counted = Literal["pairs", "triples", "triplets of items", "positive pairs times pairs"]
Settings = Mapping[str, int | float]


@dataclass(frozen=True)
class Growth:
    """Bytes that forward and backward hold at once, for each of what is counted.

    Measured on a CPU, on batches of 400 to 2,400 items of 64 dimensions, 4 of a class.
    """

    bytes: float
    of: Counted

    def of_batch(self, batch: int, items_per_class: int) -> float:
        """Return the bytes for `batch` items, `items_per_class` of each class."""
        pairs, positives = batch**2, batch * (items_per_class - 1)
        counts: dict[Counted, int] = {
            "pairs": pairs,
            "triples": positives * batch,
            "triplets of items": batch**3,
            "positive pairs times pairs": positives * pairs,
        }
        return self.bytes * counts[self.of]

    def largest_batch(self, items_per_class: int, most_bytes: float) -> int:
        """Return the most items that a batch of whole classes may have; at least one class."""
        batch = items_per_class
        while self.of_batch(batch + items_per_class, items_per_class) <= most_bytes:
            batch += items_per_class
        return batch


@dataclass(frozen=True)
class BuildContext:
    """What a loss is built from: its name and settings, the training data's classes, and the keys of recall@k."""

    name: str
    settings: Settings
    classes: int
    embedding_size: int
    recall_at_k: "RecallAtKSettings"
    several_labels: bool = False


@dataclass(frozen=True)
class Entry:
    """A loss of the registry.

    `needs`: "pairs" (all B x B), "triples" (anchor, positive, negative), "equal classes" (as many items of each, and
    all B x B), or "classes" (the number of training classes, for `own_parameters` such as proxies).
    `build` returns a module that is called with embeddings `(B, D)`, labels `(B,)` and `generator=`.
    `settings` are those that a recipe may give, with their defaults: pytorch-metric-learning's, except where a comment
    names another source. Their values are above 0, those named in `may_be_zero` 0 or more.
    `growth` is missing where memory grows no faster than the embeddings, or is streamed.
    `extra` brings what it is built with: pytorch-metric-learning, but for losses of our own.
    `takes_positives`: it can be called with `positives=` in place of labels, where items have several.
    """

    name: str
    paper: str
    needs: Needs
    build: Callable[[BuildContext], "nn.Module"]
    settings: Settings = field(default_factory=dict)
    may_be_zero: tuple[str, ...] = ()
    own_parameters: bool = False
    growth: Growth | None = None
    extra: Extra | None = "compare"
    takes_positives: bool = False


def library_loss(class_name: str) -> Callable[[BuildContext], "nn.Module"]:
    """Return a builder of the loss that pytorch-metric-learning calls `class_name`, from the settings as they are."""

    def build(context: BuildContext) -> "nn.Module":
        from pytorch_metric_learning import losses

        from recallk.losses.library import LibraryLoss

        return LibraryLoss(context.name, getattr(losses, class_name)(**context.settings))

    return build
