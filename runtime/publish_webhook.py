"""Webhooks: a sink that posts events to an HTTP server, signed. The only file that touches httpx2.

Each event is one request, a CloudEvent in structured mode; with `batched`, a whole batch is, as a JSON array. What the
answer means:

    2xx                                       it is confirmed
    408, 425, 429, 502, 503, 504, no answer   the server is away or busy: wait for it, as long as `Retry-After` says
    any other 5xx                             it fails at this event: the publisher's policy says how often to try
    anything else, redirections among them    it will never take this event: the policy says what then

Events of one stream are sent one after the other, each when the one before it is confirmed; up to `in_flight` streams
at once. A request's id is its event's, the same each time, so a receiver that keeps those drops what comes again. How
requests are signed, and `verify` for those who receive them: `signature.py`.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from .cloud_events import BATCH_TYPE, EVENT_TYPE, CloudEvent, batch_json
from .errors import EventRefused, MissingExtra, SinkUnavailable
from .signature import Secret, secrets_of, sign
from .sink import Declared, by_stream, in_lanes

__all__ = ["Webhook"]

AWAY = frozenset({408, 425, 429, 502, 503, 504})
ANSWER_BYTES_MAX = 64 << 10
RETRY_AFTER_MOST_S = 3600.0
"""However long a server asks to be left alone, it is asked again after this."""


@dataclass
class Webhook(Declared):
    """Posts events to `url`.

    `secret`: signs them; bytes, or text `whsec_…`; several while one is being replaced. `headers`: sent along, for a
    server that wants a token, say. `batched`: one request for each batch. `timeout_s`: for each request. `in_flight`:
    requests under way at once. `now`: its clock, in seconds since 1970 UTC. Raises `MissingExtra`, `ValueError`.
    """

    url: str
    secret: Secret | Sequence[Secret] = field(repr=False)
    _: KW_ONLY
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    batched: bool = False
    timeout_s: float = 10.0
    in_flight: int = 16
    now: Callable[[], float] = field(default=time.time, repr=False, compare=False)
    _tls: Any = field(default=None, init=False, repr=False, compare=False)
    _client: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"a webhook's url begins with https:// or http://, not {self.url!r}")
        if not self.timeout_s > 0 or self.in_flight < 1:
            raise ValueError(f"timeout_s must be above 0 and in_flight at least 1: {self!r}")
        secrets_of(self.secret)
        _driver()

    async def open(self) -> None:
        """Make ready to connect; the first request does."""
        httpx = _driver()
        if self._tls is None:  # it takes a tenth of a second to read the certificates of this machine: once is enough
            secure = self.url.startswith("https:")
            self._tls = await asyncio.to_thread(httpx.create_ssl_context) if secure else False
        limits = httpx.Limits(max_connections=self.in_flight, max_keepalive_connections=self.in_flight)
        self._client = httpx.AsyncClient(
            timeout=self.timeout_s, limits=limits, verify=self._tls, follow_redirects=False
        )

    async def send(self, batch: Sequence[CloudEvent]) -> None:
        """See `Sink.send`."""
        if not self.batched:
            await in_lanes(repr(self), by_stream(batch), self._send_lane, width=self.in_flight)
            return
        try:
            await self._post(batch)
        except EventRefused:
            if len(batch) == 1:
                raise
            # One of them is refused, and the answer does not say which: they go one by one up to that one.
            await in_lanes(repr(self), [batch], self._send_lane, width=1)

    async def close(self) -> None:
        """See `Sink.close`."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _send_lane(self, lane: Sequence[CloudEvent], done: list[str]) -> None:
        for event in lane:
            await self._post([event])
            done.append(event.id)

    async def _post(self, events: Sequence[CloudEvent]) -> None:
        id, event = _id_of(events), events[0].id if len(events) == 1 else ""
        body = batch_json(events) if self.batched else events[0].json
        headers = {**self.headers, "content-type": BATCH_TYPE if self.batched else EVENT_TYPE}
        headers |= sign(secrets_of(self.secret), id, int(self.now()), body)
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self._answer(body, headers)
        except TimeoutError as error:  # httpx limits the silence between two bytes, and not the whole
            raise SinkUnavailable(repr(self), f"no whole answer within {self.timeout_s:g} s") from error
        except _driver().HTTPError as error:  # no connection, or none any more
            raise SinkUnavailable(repr(self), f"{type(error).__name__}: {error}") from error
        status = int(answer.status_code)
        if 200 <= status < 300:
            return
        problem = f"it answered {status} {answer.reason_phrase}"
        if status in AWAY or status >= 500:
            after_s = _seconds(answer.headers.get("retry-after", ""), self.now())
            raise SinkUnavailable(repr(self), problem, "" if status in AWAY else event, (), after_s)
        raise EventRefused(repr(self), problem, event)

    async def _answer(self, body: bytes, headers: Mapping[str, str]) -> Any:
        """Its status is all that is wanted. What else it says is read, so that the connection is good for the next
        request; not for longer than that is worth it."""
        size = 0
        async with self._client.stream("POST", self.url, content=body, headers=headers) as answer:
            async for some in answer.aiter_raw():
                size += len(some)
                if size > ANSWER_BYTES_MAX:
                    break
        return answer


def _driver() -> Any:
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtra("Webhook", "httpx2", "webhooks") from error
    return httpx2


def _id_of(batch: Sequence[CloudEvent]) -> str:
    """Of a request with several events: the same for the same ones."""
    return batch[0].id if len(batch) == 1 else hashlib.blake2b("".join(e.id for e in batch).encode()).hexdigest()[:32]


def _seconds(retry_after: str, now: float) -> float:
    """What `Retry-After` asks for: seconds, or a date. 0 for one that is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), RETRY_AFTER_MOST_S)
    try:
        at = parsedate_to_datetime(retry_after).timestamp()
    except (ValueError, TypeError):
        return 0.0
    return min(max(at - now, 0.0), RETRY_AFTER_MOST_S)
