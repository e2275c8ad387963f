"""What a checkpoint holds, as a file that is read without running anything that is in it."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from recallk.core.errors import InputError
from recallk.core.files import load, write_file
from recallk.core.text import one_line

VERSION = 1
State = dict[str, Any]
_REMEDY = "start the run anew"


def save_state(state: State, path: Path) -> None:
    """Write a checkpoint. Raises InputError, one line, where that cannot be; the one before is then still whole."""

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as file:  # PyTorch's own way of opening takes not every name
            torch.save({"version": VERSION, **state}, file)

    write_file(path, write)


def load_state(path: Path) -> State:
    """Return a checkpoint's state: with `epoch`, at least 1, and `best`, None or an epoch and what it reached.

    Raises InputError, one line, for a damaged, foreign or hostile file.
    """
    return load(path, _read, "a checkpoint that is whole", _REMEDY)


def restore_module(module: nn.Module, state: Any, what: str, path: Path) -> None:
    """Load a module's state. Raises InputError, one line, where it is that of another architecture."""
    try:
        module.load_state_dict(state)
    except Exception as error:
        raise _differs(path, what, error) from None


def restore_optimizer(optimizer: Optimizer, state: Any, path: Path) -> None:
    """Load an optimizer's moments; its settings are the configuration's. Raises InputError where they do not fit."""
    try:
        groups = optimizer.state_dict()["param_groups"]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, moments in state["state"].items():
            for name, moment in moments.items():
                if not isinstance(moment, Tensor) or (moment.ndim and moment.shape != parameters[number].shape):
                    raise ValueError(f"{name} of parameter {number} has another shape")
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    except Exception as error:
        raise _differs(path, "optimizer", error) from None


def restore_scaler(scaler: GradScaler | None, state: Any, path: Path) -> None:
    """Load the scale of the loss, where it is scaled. Raises InputError where the checkpoint holds none."""
    if scaler is not None:
        try:
            scaler.load_state_dict(state)
        except Exception as error:
            raise _differs(path, "precision", error) from None


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors. Raises InputError, one line, where that cannot be."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_file(path, lambda unfinished: save_file(weights, unfinished))


def read_weights(module: nn.Module, path: Path) -> None:
    """Load what `write_weights` wrote. Raises InputError, one line, for a missing, damaged or foreign file."""
    restore_module(module, load(path, load_file, "a file of weights that is whole", _REMEDY), "network", path)


def _read(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a format that is then refused, or of none of ours
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its words tell how to load the file all the same
        raise InputError(f"{path}: not a checkpoint that is whole; {_REMEDY}") from None
    if not isinstance(state, Mapping) or not {"model", "optimizer", "epoch"} <= state.keys():
        raise InputError(f"{path}: no state of a training; {_REMEDY}")
    if state.get("version") != VERSION:
        raise InputError(f"{path}: written by another version of recallk, which alone can go on with it; {_REMEDY}")
    if type(state["epoch"]) is not int or state["epoch"] < 1:
        raise InputError(f"{path}: its epoch is no number; {_REMEDY}")
    match state.get("best"):
        case None:
            best = None
        case (int(epoch), float(reached)):
            best = epoch, reached
        case _:
            raise InputError(f"{path}: it does not say which epoch was the best; {_REMEDY}")
    return {**state, "best": best}


def _differs(path: Path, what: str, error: Exception) -> InputError:
    return InputError(f"{path}: the state of another {what} ({one_line(error)}); {_REMEDY}")
