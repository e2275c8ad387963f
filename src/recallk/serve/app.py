"""The page and the API over a catalogue, as a Starlette application."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from threading import Lock
from typing import Any
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from recallk.catalogue.found import Hit, plain
from recallk.catalogue.index import Index
from recallk.catalogue.qdrant import AwayError
from recallk.catalogue.remote import Remote
from recallk.core.cores import own_cores
from recallk.core.errors import InputError
from recallk.data.images import read_bytes
from recallk.data.texts import Text
from recallk.models.image_embedder import ImageEmbedder
from recallk.reporting.pictures import thumbnail
from recallk.serve.gathered import Gathered, Waiting
from recallk.serve.limits import BodyLimit
from recallk.serve.openapi import DESCRIPTION
from recallk.serve.requests import Asked, RefusedError, asked

SIDES = (192, 768)
"""Of pictures, in pixels: one in a list, one that is looked at."""
MOST_PIXELS = 50_000_000
"""Of an image that is sent."""
log = logging.getLogger("recallk")
_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Served:
    """A catalogue that is served: as it is on the disk at the time of a request."""

    def __init__(self, index: Index | Remote) -> None:
        self._index, self._lock = index, Lock()
        if isinstance(index, Index):
            embedder = index.embedder  # a damaged model is told at the start
            if isinstance(embedder, ImageEmbedder):
                embedder.speed_up(compile_it=False, channels_last=True)

    def now(self) -> Index | Remote:
        """Return the catalogue as it is; who has asked before goes on with what it was."""
        with self._lock:
            self._index = self._index.refreshed()
            return self._index


def make_app(index: Index | Remote, hosts: list[str], *, approximate: bool = False) -> Starlette:
    """Return the application over a catalogue; `hosts` are the names under which it may be asked for.

    With `approximate` it searches by the catalogue's index for that, and exactly while a change has dropped it.
    """
    served, at_once = Served(index), CapacityLimiter(own_cores())  # searches: more would only wait for each other

    async def work(compute: Callable[[], Any]) -> Any:
        return await to_thread.run_sync(compute, limiter=at_once)

    searched = Gathered[Search](lambda waiting: _answer(served.now(), waiting, approximate), at_once)

    async def search(request: Request) -> Response:
        what = await asked(request)
        return JSONResponse(await searched(await work(lambda: _read(what))))

    async def item(request: Request) -> Response:
        return JSONResponse(await work(lambda: _told(_item(served.now(), request.path_params["name"]))))

    async def picture(request: Request) -> Response:
        side = request.query_params.get("side", str(SIDES[0]))
        if side not in map(str, SIDES):
            raise RefusedError(f"side: one of {' and '.join(map(str, SIDES))}")
        name = request.path_params["name"]
        content = await work(lambda: _picture(_item(served.now(), name), int(side)))
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=60"})

    async def about(_: Request) -> Response:
        return JSONResponse(await work(lambda: _about(served.now())))

    async def page(_: Request) -> Response:
        return Response(_file("page.html"), media_type="text/html")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            raise HTTPException(404)
        return Response(_file(name), media_type=_FILES[name])

    async def description(_: Request) -> Response:
        return JSONResponse(DESCRIPTION)

    async def icon(_: Request) -> Response:
        return Response(status_code=204)

    async def api(_: Request) -> Response:
        return Response(_file("api.html"), media_type="text/html")

    routes = [
        Route("/", page),
        Route("/search", search, methods=["GET", "POST"]),
        Route("/items/{name:path}", item),
        Route("/pictures/{name:path}", picture),
        Route("/about", about),
        Route("/openapi.json", description),
        Route("/api", api),
        Route("/static/{name}", file),
        Route("/favicon.ico", icon),  # which browsers ask for by themselves
    ]
    middleware = [
        Middleware(_Headers),
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(BodyLimit),
    ]
    handlers: dict[Any, Callable[..., Any]] = {InputError: _refused, HTTPException: _http, Exception: _failed}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


def _about(index: Index | Remote) -> dict[str, Any]:
    return {"name": index.name, "items": len(index), "columns": list(index.columns), "of": index.noun}


@dataclass(frozen=True)
class Search:
    """What is asked for, and its queries: ids, texts, and images as they are decoded."""

    what: Asked
    queries: list[str | Text | Image.Image]

    @property
    def end(self) -> int:
        """Up to which place of the list is asked for."""
        return self.what.offset + self.what.k


def _read(what: Asked) -> Search:
    """Decode the images that were sent."""
    texts = (Text(text, number) for number, text in enumerate(what.texts))  # whatever ids there are
    return Search(what, [*what.ids, *texts, *(_decoded(content) for content in what.images)])


def _answer(index: Index | Remote, waiting: Sequence[Waiting[Search]], approximate: bool = False) -> None:
    """Answer searches: in one go those of one query each under the same condition."""
    alike: dict[Any, list[Waiting[Search]]] = {}
    for number, each in enumerate(waiting):
        alone = len(each.search.queries) > 1
        alike.setdefault((number,) if alone else each.search.what.where, []).append(each)
    for some in alike.values():
        try:
            _answer_together(index, some, approximate)
        except Exception as failed:
            if len(some) == 1 or isinstance(failed, AwayError):
                for each in some:
                    each.error = failed
                continue
            for each in some:  # one of them fails: which one is seen when each is alone
                try:
                    _answer_together(index, [each], approximate)
                except Exception as error:
                    each.error = error


def _answer_together(index: Index | Remote, some: Sequence[Waiting[Search]], approximate: bool) -> None:
    """Search for some that stand under one condition, of one query each or one of several."""
    for each in some:
        for given, noun in ((each.search.what.images, "images"), (each.search.what.texts, "texts")):
            if given and index.noun != noun:
                raise RefusedError(f"the catalogue is of {index.noun}, and these are {noun}: search by an id")
        for name in each.search.what.ids:
            _item(index, name)  # what is no id, in what is searched, would be taken for a file
    queries = [query for each in some for query in each.search.queries]
    most = max(each.search.end for each in some) + 1  # one more shows whether there are more
    found = index.search(
        queries,
        most,
        where=some[0].search.what.where,
        together=len(queries) > len(some),
        approximate=approximate and index.has_approximate,
    )
    if len(some) > 1 and min(map(len, found.hits)) < most:  # as many as the one with the fewest: each by itself then
        for each in some:
            _answer_together(index, [each], approximate)
        return
    for each, hits in zip(some, found.hits, strict=True):
        what, end = each.search.what, each.search.end
        results = [_told(hit) for hit in hits[what.offset : end]]
        each.answer = {"results": results, "offset": what.offset, "more": len(hits) > end}


def _item(index: Index | Remote, name: str) -> Hit:
    try:
        return index.hit(name)
    except AwayError:
        raise
    except InputError as error:
        raise RefusedError(str(error).removeprefix(f"{index.place}: "), 404) from None


def _told(hit: Hit) -> dict[str, Any]:
    """Return an item as it is sent: where its image lies on the disk is nobody's business."""
    known = {name: plain(value) for name, value in hit.known.items() if name != "image"}
    shown = None if hit.image is None else f"/pictures/{quote(hit.id, safe='')}"
    return {**known, "similarity": round(hit.similarity, 6), "picture": shown}


