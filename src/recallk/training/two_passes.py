"""Embed twice, back-propagate chunk by chunk: what `large_batch_backward` does."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from numbers import Integral, Real
from typing import Any, Literal, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from recallk.core.devices import to_device
from recallk.core.errors import InputError
from recallk.core.text import brief, one_line
from recallk.training.kept import KeptGraphs
from recallk.training.readings import Passes, Readings, as_chunks
from recallk.training.replay import (
    Buffers,
    Gradients,
    RandomState,
    RandomStates,
    Restorable,
    ending_as_now,
    gradient_leaves,
    undone_on_failure,
)
from recallk.training.targets import as_targets, rows_of
from recallk.training.together import Together

BatchNorm = Literal["frozen", "per-chunk"]
LossFunction = Callable[[Tensor, Any], Tensor]
Embed = Callable[[nn.Module, Any], Tensor]
_END = object()


@dataclass(frozen=True)
class TwoPasses:
    """What came of a batch besides gradients: the loss, detached, and of this process's chunks how many there were."""

    loss: Tensor
    chunks: int
    kept: int
    """So many of them were embedded once only."""


def two_passes(
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
) -> TwoPasses:
    """Do what `large_batch_backward` does, and tell more of it."""
    _check_arguments(model, loss_fn, chunk_size, batch_norm, backward, activation_memory, embed)
    chunks, targets = as_chunks(inputs, chunk_size), as_targets(labels)
    model, in_group = _module_of(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("no parameter of the model is trained: it has none, or all are frozen")
    device = trained[0].device

    random_states, readings = RandomStates(model), Readings()
    with _batch_norm_policy(model, batch_norm), undone_on_failure() as undo:
        buffers, at_start = Buffers(model), random_states.now()
        undo += [buffers, Gradients(trained)]
        together = Together(model) if in_group else None
        read_under, embedded_under = list[RandomState](), list[RandomState]()
        embedded: list[Tensor] = []
        reading = _recorded(iter(chunks), random_states, read_under)
        first_two = list(islice(reading, 2))
        single = len(first_two) == 1
        graphs = KeptGraphs(model, math.inf if single else activation_memory, device)
        undo.append(graphs)

        def embed_once(chunk: Any) -> Tensor:
            chunk = to_device(chunk, device)
            if not single:
                readings.remember(chunk)
            embedded_under.append(random_states.now())
            return _embed(model, chunk, len(embedded), embed)

        # autocast keeps the weights it has cast: without a graph, without a way back to their gradients
        torch.clear_autocast_cache()
        for chunk in _released(first_two, reading):
            if embedded and graphs.open:
                buffers = Buffers(model)  # as the first chunk that is embedded again has to find them
            embedded.append(graphs.embed(chunk, embed_once))
        rows = sum(map(len, embedded))
        if not rows:
            raise InputError("the batch is empty: there is nothing to embed")
        if rows_of(targets) not in (rows, None):
            raise InputError(f"{rows} embeddings and {rows_of(targets)} labels: give one label for each row")
        if len({part.shape[1] for part in embedded}) > 1:
            raise InputError(f"embeddings of {' and '.join(sorted({str(p.shape[1]) for p in embedded}))} dimensions")
        torch.clear_autocast_cache()

        embeddings = torch.cat(embedded).requires_grad_()
        loss = _differentiated(loss_fn, embeddings, to_device(targets, embeddings.device), backward, undo)
        assert embeddings.grad is not None
        sizes = [len(part) for part in embedded]
        gradients = torch.split(embeddings.grad, sizes)
        embedded = list(torch.split(embeddings.detach(), sizes))

        kept, passes = len(graphs), Passes(embeddings)
        with ending_as_now(random_states, model):
            for gradient in gradients[:kept]:
                _backward_kept(graphs.take(), gradient)
            buffers.restore()
            random_states.restore(at_start)
            for number, chunk in enumerate(_read_again(chunks, random_states, read_under, kept), kept):
                chunk = to_device(chunk, device)
                readings.compare(number, chunk)
                random_states.restore(embedded_under[number])
                again, part = _embed(model, chunk, number, embed), embedded[number]
                if again.shape != part.shape:
                    raise InputError(
                        f"chunk {number + 1} gave embeddings {tuple(again.shape)} after {tuple(part.shape)}: the model "
                        f"must turn the same chunk into as many"
                    )
                passes.compare(part, again)
                _backward(again, gradients[number])
            readings.check()
            passes.check()
        if together is not None:
            together.synchronise(len(embedded))
    return TwoPasses(loss, len(embedded), kept)


def _check_arguments(
    model: object,
    loss_fn: object,
    chunk_size: object,
    batch_norm: object,
    backward: object,
    activation_memory: object,
    embed: object,
) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model is of type {type(model).__name__}: an nn.Module is needed")
    if not callable(loss_fn):
        raise InputError(f"loss_fn is of type {type(loss_fn).__name__}: a function of embeddings and labels is needed")
    if backward is not None and not callable(backward):
        raise InputError(f"backward is of type {type(backward).__name__}: a function of the loss is needed")
    if embed is not None and not callable(embed):
        raise InputError(f"embed is of type {type(embed).__name__}: a function of the model and a chunk is needed")
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, Integral) or chunk_size < 1:
        raise InputError(f"chunk_size={brief(chunk_size)}: a whole number is needed, a chunk holds at least 1 row")
    if batch_norm not in get_args(BatchNorm):
        raise InputError(f"batch_norm={brief(batch_norm)} is unknown: choose 'frozen' or 'per-chunk'")
    if (
        isinstance(activation_memory, bool)
        or not isinstance(activation_memory, Real)
        or not float(activation_memory) >= 0
    ):
        raise InputError(f"activation_memory={brief(activation_memory)}: bytes are needed, 0 or more")
    if not torch.is_grad_enabled():
        raise InputError("gradients are switched off here: call it outside of torch.no_grad() and inference_mode()")


