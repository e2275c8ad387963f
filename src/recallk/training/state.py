"""What a checkpoint holds, as a file that is read without running anything that is in it."""

import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from recallk.core.errors import InputError
from recallk.core.files import read_file, write_file
from recallk.core.text import one_line

VERSION = 2
State = dict[str, Any]
REMEDY = "start the run anew"


def save_state(state: State, path: Path) -> None:
    """Write a checkpoint. Raises InputError, one line, where that cannot be; the one before is then still whole."""

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as file:  # PyTorch's own way of opening takes not every name
            torch.save({"version": VERSION, **state}, file)

    write_file(path, write)


def load_state(path: Path) -> State:
    """Return a checkpoint's state.

    With `epoch`, at least 1, and how many of its `batches` are done; `best`, None or an epoch and the number, finite,
    that it reached.
    Raises InputError, one line, for a damaged, foreign or hostile file.
    """
    return read_file(path, _read, "a checkpoint that is whole", REMEDY)


def restore_module(module: nn.Module, state: Any, what: str, path: Path) -> None:
    """Load a module's state. Raises InputError, one line, where it is that of another architecture."""
    try:
        module.load_state_dict(state)
    except Exception as error:
        raise _differs(path, what, error) from None


def optimizer_state(optimizer: Optimizer) -> State:
    """Return the moments of an optimizer, and the numbers of the parameters that it has stepped.

    Those without a gradient, such as an unused head's, have no moments, and those of float16 none before the first
    step that was not left out: which ones is to be known when the state is read again.
    """
    moments = optimizer.state_dict()["state"]
    return {"state": moments, "stepped": sorted(moments)}


def restore_optimizer(optimizer: Optimizer, state: Any, path: Path) -> None:
    """Load what `optimizer_state` returned; the settings are the configuration's.

    Raises InputError where a moment is missing or does not fit.
    """
    try:
        groups = optimizer.state_dict()["param_groups"]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        trained = [number for number, parameter in enumerate(parameters) if parameter.requires_grad]
        stepped = state["stepped"]
        if set(state["state"]) != set(stepped) or not set(stepped) <= set(trained):
            raise ValueError("moments are missing, or are of other parameters")
        names = _moments_of(optimizer)
        for number, moments in state["state"].items():
            if set(moments) != names:
                raise ValueError(f"parameter {number} has other moments than {', '.join(sorted(names))}")
            for name, moment in moments.items():
                _check_moment(name, moment, parameters[number], f"{name} of parameter {number}")
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    except Exception as error:
        raise _differs(path, "optimizer", error) from None


def _moments_of(optimizer: Optimizer) -> set[str]:
    """Return the names of what an optimizer of this kind remembers of a parameter."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    kind: Any = type(optimizer)
    like = kind([parameter])
    like.step()
    return set(like.state[parameter])


def _check_moment(name: str, moment: Any, parameter: Tensor, what: str) -> None:
    if not isinstance(moment, Tensor) or moment.layout != torch.strided or not moment.is_floating_point():
        raise ValueError(f"{what} is no tensor of floats")
    if moment.shape != (() if name == "step" else parameter.shape):
        raise ValueError(f"{what} has another shape")
    if name == "step" and not 0 <= float(moment) < math.inf:
        raise ValueError(f"{what} is no number of steps")


def restore_scaler(scaler: GradScaler | None, state: Any, path: Path) -> None:
    """Load the scale of the loss, where it is scaled. Raises InputError where the checkpoint holds no sound one."""
    if scaler is not None:
        try:
            own = scaler.state_dict()
            if state.keys() != own.keys():
                raise ValueError("other settings of the scale")
            for name, value in state.items():
                tracker = name == "_growth_tracker"  # steps since the scale was changed: may be 0
                sound = type(value) is type(own[name]) and (value > 0 or (tracker and value == 0))
                if not sound or not bool(torch.isfinite(torch.tensor(value))):
                    raise ValueError(f"{name} is no such number")
            scaler.load_state_dict(state)
        except Exception as error:
            raise _differs(path, "precision", error) from None


def _read(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a format that is then refused, or of none of ours
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its words tell how to load the file all the same
        raise InputError(f"{path}: not a checkpoint that is whole; {REMEDY}") from None
    if not isinstance(state, Mapping) or not {"model", "optimizer", "epoch"} <= state.keys():
        raise InputError(f"{path}: no state of a training; {REMEDY}")
    if state.get("version") != VERSION:
        raise InputError(f"{path}: written by another version of recallk, which alone can go on with it; {REMEDY}")
    for name, least in (("epoch", 1), ("batches", 0)):
        if type(state.get(name)) is not int or state[name] < least:
            raise InputError(f"{path}: its {name} is no number; {REMEDY}")
    match state.get("best"):
        case None:
            best = None
        case (int(epoch), float(reached)) if type(epoch) is int and math.isfinite(reached):
            best = epoch, reached
        case _:
            raise InputError(f"{path}: it does not say which epoch was the best; {REMEDY}")
    return {**state, "best": best}


def _differs(path: Path, what: str, error: Exception) -> InputError:
    return InputError(f"{path}: the state of another {what} ({one_line(error)}); {REMEDY}")
