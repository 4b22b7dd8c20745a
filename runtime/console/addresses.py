"""Addresses of the console's pages, and what is read from them.

An id is any text: `..`, `a/b`, `100%`, `?`. In the path of an address browsers and proxies make something else of such
text, whatever it is escaped as, so it always stands in the query, where nobody does.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from holdfast.journal.records import StreamId

__all__ = ["BadAddress", "event_at", "field", "number", "place_of", "stream_at", "stream_of", "with_query"]


class BadAddress(Exception):
    """An address that no page of this console has given out."""


def with_query(path: str, **query: object) -> str:
    """A path with what is not empty of a query."""
    given = {name: str(each) for name, each in query.items() if each not in (None, "")}
    return f"{path}?{urlencode(given, quote_via=quote, safe='')}" if given else path


def stream_at(stream: StreamId, version: int | None = None) -> str:
    """Of the page of a stream, at one of its versions."""
    return with_query("/stream", of=str(stream), version=version)


def event_at(partition: int, position: int) -> str:
    """Of the page of an event."""
    return with_query("/event", at=f"{partition}:{position}")


def stream_of(text: str) -> StreamId:
    """The stream that is written `Account/alice`. Raises `BadAddress`."""
    category, slash, id = text.partition("/")
    if not (category and slash and id):
        raise BadAddress(f"a stream is written category/id, not {text!r}")
    return StreamId(category, id)


def place_of(text: str) -> tuple[int, int]:
    """Partition and position of an event, written `0:17`. Raises `BadAddress`."""
    partition, _, position = text.partition(":")
    return number(partition, "a partition"), number(position, "a position")


def number(text: str, what: str) -> int:
    """Digits, and not too many of them for a journal to count to. Raises `BadAddress`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadAddress(f"{what} is a number, not {text!r}")
    return int(text)


def field(query: Mapping[str, str], name: str) -> str:
    """What a query has under a name. Raises `BadAddress` if it has nothing."""
    if not (found := query.get(name, "")):
        raise BadAddress(f"the address has no {name!r}")
    return found