def _picture(hit: Hit, side: int) -> bytes:
    if hit.image is None:
        raise RefusedError("the item has no image", 404)
    try:
        return thumbnail(hit.image, side)
    except InputError:
        raise RefusedError("the image of the item cannot be read any more", 404) from None


def _decoded(content: bytes) -> Image.Image:
    """Decode an image that was sent, as safely as one from the disk. Raises RefusedError."""
    try:
        return read_bytes(content, MOST_PIXELS)
    except InputError as error:
        raise RefusedError(f"the image that was sent: {error}", 415) from None


def _file(name: str) -> bytes:
    return (files("recallk.serve") / name).read_bytes()


class _Headers:
    """Says in each answer what a browser may do with it: nothing from elsewhere, and no scripts but the page's own."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = message | {"headers": [*message.get("headers", []), *own]}
            await send(message)

        await self._app(scope, receive, sent)


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 503 if isinstance(error, AwayError) else 400
    return JSONResponse({"error": str(error)}, status)


async def _http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    told = {404: "nothing is here: see /api", 405: "not asked for in this way: see /api"}
    return JSONResponse({"error": told.get(status, "refused: see /api")}, status)


async def _failed(_: Request, error: Exception) -> Response:
    log.error("a request failed: %r", error)
    return JSONResponse({"error": "a mistake of the server's: its log says more"}, 500)
