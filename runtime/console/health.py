"""The journal's health: its format and size, how far each partition goes, and how far its readers are."""

from starlette.requests import Request
from starlette.responses import Response

from .console import Console

__all__ = ["health_page"]


async def health_page(console: Console, request: Request) -> Response:
    """`?count=1` has what lies beside the events counted, which takes a while where there is much of it."""
    look = await console.look()
    counted = await look.contents() if request.query_params.get("count") == "1" else None
    return console.page("health.html", "/journal", title="Journal", health=await look.health(), contents=counted)
