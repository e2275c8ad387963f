"""What a request asks for, checked: whatever is wrong is one line, and no traceback."""

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from recallk.core.errors import InputError
from recallk.core.text import brief

MOST_RESULTS = 200
"""Of one answer."""
MOST_PAGES = 10_000
"""How far down a list may be read, in items."""
MOST_QUERIES = 8
"""Images, texts and ids of one search."""
_QUERIES = ("id", "text")
_KEYS = ("id", "text", "k", "offset", "where", "image")


class RefusedError(InputError):
    """A request that is not answered, with the status that says so."""

    def __init__(self, told: str, status: int = 400) -> None:
        super().__init__(told)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A search: ids in the catalogue, texts and images (their bytes), how many are wanted, from where on, and where."""

    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    images: tuple[bytes, ...] = field(default=(), repr=False)
    k: int = 24
    offset: int = 0
    where: str | None = None


async def asked(request: Request) -> Asked:
    """Read a search: of a GET from the address; of a POST from a form with images, or from JSON.

    Raises RefusedError.
    """
    if request.method == "GET":
        given = [(key, value) for key, value in request.query_params.multi_items()]
    elif request.headers.get("content-type", "").split(";")[0].strip() == "application/json":
        given = _of_json(await request.body())
    else:
        given = await _of_form(request)
    return await _checked(given)


def _of_json(body: bytes) -> list[tuple[str, Any]]:
    try:
        table = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError("the body is no JSON") from None
    if not isinstance(table, dict):
        raise RefusedError("the body is no object of JSON")
    given = list[tuple[str, Any]]()
    for key, value in table.items():
        several = key in _QUERIES and isinstance(value, list)
        given += [(key, each) for each in value] if several else [(key, value)]
    if any(key == "image" for key, _ in given):
        raise RefusedError("images are sent in a form (multipart/form-data)")
    return given


async def _of_form(request: Request) -> list[tuple[str, Any]]:
    try:
        form = await request.form(max_files=MOST_QUERIES, max_fields=MOST_QUERIES + 8, max_part_size=64 * 1024)
    except (MultiPartException, ClientDisconnect) as error:
        raise RefusedError(f"the form cannot be read ({brief(str(error))})") from None
    except Exception as error:
        if getattr(error, "status_code", None) != 400:
            raise
        raise RefusedError(f"the form cannot be read ({brief(getattr(error, 'detail', ''))})") from None
    return list(form.multi_items())


async def _checked(given: list[tuple[str, Any]]) -> Asked:
    named, images, single = {key: list[str]() for key in _QUERIES}, list[bytes](), dict[str, Any]()
    for key, value in given:
        if key not in _KEYS:
            raise RefusedError(f"unknown key {brief(key)}: one of {', '.join(_KEYS)}")
        if key == "image":
            if not isinstance(value, UploadFile):
                raise RefusedError("image: a file is needed")
            images.append(await value.read())
        elif isinstance(value, UploadFile):
            raise RefusedError(f"{key}: a text is needed, not a file")
        elif key in named:
            if not isinstance(value, str) or not value.strip():
                raise RefusedError(f"{key}={brief(value)}: a text is needed")
            named[key].append(value)
        elif key in single:
            raise RefusedError(f"{key} is given twice")
        else:
            single[key] = value
    ids, texts = (named[key] for key in _QUERIES)
    if not ids and not texts and not images:
        raise RefusedError("no query: give an id, a text or an image")
    if len(ids) + len(texts) + len(images) > MOST_QUERIES:
        raise RefusedError(f"more than {MOST_QUERIES} queries")
    where = single.get("where")
    if where is not None and not isinstance(where, str):
        raise RefusedError(f"where={brief(where)}: a text is needed")
    return Asked(
        tuple(ids),
        tuple(texts),
        tuple(images),
        _number("k", single.get("k", Asked.k), 1, MOST_RESULTS),
        _number("offset", single.get("offset", 0), 0, MOST_PAGES - MOST_RESULTS),
        where if where and where.strip() else None,
    )


def _number(name: str, value: Any, least: int, most: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise RefusedError(f"{name}={brief(value)}: a whole number from {least} to {most:,}")
    if not least <= int(text) <= most:
        raise RefusedError(f"{name}={text}: a whole number from {least} to {most:,}")
    return int(text)
