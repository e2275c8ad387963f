"""`recallk serve`: a page and an API over a catalogue."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from recallk.cli.catalogues import CATALOGUE, MODEL, opened
from recallk.cli.console import say
from recallk.core.errors import InputError
from recallk.core.files import why

OWN = ("127.0.0.1", "localhost", "::1")


def serve(
    catalogue: Annotated[str, typer.Argument(help=CATALOGUE)],
    host: Annotated[
        str,
        typer.Option(help="address to listen at; at another than the usual one, whoever reaches it can search"),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8000,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="search by the index that recallk index approximate has built")
    ] = False,
    model: Annotated[Path | None, typer.Option(help=MODEL)] = None,
) -> None:
    """Serve a page to search a catalogue with images, and an API for programs."""
    import torch
    import uvicorn

    from recallk.serve.app import make_app

    torch.set_num_threads(1)  # as many searches at a time as there are cores: threads of each would be in the way
    # asked for under another name than its own, it may be somebody's page that would read it through this browser
    hosts = [*OWN, "[::1]"] if host in OWN else ["*"]
    index = opened(catalogue, model)
    if approximate and not index.has_approximate:
        raise InputError(f"{catalogue}: no approximate index in it; make one: recallk index approximate {catalogue}")
    app = make_app(index, hosts, approximate=approximate)
    listening = _listening(host, port)
    shown = f"[{host}]" if ":" in host else host
    say(f"serving   {catalogue}: open http://{shown}:{listening.getsockname()[1]} in a browser; Ctrl-C ends it")
    if host not in OWN:
        say(f"note      whoever reaches {host} can search it: there are no passwords")
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=5, limit_concurrency=1000, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises InputError where the address is taken, or none of this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        raise InputError(f"{host}, port {port}: cannot be listened at ({why(error)}); choose another --port") from None
    return found
