"""How large a body may be: longer ones are refused while they come."""

from typing import Any

from starlette.responses import JSONResponse

MOST_BYTES = 20_000_000
"""Of a request: an image of 20 MB."""


class BodyLimit:
    """Refuses requests whose body is too long, whatever they say of its length."""

    def __init__(self, app: Any, most: int = MOST_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and count what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or int(said) > self._most:
            await self._refuse(scope, receive, send)
            return
        taken, answered = 0, False

        async def counted() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise _TooLongError
            return message

        async def sent(message: Any) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, sent)
        except _TooLongError:
            if not answered:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Any, receive: Any, send: Any) -> None:
        told = f"the body is longer than {self._most / 1e6:.0f} MB; scale the image down"
        await JSONResponse({"error": told}, 413, {"connection": "close"})(scope, receive, send)


class _TooLongError(Exception):
    pass
