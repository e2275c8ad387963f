"""What a run runs on, in words."""

import platform
from importlib.metadata import version

import torch

from recallk.core import processes


def machine(device: torch.device) -> str:
    """Say in words which machine a device belongs to, and how many processes have one like it."""
    each = f"{processes.count()} processes, each on " if processes.count() > 1 else ""
    if device.type == "cuda":
        return each + torch.cuda.get_device_name(device)
    cores = torch.get_num_threads()
    return f"{each}{cores} CPU {'core' if cores == 1 else 'cores'}, {platform.machine()}"


def versions() -> str:
    """Say in words which versions compute."""
    return f"recallk {version('recallk')}, PyTorch {torch.__version__}"
