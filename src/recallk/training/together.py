"""One model in several processes, each with chunks of one batch: what they agree on after the backward pass."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from recallk.core import processes
from recallk.core.errors import InputError

AT_A_TIME = 2**26
"""Bytes that are copied into one flat tensor, to be exchanged at once."""


class Together:
    """A module before its gradients are computed, in each of the processes; `synchronise` is called after that.

    Gradients that are there are set aside, and added to in the end. The module must be the same in all processes.
    Where this process is alone, nothing is done. Raises InputError for synchronised batch normalisation that is in
    training mode: it would exchange something in every chunk.
    """

    def __init__(self, module: nn.Module) -> None:
        if processes.is_alone():
            return
        layers = list(module.modules())
        if any(isinstance(layer, nn.SyncBatchNorm) and layer.training for layer in layers):
            raise InputError("SyncBatchNorm exchanges something in every chunk: take BatchNorm, or batch_norm='frozen'")
        tracking = [x for x in layers if isinstance(x, _NormBase) and x.training and x.running_mean is not None]
        self._statistics = [_Statistics(layer) for layer in tracking]
        self._others = [
            (layer, name, buffer.detach().clone())
            for layer in layers
            if not isinstance(layer, _NormBase)
            for name, buffer in layer._buffers.items()
            if buffer is not None
        ]
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._device = self._parameters[0].device if self._parameters else torch.device("cpu")
        self._set_aside = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def synchronise(self, chunks: int) -> None:
        """Agree with the other processes, all of which call this; `chunks` is how many this one embedded.

        New gradients become the mean over the processes, where one that has none counts as 0; a parameter that has none
        anywhere gets none. Running statistics become those of one process that went through all chunks, in the order of
        the processes. Other buffers, if they moved, become the first process's. Raises InputError where a process is
        gone.
        """
        if processes.is_alone():
            return
        trained = [parameter.grad is not None for parameter in self._parameters]
        moved = [not torch.equal(layer._buffers[name], before) for layer, name, before in self._others]  # type: ignore[arg-type]
        updates = [statistics.updates(chunks) for statistics in self._statistics]
        earlier = [statistics.earlier for statistics in self._statistics]
        facts = processes.gather(torch.tensor([[*trained, *moved, *updates, *earlier]], device=self._device)).cpu()
        trained_there, moved_there, updates_there, earlier_there = torch.split(
            facts, [len(trained), len(moved), len(updates), len(earlier)], dim=1
        )
        self._average(trained_there.any(0).tolist())
        self._merge(updates_there.T.tolist(), earlier_there[0].tolist())
        anywhere = moved_there.any(0).tolist()
        buffers = [
            layer._buffers[name] for (layer, name, _), is_so in zip(self._others, anywhere, strict=True) if is_so
        ]
        processes.copy_first([buffer for buffer in buffers if buffer is not None])

    def _average(self, trained: list[bool]) -> None:
        new: list[Tensor] = []
        for parameter, is_trained in zip(self._parameters, trained, strict=True):
            if is_trained:
                own = parameter.grad
                parameter.grad = torch.zeros_like(parameter) if own is None else own.to_dense()
                new.append(parameter.grad.div_(processes.count()))
        _add_up(new)
        for parameter, earlier in zip(self._parameters, self._set_aside, strict=True):
            if earlier is not None:
                parameter.grad = earlier if parameter.grad is None else earlier.add_(parameter.grad)

    def _merge(self, updates: list[list[int]], earlier: list[int]) -> None:
        parts: list[tuple[Tensor, Tensor]] = []
        for statistics, of_processes, before in zip(self._statistics, updates, earlier, strict=True):
            if any(of_processes):
                parts += statistics.parts(of_processes, before)
        _add_up([part for _, part in parts])
        for buffer, merged in parts:
            buffer.copy_(merged)


class _Statistics:
    """The running statistics of a layer that normalises, and what they were before the chunks."""

    def __init__(self, layer: _NormBase) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        self._layer, self._buffers = layer, [layer.running_mean, layer.running_var]
        self._before = [buffer.detach().clone() for buffer in self._buffers]
        self.earlier = self._tracked
        """How many chunks the layer had seen before, if it counts them; else 0."""

    @property
    def _tracked(self) -> int:
        counter = self._layer.num_batches_tracked
        return 0 if counter is None else int(counter)

    def updates(self, chunks: int) -> int:
        """Return how often this process has moved the statistics, `chunks` times where the layer does not count it."""
        if isinstance(self._layer, _BatchNorm) and self._layer.num_batches_tracked is not None:
            return self._tracked - self.earlier
        return 0 if all(map(torch.equal, self._buffers, self._before)) else chunks

    def parts(self, updates: Sequence[int], earlier: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each buffer, and this process's part of the sum that it becomes.

        `updates` of all processes. An update is linear: it multiplies a statistic by 1 - momentum and adds something
        of the chunk; without a momentum it is the mean over all chunks. So what a process added is known from its
        statistics before and after, and how much is left of that from the updates that come behind.
        """
        own = processes.number()
        momentum = self._layer.momentum
        if momentum is None and isinstance(self._layer, _BatchNorm):
            every = earlier + sum(updates)
            left, left_of_before = (earlier + updates[own]) / every, earlier / every
        else:
            kept = 1 - (momentum or 0.0)
            left, left_of_before = kept ** sum(updates[own + 1 :]), kept ** sum(updates[own:])
        if processes.is_first():
            left_of_before = 0.0  # what was there before counts once
        for buffer, before in zip(self._buffers, self._before, strict=True):
            yield buffer, left * buffer - left_of_before * before
        counter = self._layer.num_batches_tracked
        if counter is not None:
            yield counter, counter.clone() if processes.is_first() else counter - self.earlier


def _add_up(tensors: list[Tensor]) -> None:
    """Replace tensors by their sums over the processes, many in one exchange."""
    for group in _groups(tensors):
        flat = processes.add_up(torch.cat([tensor.reshape(-1) for tensor in group]))
        for tensor, total in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(total.view_as(tensor))


def _groups(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield tensors that are alike in dtype and device, as many together as may be copied at a time."""
    for kind in dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors):
        group, size = list[Tensor](), 0
        for tensor in tensors:
            if (tensor.dtype, tensor.device) == kind:
                if group and size + tensor.nbytes > AT_A_TIME:
                    yield group
                    group, size = [], 0
                group.append(tensor)
                size += tensor.nbytes
        yield group
