"""The first page: search streams. Categories with their counts, a filter by category and text, and pages by key, so
that the last one of ten million streams costs as much as the first."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from holdfast.journal.records import StreamId
from holdfast.runtime.inspection import Inspection

from .addresses import stream_of
from .console import Console

__all__ = ["streams_page"]

PAGE = 50
COUNT_S = 1.0
"""Counting what has a text in it looks at every id: after so long the page does without."""


async def streams_page(console: Console, request: Request) -> Response:
    """`?category=`, `?q=` (a text that the id has in it, or `Account/ali`), `?after=` (the last stream before)."""
    query = request.query_params
    q, category = query.get("q", "")[:255], query.get("category", "")
    look = await console.look()
    categories = await look.categories()
    wanted, contains = _asked(q, category, {each.name for each in categories})
    after = stream_of(query["after"]) if query.get("after") else None
    found = await look.streams(category=wanted or None, contains=contains, after=after, limit=PAGE + 1)
    page = found[:PAGE]
    return console.page(
        "streams.html",
        "/",
        title="Streams",
        q=q,
        category=wanted,
        contains=contains,
        categories=categories,
        streams=page,
        count=await _counted(look, wanted, contains),
        further=page[-1].stream if len(found) > PAGE else None,
        continued=after is not None,
        partitions=look.partitions,
    )


def _asked(q: str, category: str, known: set[str]) -> tuple[str, str]:
    """Category and text. Whoever writes `Account/ali` means the category, if there is one of that name."""
    head, slash, rest = q.partition("/")
    return (head, rest) if slash and head in known and category in ("", head) else (category, q)


async def _counted(look: Inspection, category: str, contains: str) -> int | None:
    """How many there are; None if that takes too long to find out."""
    try:
        async with asyncio.timeout(COUNT_S):
            return await look.count(category=category or None, contains=contains)
    except TimeoutError:
        return None


def is_ours(stream: StreamId) -> bool:
    """Whether it is a stream of Holdfast's own, such as the dead letters of a follower."""
    return stream.category.startswith("holdfast.")
