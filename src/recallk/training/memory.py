"""What memory is free on a device, and what items leave on it."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from recallk.core.devices import to_device
from recallk.models.embedder import Embedder, evaluating

MARGIN_ON_GPU = 0.1
"""Share of the free memory that is left: fragments, and what other programs take later."""
_OF_THE_SYSTEM = Path("/proc/meminfo")


def memory_of(device: torch.device) -> int:
    """Return the bytes that a device has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free: on CUDA with those that PyTorch holds unused; on a CPU as Linux says, or all."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if _OF_THE_SYSTEM.is_file():
        for line in _OF_THE_SYSTEM.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return memory_of(device)


def left_by_an_item(embedder: Embedder, fabric: Fabric) -> int:
    """Return the bytes that an item leaves behind for the backward pass: what two leave, beyond what one leaves."""
    return max(0, _left_behind(embedder, fabric, 2) - _left_behind(embedder, fabric, 1))


def _left_behind(embedder: Embedder, fabric: Fabric, items: int) -> int:
    """Return the bytes that a forward pass of some items leaves, the parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in embedder.parameters()}
    held: dict[int, int] = {}

    def hold(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    chunk = to_device(embedder.example(items), fabric.device)
    with (
        evaluating(embedder),  # one item is too few for batch norm in training
        torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor),
        fabric.autocast(),
    ):
        embeddings = embedder(chunk)
    del embeddings
    return sum(held.values())
