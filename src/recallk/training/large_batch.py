"""Batches of any size in the memory of one chunk: embed twice, back-propagate chunk by chunk."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, get_args

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recallk.core.errors import InputError

BatchNorm = Literal["frozen", "per-chunk"]
LossFunction = Callable[[Tensor, Tensor], Tensor]


def large_batch_backward(
    model: nn.Module,
    images: Tensor | Iterable[Any],
    labels: Tensor,
    loss_fn: LossFunction,
    chunk_size: int = 128,
    *,
    batch_norm: BatchNorm = "frozen",
    backward: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Leave in the model's parameters the gradients of the loss of one whole batch; return the detached loss.

    First every chunk is embedded without keeping activations; then the loss of all embeddings is taken and
    differentiated; then every chunk is embedded again, under the same random state, and its part of the gradient
    is back-propagated. Peak memory depends on the chunk, not on the batch. A batch of a single chunk is embedded once.
    Gradients add to those already there.

    Args:
        model: turns a chunk into embeddings `(n, D)`.
        images: the batch as a tensor `(B, ...)`, or something that can be iterated twice and gives the same chunks
            both times. Tensors, also inside lists and dictionaries, are moved to the model's device.
        labels: `(B,)`, in the order of the chunks.
        loss_fn: takes embeddings `(B, D)` and labels, returns a scalar; called once.
        chunk_size: rows of a chunk where `images` is a tensor; need not divide the batch.
        batch_norm: "frozen" (the paper's way): batch normalisation uses its running statistics, which stay as they
            are; scale and shift are trained. "per-chunk": each chunk is normalised by itself (in training
            mode) and the running statistics move once for each chunk. Nothing is ever normalised over the whole batch.
        backward: called with the loss instead of `loss.backward()`; for gradient scaling (`fabric.backward`).

    Raises:
        InputError: where chunks and labels do not fit together, the two readings of the chunks differ, or no
            gradient reaches the embeddings or the parameters.

    Source: the paper, section 3.4, made safe for random layers, batch normalisation and autocast.

    """
    if chunk_size < 1:
        raise InputError(f"chunk_size={chunk_size}: a chunk holds at least 1 row")
    if batch_norm not in get_args(BatchNorm):
        raise InputError(f"batch_norm={batch_norm!r} is unknown: choose 'frozen' or 'per-chunk'")
    if isinstance(images, Iterator):
        raise InputError("images can be iterated only once: give a tensor, a list, or an object that starts anew")
    chunks = torch.split(images, chunk_size) if isinstance(images, Tensor) else images
    device = next(model.parameters()).device

    with _batch_norm_policy(model, batch_norm) as keep_statistics:
        states, parts, alone = [], [], False
        for chunk, alone in _told_whether_alone(chunks):
            chunk = move_data_to_device(chunk, device)
            states.append(_random_state(device))
            with torch.set_grad_enabled(alone):
                parts.append(model(chunk))
        if sum(map(len, parts)) != len(labels):
            raise InputError(f"{sum(map(len, parts))} embeddings and {len(labels)} labels: give one label per image")
        # autocast keeps the weights it has cast, here without a way back to their gradients
        torch.clear_autocast_cache()

        embeddings = torch.cat(parts).detach().requires_grad_()
        loss = loss_fn(embeddings, labels.to(device))
        if not loss.requires_grad:
            raise InputError("the loss does not depend on the embeddings: nothing to learn from")
        if backward is None:
            torch.autograd.backward(loss)
        else:
            backward(loss)
        if embeddings.grad is None:
            raise InputError("the loss gave no gradient to the embeddings: nothing to learn from")

        after = _random_state(device)
        gradients = torch.split(embeddings.grad, [len(part) for part in parts])
        if alone:
            _backward(parts[0], gradients[0])
            return loss.detach()
        with keep_statistics():
            repeated = 0
            for chunk in chunks:
                if repeated == len(parts):
                    raise InputError("the second reading of the images gave more chunks than the first")
                chunk = move_data_to_device(chunk, device)
                _restore_random_state(states[repeated], device)
                again = model(chunk)
                if again.shape != parts[repeated].shape:
                    raise InputError(
                        f"chunk {repeated + 1} gave embeddings {tuple(again.shape)} after "
                        f"{tuple(parts[repeated].shape)}: both readings must give the same chunks"
                    )
                _backward(again, gradients[repeated])
                repeated += 1
            if repeated < len(parts):
                raise InputError(f"the second reading of the images gave {repeated} chunks after {len(parts)}")
        _restore_random_state(after, device)
    return loss.detach()


def _told_whether_alone(chunks: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield every chunk, and whether there is no other."""
    reading = iter(chunks)
    begin = list(islice(reading, 2))
    alone = len(begin) == 1
    while begin:
        yield begin.pop(0), alone
    for chunk in reading:
        yield chunk, False


def _backward(embeddings: Tensor, gradient: Tensor) -> None:
    if not embeddings.requires_grad:
        raise InputError("no parameter of the model is trained: all are frozen or detached")
    torch.autograd.backward(embeddings, gradient)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_device = torch.get_device_module(device).get_rng_state(device) if device.type != "cpu" else None
    return torch.get_rng_state(), on_device


def _restore_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(device).set_rng_state(state[1], device)


@contextmanager
def _batch_norm_policy(model: nn.Module, policy: BatchNorm) -> Iterator[Callable[[], Any]]:
    """Apply the policy for both passes; the given context keeps the second from moving the statistics again."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [layer.training for layer in layers]

    @contextmanager
    def keep_statistics() -> Iterator[None]:
        before = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)

    if policy == "frozen":
        for layer in layers:
            layer.eval()
    try:
        yield keep_statistics
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.train(mode)
