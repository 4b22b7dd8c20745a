"""The console as an ASGI application: its routes behind its guard. For a server, or for a test."""

import contextlib
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .changes import passivate, rebuild, replay, snapshot
from .console import Console, Page, answering
from .events import event_page, events_page
from .followers import followers_page, followers_piece
from .guard import Guard
from .health import health_page
from .live import live_page, live_piece
from .problems import NoSuchThing
from .rendering import FOLDER
from .streams import streams_page
from .timeline import moment_piece, stream_page

__all__ = ["app_of"]

READING: dict[str, Page] = {
    "/": streams_page,
    "/stream": stream_page,
    "/stream/moment": moment_piece,
    "/events": events_page,
    "/event": event_page,
    "/live": live_page,
    "/live/now": live_piece,
    "/followers": followers_page,
    "/followers/now": followers_piece,
    "/journal": health_page,
}
CHANGING: dict[str, Page] = {
    "/passivate": passivate,
    "/snapshot": snapshot,
    "/rebuild": rebuild,
    "/replay": replay,
}


def app_of(console: Console) -> Starlette:
    """The application of a console. It joins the cluster when it starts, and opens the journal when somebody looks."""
    app = Starlette(
        routes=[
            *(Route(path, answering(page), methods=["GET"]) for path, page in READING.items()),
            *(Route(path, answering(page), methods=["POST"]) for path, page in CHANGING.items()),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
            Route("/{path:path}", answering(_nowhere), methods=["GET", "POST"]),
        ],
        middleware=[
            Middleware(Guard, keys=console.keys, names=tuple(console.names), allow_changes=console.allow_changes)
        ],
        lifespan=_life,
    )
    app.state.console = console
    return app


@contextlib.asynccontextmanager
async def _life(app: Starlette) -> AsyncGenerator[None, None]:
    console: Console = app.state.console
    if console.onlooker is not None:
        console.onlooker.start()
    try:
        yield
    finally:
        if console.onlooker is not None:
            await console.onlooker.close()
        await console.source.close()


async def _nowhere(console: Console, request: Request) -> Response:
    raise NoSuchThing("There is no such page", "The address is not one of this console's.")
