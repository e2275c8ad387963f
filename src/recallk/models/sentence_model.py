"""A model of sentence-transformers, by its name on the Hugging Face hub or from a folder, and never with its code."""

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.files import UNFINISHED, sync, user_path, writing
from recallk.core.text import brief, one_line, shown
from recallk.models.fetching import quiet, require_hub
from recallk.models.preprocessing import is_timms

_AS_TYPED = (".", "~", os.sep)


@dataclass(frozen=True)
class About:
    """What there is to know of a model before it is built: how long its embeddings are, and whether it is static.

    A static one is a table of vectors of tokens, whose mean is the embedding.
    """

    dimension: int
    static: bool


@lru_cache
def about(backbone: str) -> About:
    """Load a model to look at it. Raises InputError as `load_model`."""
    return about_model(load_model(backbone), backbone)


def about_model(model: Any, backbone: str) -> About:
    """Say what a model is. Raises InputError for one that does not embed texts."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    dimension = model.get_embedding_dimension()
    if dimension is None or "text" not in model.modalities:
        modalities = ", ".join(map(str, model.modalities))
        raise InputError(f"backbone={shown(backbone)}: a model of {modalities}, not of texts")
    return About(int(dimension), isinstance(model[0], StaticEmbedding))


def load_model(backbone: str) -> Any:
    """Return a `SentenceTransformer` in float32, on the CPU, that ends with embeddings of unit length.

    `backbone` is a folder, where there is one, or a name on the hub: taken from its cache where it is there as a whole,
    else fetched. Code that comes with a model is never run. Raises MissingExtraError without sentence-transformers, and
    InputError, one line, for a model that there is not, that is damaged or needs code of its own, and without a
    network.
    """
    require("text", "text")
    folder = user_path(backbone)
    if folder.is_dir():
        return load_folder(folder, f"backbone={shown(backbone)}")
    if backbone.startswith(_AS_TYPED) or backbone.count("/") > 1:
        raise InputError(f"backbone={shown(backbone)}: no such folder")
    if is_timms(backbone):
        told = "a network of images; of texts name a model of sentence-transformers, or give its folder"
        raise InputError(f"backbone={shown(backbone)}: {told}")
    name = backbone if "/" in backbone else f"sentence-transformers/{backbone}"
    if _is_cached(name):
        try:
            return _loaded(name, local_files_only=True)
        except Exception:  # something of it is not there: whatever is wrong comes up again
            pass
    try:
        require_hub()
        return _loaded(name, local_files_only=False)
    except Exception as error:
        known = "give its folder, or a name that huggingface.co/models?library=sentence-transformers lists"
        raise InputError(f"backbone={shown(backbone)}: cannot be fetched ({_why(error)}); {known}") from None


def load_folder(folder: Path, what: str) -> Any:
    """Return the model in a folder as `load_model`, without a look at the hub; errors begin with `what`."""
    require("text", "text")
    try:
        return _loaded(str(folder), local_files_only=True)
    except Exception as error:
        told = f"no model of sentence-transformers can be loaded from there ({_why(error)})"
        raise InputError(f"{what}: {told}") from None


def save_model(model: Any, folder: Path) -> None:
    """Write a model into a folder that sentence-transformers loads by itself, each file as a whole.

    Raises InputError, one line, where that cannot be.
    """
    unfinished = folder / f"model.{secrets.token_hex(4)}{UNFINISHED}"
    try:
        with writing(folder), _silent():
            model.save(str(unfinished), create_model_card=False)
            for file in sorted(path for path in unfinished.rglob("*") if path.is_file()):
                place = folder / file.relative_to(unfinished)
                place.parent.mkdir(exist_ok=True)
                sync(file)
                file.replace(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _loaded(name: str, *, local_files_only: bool) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    with _silent():
        model = SentenceTransformer(
            name,
            device="cpu",
            trust_remote_code=False,
            local_files_only=local_files_only,
            model_kwargs={"dtype": torch.float32},
        )
    if not isinstance(model[-1], Normalize):
        model.append(Normalize())
    return model.float().eval()


def projected(model: Any, size: int) -> None:
    """Let a linear layer turn a model's embeddings into some of another size, before they get their unit length."""
    from sentence_transformers.base.modules import Dense, Normalize

    own = int(model.get_embedding_dimension())
    del model[-1]
    model.append(Dense(own, size, bias=False, activation_function=nn.Identity()))
    model.append(Normalize())


def shorten(model: Any, length: int) -> None:
    """Let a model see so many tokens of a text. Raises InputError where it takes fewer, or any number."""
    most = model.get_max_seq_length()
    positions = getattr(model.config, "max_position_embeddings", None)
    if most is None or not hasattr(model[0], "max_seq_length") or most == float("inf"):
        raise InputError(f"max_length={length}: this model takes texts of any length: leave it out")
    if isinstance(positions, int) and length > positions:
        raise InputError(f"max_length={length}: this model has positions for {positions:,} tokens: take fewer")
    model.max_seq_length = length


def _is_cached(name: str) -> bool:
    """Whether it is known from the hub's cache what the model is made of: else parts of it might be taken for all."""
    from huggingface_hub import try_to_load_from_cache

    folder = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    try:
        return try_to_load_from_cache(name, "modules.json", cache_dir=folder) is not None
    except Exception:  # no name that the hub could have
        return False


def _why(error: Exception) -> str:
    """Say in one line what went wrong; what is meant for a programmer is left away."""
    if isinstance(error, InputError):
        return str(error)
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which is not run here"
    first = str(error).strip().split("\n")[0]
    return brief(one_line(error)) if not first else shown(first[:200])


@contextmanager
def _silent() -> Iterator[None]:
    """Keep libraries from writing bars and warnings while they read or write a model."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            if bars:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]