def _module_of(model: nn.Module) -> tuple[nn.Module, bool]:
    """Return the module itself, and whether other processes have the same one."""
    if not isinstance(model, DistributedDataParallel):
        return model, False
    if model.process_group is not distributed.group.WORLD:
        raise InputError("the model is in a process group of its own: DistributedDataParallel over all processes works")
    module: nn.Module = model.module
    return module, True


def _recorded(reading: Iterator[Any], random_states: RandomStates, states: list[RandomState]) -> Iterator[Any]:
    """Yield every chunk; write down under which random states it was read."""
    while True:
        state = random_states.now()
        chunk = next(reading, _END)
        if chunk is _END:
            return
        states.append(state)
        yield chunk


def _read_again(chunks: Any, random_states: RandomStates, read_under: list[RandomState], kept: int) -> Iterator[Any]:
    """Yield all chunks but the first ones that are kept, each read under the random states of the first time."""
    skips = hasattr(chunks, "second_reading")
    if kept == len(read_under) and not skips:
        return
    reading = iter(chunks.second_reading(kept) if skips else chunks)
    for number in range(kept if skips else 0, len(read_under)):
        random_states.restore(read_under[number])
        chunk = next(reading, _END)
        if chunk is _END:
            raise InputError(f"the second reading of the inputs gave {number} chunks after {len(read_under)}")
        if number >= kept:
            yield chunk
    if next(reading, _END) is not _END:
        raise InputError("the second reading of the inputs gave more chunks than the first")


def _released(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """Yield all, and hold none: a chunk is freed once it is embedded."""
    while first:
        yield first.pop(0)
    yield from rest


def _embed(model: nn.Module, chunk: Any, number: int, embed: Embed | None) -> Tensor:
    if embed is not None:
        return _checked(embed(model, chunk), "embed")
    try:
        embeddings = model(chunk)
    except (TypeError, AttributeError) as error:
        if isinstance(chunk, Tensor | Mapping):
            raise
        raise InputError(
            f"the model does not take chunk {number + 1}, of type {type(chunk).__name__} ({one_line(error)}): give "
            f"rows as one tensor or array, or a list of such chunks as the model takes"
        ) from error
    return _checked(embeddings, "the model")


def _checked(embeddings: object, who: str) -> Tensor:
    if not isinstance(embeddings, Tensor):
        instead = "" if who == "embed" else "; embed=lambda model, chunk: ... says where it is"
        what = type(embeddings).__name__
        raise InputError(f"{who} returns a {what}: one tensor of embeddings (n, D) is needed{instead}")
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise InputError(
            f"{who} returns {tuple(embeddings.shape)} of {embeddings.dtype}: "
            "floating-point embeddings (n, D) are needed"
        )
    return embeddings


def _differentiated(
    loss_fn: LossFunction,
    embeddings: Tensor,
    targets: Any,
    backward: Callable[[Tensor], None] | None,
    undo: list[Restorable],
) -> Tensor:
    """Return the loss, detached; leave its gradient in the embeddings, and in what else it depends on."""
    loss = loss_fn(embeddings, targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"type {type(loss).__name__}"
        raise InputError(f"the loss is of {what}: a scalar is needed, for the whole batch")
    if not loss.requires_grad:
        raise InputError("the loss does not depend on the embeddings: nothing to learn from")
    undo.append(Gradients(leaf for leaf in gradient_leaves(loss) if leaf is not embeddings))
    if backward is None:
        torch.autograd.backward(loss)
    else:
        backward(loss)
    if embeddings.grad is None:
        raise InputError("the loss gave no gradient to the embeddings: nothing to learn from")
    return loss.detach()


def _backward(embeddings: Tensor, gradient: Tensor) -> None:
    if not embeddings.requires_grad:
        raise InputError("no parameter of the model is trained: the embeddings are detached from them")
    torch.autograd.backward(embeddings, gradient)


def _backward_kept(embeddings: Tensor, gradient: Tensor) -> None:
    try:
        _backward(embeddings, gradient)
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise InputError(
            "the model writes into a buffer that the graph of an earlier chunk needs: let it use a clone, or take "
            "activation_memory=0"
        ) from error


@contextmanager
def _batch_norm_policy(model: nn.Module, policy: BatchNorm) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [layer.training for layer in layers]
    if policy == "frozen":
        for layer in layers:
            layer.eval()
    try:
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.train(mode)
