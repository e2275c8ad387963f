"""One option for each key of the configuration, made in one place."""

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.markup import escape

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.data.layout import Layout, parse_columns
from recallk.runs.config import KEYS, fields_of

DIGITS = 9
Overrides = str | bool | None
"""What a person typed for a key: its text, a flag, or nothing."""


def with_config_options(command: Callable[..., None], keys: Collection[str] = tuple(KEYS)) -> Callable[..., None]:
    """Give a command one option for each key of the configuration, or for some, as its `overrides`."""
    own = inspect.signature(command).parameters.values()
    parameters = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    for name in KEYS:
        if name in keys and name != "recipe":  # a command's argument
            kind, annotation = inspect.Parameter.KEYWORD_ONLY, _option(name)
            parameters.append(inspect.Parameter(name, kind, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def given(overrides: dict[str, Overrides]) -> dict[str, Any]:
    """Return the options that were typed; commas make a list where the key takes several values."""
    typed: dict[str, Any] = {}
    for name, text in overrides.items():
        if isinstance(text, str) and _takes_several(KEYS[name].annotation):
            # one value of a key that takes one or several is one
            several = "," in text or not _takes_one(KEYS[name].annotation)
            typed[name] = [part.strip() for part in text.split(",")] if several else text
        elif text is not None:
            typed[name] = text
    return typed


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers, from 1, that a person typed with commas between. Raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) <= DIGITS and int(part) for part in parts):
        raise InputError(f"{option} {text}: whole numbers from 1, with commas between")
    return tuple(map(int, parts))


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Return the numbers that a person typed with commas between. Raises InputError for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: numbers with commas between") from None


def layout_of(columns: str | None, root: Path | None) -> Layout:
    """Return how a table is laid out that `--columns` and `--root` tell of. Raises InputError for what names none."""
    try:
        named = {} if columns is None else parse_columns(columns)
    except ValueError as error:
        raise InputError(f"--columns: {error}") from None
    return Layout(named, None if root is None else user_path(root))


def typed_options(context: typer.Context) -> list[str]:
    """Return the names of the options and arguments that a person typed, those left at their defaults not."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]


def _option(name: str) -> Any:
    typed, fields = f"--{name.replace('_', '-')}", fields_of(name)
    described = dict.fromkeys(field.description for field in fields.values() if field.description)
    choices = dict.fromkeys(choice for field in fields.values() for choice in _choices(field))
    listed = f"({', '.join(choices)})" if choices else ""
    about = escape(" ".join(filter(None, ("; ".join(described), listed, _defaults(fields)))))
    if KEYS[name].annotation in (bool, bool | None):
        return Annotated[bool | None, typer.Option(f"{typed}/--no-{typed[2:]}", help=about, show_default=False)]
    return Annotated[str | None, typer.Option(typed, help=about, show_default=False, metavar="VALUE")]


def _choices(field: FieldInfo) -> list[str]:
    """Return the words that a key takes, where it takes nothing else."""
    annotation = field.annotation
    if get_origin(annotation) is not Literal:  # or nothing: what is left open
        further = [kind for kind in get_args(annotation) if kind is not type(None)]
        annotation = further[0] if len(further) == 1 else None
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _defaults(fields: Mapping[str, FieldInfo]) -> str:
    """Return the defaults in brackets: one where all kinds of items have the same; none where there is no choice."""
    of_kind = {
        kind: _as_typed(field.default)
        for kind, field in fields.items()
        if field.default is not None and field.default is not PydanticUndefined and len(_choices(field)) != 1
    }
    if len(of_kind) < len(fields):  # the others' are in the description
        return f"[{'; '.join(f'of {kind} {default}' for kind, default in of_kind.items())}]" if of_kind else ""
    first, *further = of_kind or [""]
    told = [f"of {kind} {of_kind[kind]}" for kind in further if of_kind[kind] != of_kind[first]]
    return f"[{'; '.join([of_kind[first], *told])}]" if of_kind else ""


def _as_typed(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _takes_several(annotation: object) -> bool:
    return any(get_origin(kind) is tuple for kind in (annotation, *get_args(annotation)))


def _takes_one(annotation: object) -> bool:
    return get_origin(annotation) is not tuple
