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
    **how: Any,
) -> Tensor:
    """Return what `Embedder.embed` returns of all items, in the first process; nothing, `(0, D)`, in the others.

    The processes embed neighbouring items each. `agree` is called once in each of them before they exchange anything,
    also where an interruption (a BaseException that is no Exception) has ended the embedding early.
    """
    share = processes.share(len(items))
    try:
        embeddings = embedder.embed(items[share.start : share.stop], **how)
    except Exception:
        raise
    except BaseException:
        agree()
        raise
    agree()
    return processes.gather_to_first(embeddings)
