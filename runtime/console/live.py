"""What is in memory now: hosts, the aggregates that they hold, and how much each does. Of a running cluster; without
one the page says how to look at one."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from holdfast.journal.records import StreamId

from .console import Console
from .onlooker import View, category_of
from .rendering import rendered

__all__ = ["live_page", "live_piece"]

SHOWN_MAX = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """The aggregates in memory that are shown, and how many more there are."""

    streams: Sequence[StreamId]
    more: int


async def live_page(console: Console, request: Request) -> Response:
    """The page; what changes in it is a piece of its own."""
    view = await console.view()
    return console.page("live.html", "/live", title="Live", view=view, living=await _living(console, view))


async def live_piece(console: Console, request: Request) -> Response:
    """What changes, for the page to put in its place."""
    view = await console.view()
    return rendered(
        "live_now.html", view=view, living=await _living(console, view), cluster=console.onlooker is not None
    )


async def _living(console: Console, view: View) -> Living:
    """Whose page a host's aggregates have is told by its name, and by the categories that the journal has."""
    if not view.joined:
        return Living(streams=(), more=0)
    categories = [each.name for each in await (await console.look()).categories()]
    found = [
        StreamId(category, id)
        for host in view.hosts
        if (category := category_of(host.name, categories))
        for id in host.ids or ()
    ]
    shown = found[:SHOWN_MAX]
    return Living(streams=shown, more=view.total("live") - len(shown))
