"""Files of weights: read without running code, and held against the network before anything is put into it."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.models.fetching import quiet


def read_weights(path: Path, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of PyTorch's (never running code that a pickle may hold).

    Wrappers around them (`state_dict`, `module.`) are taken off. Raises InputError, one line, for any other file.
    """
    return read_file(path, _parse, "a file of weights", remedy)


def fill(network: nn.Module, state: dict[str, Tensor], path: Path, name: str, *, exact: bool) -> None:
    """Put tensors read from a file into a network.

    Where not `exact`, further tensors may be there, and floats may be of another width.
    Raises InputError, one line, where they are not those of the network, or not finite.
    """
    own = network.state_dict()

    def other_number(key: str) -> bool:
        given, wanted = state[key], own[key]
        alike = given.is_floating_point() and wanted.is_floating_point() and not exact
        return given.layout != wanted.layout or not (alike or given.dtype == wanted.dtype)

    needed = [key for key in own if exact or not key.endswith("num_batches_tracked")]
    shared = [key for key in own if key in state]
    checks: tuple[tuple[str, list[str], Callable[[str], bool]], ...] = (
        ("are missing", needed, lambda key: key not in state),
        ("are not of it", list(state) if exact else [], lambda key: key not in own),
        ("have other shapes", shared, lambda key: state[key].shape != own[key].shape),
        ("have another type of number", shared, other_number),
    )
    for what, keys, wrong in checks:
        found = [key for key in keys if wrong(key)]
        if found:
            how = f"{len(found)} of {len(own)} tensors {what}, first {found[0]}"
            damaged = "damaged, or " if exact else ""
            raise InputError(f"{path}: {damaged}weights of another architecture than {name} ({how})")
    broken = [key for key in shared if not torch.isfinite(state[key]).all()]
    if broken:
        raise InputError(
            f"{path}: NaN or infinity in {len(broken)} of {len(own)} tensors, first {broken[0]}; "
            f"it is damaged, or its training diverged: take other weights"
        )
    network.load_state_dict({key: state[key] for key in shared}, strict=False)


def _parse(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        read: dict[str, Tensor] = load_file(path)
        return read
    from timm.models import load_state_dict

    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        state = load_state_dict(str(path), weights_only=True)
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
