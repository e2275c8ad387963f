"""Pretrained weights: from the caches where they are in one, else from where timm has them, if that answers at all."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.models.preprocessing import timms_entry

CONNECT_SECONDS = 5.0
_LOGGING = frozenset({"timm", "huggingface_hub", "sentence_transformers", "transformers"})
_SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def where_weights_are(backbone: str) -> dict[str, Any]:
    """Return what to lay over timm's configuration of a network so that its weights are read from a cache.

    Empty where they must be fetched, and the place answers. Raises InputError, one line, where it does not:
    the hub's own client would try for a minute.
    """
    _, config = timms_entry(backbone)
    if config is not None and config.file:
        return {}
    if config is None or not config.has_weights:
        raise InputError(f"timm has no weights for {backbone}; start from random ones (--weights none)")
    if config.hf_hub_id:
        cached = _in_hub_cache(config.hf_hub_id, config.hf_hub_filename or "pytorch_model.bin")
        if cached:
            return {"file": cached, "custom_load": False}
    if config.url:
        cached = _in_torch_cache(config.url)
        if cached:
            return {"file": cached}
    _require_answer(backbone, None if config.hf_hub_id else config.url)
    return {}


def not_fetched(backbone: str, why: str) -> InputError:
    """Return the error that says what to do without the pretrained weights."""
    return InputError(
        f"the weights of {backbone} could not be fetched ({why}); without a network, "
        f"give a file (--weights PATH) or start from random ones (--weights none)"
    )


def require_hub() -> None:
    """Raise InputError, one line, where the Hugging Face hub does not answer."""
    from huggingface_hub import constants

    if (why := _no_answer(constants.ENDPOINT)) is not None:
        raise InputError(why)


class _Silence(logging.Filter):
    """Lets nothing through of what one thread logs, be it critical or not."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def quiet() -> Iterator[None]:
    """Keep timm and the hub's client from logging, in this thread, what an error says once."""
    silence = _Silence()  # on every logger: filters are not asked about what loggers below theirs are told
    names = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _LOGGING]
    loggers = [logging.getLogger(name) for name in {*_LOGGING, *names}]
    try:
        for logger in loggers:
            logger.addFilter(silence)
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(silence)


def _in_hub_cache(repository: str, name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    identifier, _, revision = repository.partition("@")
    for candidate in (_SAFE.get(name, str(Path(name).with_suffix(".safetensors"))), name):
        cached = try_to_load_from_cache(identifier, candidate, revision=revision or None)
        if isinstance(cached, str):
            return cached
    return None


def _in_torch_cache(url: str | tuple[str, str]) -> str | None:
    from torch.hub import get_dir

    name = url.rsplit("/", 1)[-1] if isinstance(url, str) else url[1]
    path = Path(get_dir()) / "checkpoints" / name
    return str(path) if path.is_file() else None


def _require_answer(backbone: str, url: str | tuple[str, str] | None) -> None:
    from huggingface_hub import constants

    place = constants.ENDPOINT if url is None else url if isinstance(url, str) else url[0]
    if (why := _no_answer(place)) is not None:
        raise not_fetched(backbone, why)


def _no_answer(place: str) -> str | None:
    """Return why a place does not answer; None where it does, if slowly."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    try:
        with quiet():
            get_session().head(place, timeout=CONNECT_SECONDS)
    except Exception as error:  # of whichever client the hub's package is built on
        if type(error).__name__ != "ReadTimeout":
            return f"{one_line(error)}: {place}"
    return None
