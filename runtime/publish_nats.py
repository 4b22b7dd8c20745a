"""NATS JetStream: a sink that publishes to a stream of it. The only file that touches nats-py.

Each event is a message, a CloudEvent in structured mode, under a subject made from `{category}`, `{type}` and `{id}`.
Its `Nats-Msg-Id` is the event's id: what comes again within the stream's window for duplicates (two minutes, unless
the stream says otherwise) is acknowledged, and not stored again.

An event is confirmed when JetStream has acknowledged it. Those of one Holdfast stream are sent one after the other,
each when the one before it is confirmed: a server may refuse one message and take the next. Up to `in_flight` streams
are under way at once, over one connection. A connection that is lost is not mended behind the publisher's back: that
could send late what has been sent again meanwhile.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from .cloud_events import EVENT_TYPE, CloudEvent
from .errors import EventRefused, MissingExtra, SinkUnavailable
from .sink import Declared, by_stream, in_lanes

__all__ = ["Nats"]

TOO_LARGE = 10054  # JetStream's code for a message over the stream's own limit
CLOSE_S = 2.0
_ONE_CONNECTION = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1}
_PLACES = re.compile(r"\{(category|type|id)\}")
_UNFIT = re.compile(r"[\s*>\x00-\x1f\x7f]")


@dataclass
class Nats(Declared):
    """Publishes to JetStream.

    `servers`: one URL, or several of one cluster. `stream`: the JetStream stream that must take the messages.
    `subject`: of a message; it may name `{category}`, `{type}` and `{id}`, in which blanks, `*` and `>` become `_`, and
    so do the dots of an id. `create`: make the stream, with NATS's own defaults, if it is not there. `timeout_s`: for
    each acknowledgement. `in_flight`: messages that wait for one at once. `options`: more of `nats.connect`, such as
    credentials, or a function that makes them in the process where it runs. Raises `MissingExtra`, `ValueError`.
    """

    servers: str | Sequence[str] = field(repr=False)  # may hold a password
    _: KW_ONLY
    stream: str
    subject: str
    create: bool = False
    timeout_s: float = 10.0
    in_flight: int = 256
    options: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict[str, Any], repr=False)
    _lost: Any = field(default=None, init=False, repr=False, compare=False)
    _connection: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain = _PLACES.sub("x", self.subject)
        if not self.stream or not plain or _UNFIT.search(plain) or re.search(r"[{}]", plain):
            problem = "a stream, and a subject without blanks, * and >, that names {category}, {type} and {id} at most"
            raise ValueError(f"Nats wants {problem}, not {self.stream!r} and {self.subject!r}")
        if not self.timeout_s > 0 or self.in_flight < 1:
            raise ValueError(f"timeout_s must be above 0 and in_flight at least 1: {self!r}")
        _driver()

    async def open(self) -> None:
        """Connect, and see that the stream is there."""
        nats = _driver()
        servers = [self.servers] if isinstance(self.servers, str) else list(self.servers)
        more = self.options() if callable(self.options) else self.options
        settings = {**_ONE_CONNECTION, "connect_timeout": self.timeout_s, "error_cb": _ignore, **more}
        lost = self._lost = asyncio.get_running_loop().create_future()

        async def closed() -> None:
            if not lost.done():
                lost.set_result(None)

        try:
            async with asyncio.timeout(self.timeout_s):
                self._connection = await nats.connect(servers, **settings, closed_cb=closed)
                await self._find_stream(nats)
        except (nats.errors.Error, OSError) as error:  # a time-out is an OSError
            raise SinkUnavailable(repr(self), _said(error)) from error

    async def send(self, batch: Sequence[CloudEvent]) -> None:
        """See `Sink.send`. A connection that ends meanwhile ends this: nothing will be acknowledged any more."""
        sending = asyncio.ensure_future(in_lanes(repr(self), by_stream(batch), self._send_lane, width=self.in_flight))
        try:
            await asyncio.wait({sending, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait({sending})
        if sending.cancelled():
            raise SinkUnavailable(repr(self), "the connection is lost")
        sending.result()

    async def close(self) -> None:
        """See `Sink.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may have gone long ago
                await connection.close()

    async def _send_lane(self, lane: Sequence[CloudEvent], done: list[str]) -> None:
        for event in lane:
            await self._publish(event)
            done.append(event.id)

    async def _publish(self, event: CloudEvent) -> None:
        errors = _driver().errors
        headers = {"Nats-Msg-Id": event.id, "Content-Type": EVENT_TYPE}
        context = self._connection.jetstream()
        try:
            await context.publish(
                self._subject_of(event), event.json, timeout=self.timeout_s, stream=self.stream, headers=headers
            )
        except errors.MaxPayloadError as error:
            raise EventRefused(repr(self), "it is over the server's max_payload", event.id) from error
        except (errors.Error, OSError) as error:  # a time-out is an OSError
            if getattr(error, "err_code", None) == TOO_LARGE:
                raise EventRefused(repr(self), _said(error), event.id) from error
            raise SinkUnavailable(repr(self), _said(error)) from error

    async def _find_stream(self, nats: Any) -> None:
        context = self._connection.jetstream(timeout=self.timeout_s)
        try:
            await context.stream_info(self.stream)
        except nats.js.errors.NotFoundError as error:
            if not self.create:
                raise SinkUnavailable(repr(self), "there is no such stream; make it, or say create=True") from error
            await context.add_stream(name=self.stream, subjects=[self._all_subjects])

    @property
    def _all_subjects(self) -> str:
        """What a stream must take to take all of these. A type may be several words, so it ends what is known."""
        known, named, _ = self.subject.partition("{")
        return f"{known.rpartition('.')[0]}.>".lstrip(".") if named else self.subject

    def _subject_of(self, event: CloudEvent) -> str:
        words = {
            "category": event.category,
            "type": event.type,
            "id": event.stream.partition("/")[2].replace(".", "_"),
        }
        filled = _PLACES.sub(lambda place: _UNFIT.sub("_", words[place[1]]), self.subject)
        return ".".join(word or "_" for word in filled.split("."))  # no word of a subject may be empty


def _driver() -> Any:
    try:
        import nats
    except ImportError as error:
        raise MissingExtra("Nats", "nats-py", "nats") from error
    return nats


async def _ignore(error: Exception) -> None:
    """What goes wrong is told where it is waited for; the client would print it as well."""


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
