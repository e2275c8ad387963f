"""Items embedded by all processes of a group, a share each."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from recallk.core import processes
from recallk.models.embedder import Embedder


def embed_together(
    embedder: Embedder,
    items: Sequence[Any],
    *,
    agree: Callable[[], object] = lambda: None,
    advance: Callable[[int], None] = lambda _: None,
    **how: Any,
) -> Tensor:
    """Return what `Embedder.embed` returns of all items, in the first process; nothing, `(0, D)`, in the others.

    The processes embed neighbouring items each. `agree` is called once in each of them before they exchange anything,
    also where a mistake or an interruption has ended the embedding early. `advance` is told how many more of all items
    are done, if the other processes are as far as this one. Raises InputError as `embed`, in all processes alike.
    """
    share = processes.share(len(items))
    with processes.failing_together():
        try:
            embeddings = embedder.embed(
                items[share.start : share.stop], advance=_of_all(advance, len(share), len(items)), **how
            )
        finally:
            agree()
    return processes.gather_to_first(embeddings)


def _of_all(advance: Callable[[int], None], own: int, everyones: int) -> Callable[[int], None]:
    """Return a function that takes how many more of this process's items are done."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        advance(done * everyones // own - before * everyones // own)

    return more
