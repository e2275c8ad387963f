"""What is done to a training image besides its crop: by name, or by torchvision's transforms with their settings."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import brief, one_line
from recallk.core.yaml_files import read_table

if TYPE_CHECKING:  # a configuration is read without PyTorch
    from torch import Tensor

    View = Callable[[Tensor], Tensor]

AugmentName = Literal["none", "standard", "strong"]
Transforms = dict[str, dict[str, Any]]
"""By the name of a class of torchvision.transforms.v2, in the order in which they are applied, its arguments."""

NAMES: tuple[AugmentName, ...] = ("none", "standard", "strong")
STRONG: Transforms = {"RandAugment": {}, "RandomErasing": {"p": 0.25}}
"""Two of torchvision's operations of usual strength, then a rectangle of a quarter of the images made black."""

_TRIALS = 8  # of a transform that may change what it gives from one image to the next


def written(value: object) -> object:
    """Return an augmentation as it was written: a name, or the transforms that a YAML file or a table lists.

    Raises ValueError, in words, for a transform that torchvision has not, or that gives no image of the same size, and
    for arguments that no file could hold, such as functions.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and value.lower().endswith((".yaml", ".yml")):
        value = read_table(user_path(value), "YAML with a table of transforms", "correct it")
    if isinstance(value, str) and value in NAMES:
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"choose {', '.join(NAMES)}, or a YAML file such as `ColorJitter: {{brightness: 0.4}}`")
    transforms = {name: {} if arguments is None else arguments for name, arguments in value.items()}
    try:  # as a file would hold them: a run writes them down
        transforms = json.loads(json.dumps(transforms, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("arguments are numbers, texts, true, false, or lists of them") from None
    for name, arguments in transforms.items():
        _try_out(name, arguments)
    return transforms


def made(augment: AugmentName | Transforms) -> "Sequence[View]":
    """Return what `vary` applies."""
    transforms = STRONG if augment == "strong" else {} if isinstance(augment, str) else augment
    return [_transform(name, arguments) for name, arguments in transforms.items()]


def vary(view: "Tensor", transforms: "Sequence[View]") -> "Tensor":
    """Return a view `(3, H, W)` uint8 after the transforms, drawn from PyTorch's random numbers.

    Raises InputError where they change its size or type: one that resizes, to the size that it was tried out with.
    """
    varied = view
    for transform in transforms:
        varied = transform(varied)
    if varied.shape != view.shape or varied.dtype != view.dtype:
        raise InputError(f"augment: the transforms make {_told(varied)} of {_told(view)}, which must stay as it is")
    return varied


def _told(view: "Tensor") -> str:
    return f"{str(view.dtype).removeprefix('torch.')} {tuple(view.shape)}"


def _transform(name: str, arguments: Mapping[str, Any]) -> "View":
    from torchvision.transforms import v2  # takes seconds, and vectors have no need of it

    transform: View = getattr(v2, name)(**arguments)
    return transform


def _try_out(name: object, arguments: object) -> None:
    import torch
    from torchvision.transforms import v2

    kind = getattr(v2, str(name), None)
    if not isinstance(name, str) or not isinstance(kind, type) or not issubclass(kind, v2.Transform):
        raise ValueError(f"{brief(name)} is no transform of torchvision.transforms.v2")
    if not isinstance(arguments, Mapping):
        raise ValueError(f"of {name} a table of arguments is needed, such as {{p: 0.5}}, not {brief(arguments)}")
    image = torch.arange(3 * 48 * 64).reshape(3, 48, 64).to(torch.uint8)
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)  # what is taken today is taken tomorrow
    try:
        transform: Any = _transform(name, arguments)
        if isinstance(getattr(transform, "p", None), float | int):
            transform.p = 1.0  # what it does now and then is what matters
        views = [transform(image) for _ in range(_TRIALS)]
    except Exception as error:  # whatever a transform of theirs raises for arguments that it does not take
        raise ValueError(f"the transform {name} does not work ({type(error).__name__}: {one_line(error)})") from None
    finally:
        torch.set_rng_state(state)
    for view in views:
        if not isinstance(view, torch.Tensor) or view.shape != image.shape or view.dtype != image.dtype:
            gives = _told(view) if isinstance(view, torch.Tensor) else type(view).__name__
            raise ValueError(f"the transform {name} makes {gives} of {_told(image)}, which must stay as it is")
