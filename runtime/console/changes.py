"""What a console may change, if it was started for that: nothing of the journal's events, which nobody can change, but
what lives from them. Each change is one form, sent once, and then the page that it was sent from.

The guard has seen to it that changes are allowed and come from here; each form also carries a token of this console.
"""

import asyncio
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.journal.errors import JournalUnavailable
from holdfast.runtime.errors import NoSuchFollower

from .addresses import field, number, stream_of, with_query
from .console import Console
from .guard import FORM_TOKEN
from .problems import Refused

if TYPE_CHECKING:
    from holdfast.runtime.bystander import Bystander

__all__ = ["passivate", "rebuild", "replay", "snapshot"]

FORM_BYTES_MAX = 16 << 10
PATIENCE_S = 30.0
SEE_OTHER = 303


async def passivate(console: Console, request: Request) -> Response:
    """Send an aggregate out of memory; that writes its snapshot."""
    form = await _form(console, request)
    stream = stream_of(field(form, "of"))
    async with asyncio.timeout(PATIENCE_S):
        left = await _cluster(console).passivate(stream)
    return _back("/stream", of=str(stream), said="left" if left else "not-there")


async def snapshot(console: Console, request: Request) -> Response:
    """Have the journal keep a snapshot of an aggregate as it is now; it is left where it is."""
    form = await _form(console, request)
    stream = stream_of(field(form, "of"))
    cls = console.source.class_of(stream.category)
    if cls is None:
        raise Refused(409, "Its class is not at hand", "A snapshot is made by it: start the console with `--module`.")
    async with asyncio.timeout(PATIENCE_S):
        version = await _cluster(console).snapshot(cls, stream.id)
    return _back("/stream", of=str(stream), said="snapshot" if version else "not-there")


async def rebuild(console: Console, request: Request) -> Response:
    """Have a projection's tables built anew, beside those that serve until they are done."""
    form = await _form(console, request)
    async with asyncio.timeout(PATIENCE_S):
        await _cluster(console).rebuild(field(form, "name"))
    return _back("/followers", said="rebuilding")


async def replay(console: Console, request: Request) -> Response:
    """Have a dead letter handled again."""
    form = await _form(console, request)
    place = number(field(form, "partition"), "a partition"), number(field(form, "position"), "a position")
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _cluster(console).replay(field(form, "name"), *place)
    except (NoSuchFollower, JournalUnavailable, Refused, TimeoutError):
        raise
    except Exception as error:  # whatever its handler raises: it is set aside still
        raise Refused(409, "It failed again", f"{type(error).__name__}: {error}", "It stays set aside.") from error
    return _back("/followers", said="replayed")


async def _form(console: Console, request: Request) -> Mapping[str, str]:
    """The fields of a form of this console. Raises `Refused`."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > FORM_BYTES_MAX:
            raise Refused(413, "Too long", f"A form of this console is at most {FORM_BYTES_MAX} bytes long.")
    form = dict(parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True))
    if not hmac.compare_digest(form.get(FORM_TOKEN, "").encode(), console.keys.form.encode()):
        raise Refused(403, "Not this form", "The form is of an earlier start of the console. Go back and reload it.")
    return form


def _cluster(console: Console) -> "Bystander":
    if console.onlooker is None:
        raise Refused(409, "There is no cluster", "Start the console with `--address` to reach what runs.")
    return console.onlooker.joined


def _back(path: str, **query: object) -> Response:
    return RedirectResponse(with_query(path, **query), SEE_OTHER)
