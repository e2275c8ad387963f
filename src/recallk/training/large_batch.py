"""Batches of any size in the memory of one chunk."""

from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from recallk.training.two_passes import BatchNorm, Embed, LossFunction, two_passes


def large_batch_backward(
    model: nn.Module,
    inputs: Tensor | NDArray[Any] | Iterable[Any],
    labels: Any,
    loss_fn: LossFunction,
    chunk_size: int = 128,
    *,
    batch_norm: BatchNorm = "frozen",
    backward: Callable[[Tensor], None] | None = None,
    activation_memory: float = 0,
    embed: Embed | None = None,
) -> Tensor:
    """Leave in the model's parameters the gradients of the loss of one whole batch; return the detached loss.

    First every chunk is embedded without keeping activations; then the loss of all embeddings is taken and
    differentiated; then every chunk is embedded again, and its part of the gradient is back-propagated. Peak memory
    depends on the chunk, not on the batch. A batch of a single chunk is embedded once, and so are the first chunks of a
    larger one, as far as `activation_memory` goes. Gradients add to those already there.

    The second pass goes as the first: each chunk is read and embedded under the global random states (Python's,
    NumPy's, and PyTorch's on every device of the model) and with the buffers of the first time. In the end states and
    buffers are as if each chunk had been embedded once. Both readings are compared by a checksum, and both
    passes by their embeddings, with room for rounding. After an error the gradients of the model and of the loss, and
    the model's buffers, are what they were before the call.

    In a group of processes, give a `DistributedDataParallel`, and in each process its own rows, one at least, of one
    large batch. Gradients are exchanged once, at the end: the parameters then have the mean over the processes, added
    to what was there. Where the loss gathers embeddings with their gradient, that is what one process with the whole
    batch has. Running statistics are then the same everywhere: those of one process that went through all chunks, in
    the order of the processes; of other buffers that move, the first process's stay. Gradients of the loss's own
    parameters are left to their owner. A process that fails must end: the others then get InputError.

    Args:
        model: turns a chunk into embeddings `(n, D)`, floating-point; some of its parameters require a gradient. Of a
            `DistributedDataParallel` the module inside is called.
        inputs: the batch as a tensor or array `(B, ...)`, or something that can be iterated twice and gives the same
            chunks both times: a list, a data loader. Tensors, also inside lists and dictionaries, are moved to the
            model's device.
        labels: what the loss compares the batch with, in the order of the chunks. Numbers, as a tensor or array
            `(B, ...)` or a list of one entry for each row, reach it as a tensor; anything else as it is: a list of
            strings, a dictionary, tuple or dataclass, None. Tensors, also inside of these, are moved to the
            embeddings' device. A tensor, an array, a list, and a tuple of single values must have one entry for each
            row; nothing else is counted.
        loss_fn: takes embeddings `(B, D)` and the labels, returns a scalar; called once.
        chunk_size: rows of a chunk where `inputs` is a tensor or array; need not divide the batch.
        batch_norm: "frozen" (the paper's way): batch normalisation uses its running statistics, which stay as they
            are; scale and shift are trained. "per-chunk": each chunk is normalised by itself (in training
            mode) and the running statistics move once for each chunk. Nothing is ever normalised over the whole batch.
            Of batch normalisation alone: instance normalisation, in training mode, normalises each row by itself
            under either policy, and its running statistics, if it tracks any, move once for each chunk.
        backward: called with the loss instead of `loss.backward()`; for gradient scaling (`fabric.backward`, or
            `lambda loss: scaler.scale(loss).backward()`). The chunks' gradients are then scaled already.
        activation_memory: bytes in which the first pass may keep activations: as many of the first chunks as fit are
            embedded once, with the same gradients in less time. What is kept is measured and never takes more; while a
            chunk is embedded that turns out not to fit, its own activations come on top of it. The second pass uses up
            what is kept first, and frees it chunk by chunk. `inputs` are read again behind the chunks that are kept, by
            their method `second_reading(kept)` if they have one, which is called for every batch; else they are
            iterated, unless all are kept. Infinity keeps all.
        embed: how a chunk becomes embeddings, instead of `model(chunk)`; called with the model (of a
            `DistributedDataParallel` the module inside) and the chunk on its device. For one that takes keywords, or
            returns more than a tensor: `lambda model, chunk: model(**chunk).pooler_output`.

    Returns:
        The loss, not scaled.

    Raises:
        InputError: where arguments are of the wrong type, the batch is empty, rows and labels differ in number,
            the model returns no embeddings or the loss no scalar, the two readings or the two passes differ, or no
            gradient reaches the embeddings or the parameters.

    Source: the paper, section 3.4, made safe for random layers, layers with a memory and autocast.

    >>> import torch
    >>> from recallk import RecallAtKLoss, large_batch_backward
    >>> model = torch.nn.Linear(16, 4)
    >>> inputs, labels = torch.randn(40, 16), torch.arange(40) // 4
    >>> loss = large_batch_backward(model, inputs, labels, RecallAtKLoss(), chunk_size=10)
    >>> loss.shape, model.weight.grad.shape
    (torch.Size([]), torch.Size([4, 16]))

    """
    return two_passes(
        model,
        inputs,
        labels,
        loss_fn,
        chunk_size,
        batch_norm=batch_norm,
        backward=backward,
        activation_memory=activation_memory,
        embed=embed,
    ).loss
