"""What a run runs on, in words."""

import platform
from importlib.metadata import version

import torch


def machine(device: torch.device) -> str:
    """Say in words which machine a device belongs to."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = torch.get_num_threads()
    return f"{cores} CPU {'core' if cores == 1 else 'cores'}, {platform.machine()}"


def versions() -> str:
    """Say in words which versions compute."""
    return f"recallk {version('recallk')}, PyTorch {torch.__version__}"
