"""Kafka: a sink that writes to a topic. The only file that touches aiokafka.

Each event is a record, a CloudEvent in binary mode: the value is its data, the headers `ce_…` its attributes, the key
its stream, so that the events of a stream are in one partition of the topic (by Kafka's default partitioner: Java's
murmur2). The producer is idempotent (`acks=all`): what it sends again after a lost answer is not written twice.

A partition gets one record batch at a time, the next when the one before is confirmed. An idempotent producer alone
does not keep the order when a batch is *refused*: a broker that knows nothing of this producer yet takes any first
sequence number, so the second batch could be written without the first.

After a failure the producer is given up and another one made. What its broker had written unheard is then written
again: duplicates with the same `ce_id`, which come after what they repeat.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any

from .cloud_events import CloudEvent
from .errors import EventRefused, MissingExtra, SinkUnavailable
from .sink import Declared, in_lanes

__all__ = ["Kafka"]

_CLOSE_S, _CLOSE_ROUNDS = 5.0, 200


@dataclass
class Kafka(Declared):
    """Writes to a topic, which must be there, or be made by its brokers.

    `servers`: `host:port` of one broker, or of several, separated by commas. `batch_bytes`: of one record batch; below
    the topic's `max.message.bytes`. `timeout_s`: for a batch of events, and for connecting; after that it is given up
    and sent anew. `options`: more of `aiokafka.AIOKafkaProducer`, such as credentials and compression, or a function
    that makes them in the process where it runs. Raises `MissingExtra`, `ValueError`.
    """

    servers: str
    _: KW_ONLY
    topic: str
    batch_bytes: int = 256 << 10
    timeout_s: float = 30.0
    options: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict[str, Any], repr=False)
    _producer: Any = field(default=None, init=False, repr=False, compare=False)
    # Once a broker has said that a batch is too large:
    _batch_bytes: int | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.servers or not self.topic:
            raise ValueError(f"servers and topic must be there: {self!r}")
        if not self.timeout_s > 0 or self.batch_bytes < 1:
            raise ValueError(f"timeout_s must be above 0 and batch_bytes at least 1: {self!r}")
        _driver()

    async def open(self) -> None:
        """Connect, and get a producer id."""
        kafka = _driver()
        settings: dict[str, Any] = {"request_timeout_ms": int(self.timeout_s * 1000), "max_request_size": 64 << 20}
        settings |= self.options() if callable(self.options) else self.options
        settings |= {"bootstrap_servers": self.servers, "enable_idempotence": True, "acks": "all"}
        settings["max_batch_size"] = self._batch_bytes or self.batch_bytes
        self._producer = kafka.AIOKafkaProducer(**settings)
        async with self._in_time():
            await self._producer.start()

    async def send(self, batch: Sequence[CloudEvent]) -> None:
        """See `Sink.send`."""
        async with self._in_time():
            partitions = sorted(await self._producer.partitions_for(self.topic))
        pick = _driver().partitioner.DefaultPartitioner()

        def place(event: CloudEvent) -> int:
            return int(pick(event.stream.encode(), partitions, partitions))

        async def send_lane(lane: Sequence[CloudEvent], done: list[str]) -> None:
            await self._send_lane(place(lane[0]), lane, done)

        lanes: dict[int, list[CloudEvent]] = {}
        for event in batch:
            lanes.setdefault(place(event), []).append(event)
        await in_lanes(repr(self), lanes.values(), send_lane, width=len(lanes))

    async def close(self) -> None:
        """See `Sink.close`. Not by the producer's own `stop`, which waits for what is under way, for ever if the broker
        does not come back: its connections are ended, and then whatever waits for them."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(Exception):
            await producer.client.close()
        sender = producer._sender.sender_task
        if sender is not None:
            sender.cancel()  # it sees its requests end, and these want news of the brokers first
            for _ in range(_CLOSE_ROUNDS):
                news = producer.client._md_update_fut
                if news is not None and not news.done():
                    news.set_result(False)
                if (await asyncio.wait({sender}, timeout=_CLOSE_S / _CLOSE_ROUNDS))[0]:
                    break
        producer._closed = True  # nothing of it is left

    async def _send_lane(self, partition: int, lane: Sequence[CloudEvent], done: list[str]) -> None:
        rest = deque(lane)
        while rest:
            builder, taken = self._producer.create_batch(), list[CloudEvent]()
            while rest and _add(builder, rest[0]):
                taken.append(rest.popleft())
            assert taken, "a record batch takes its first record, however large"
            async with self._in_time(taken):
                await (await self._producer.send_batch(builder, self.topic, partition=partition))
            done.extend(event.id for event in taken)

    @contextlib.asynccontextmanager
    async def _in_time(self, events: Sequence[CloudEvent] = ()) -> AsyncGenerator[None, None]:
        """What aiokafka raises here, or does not do in time, is a problem of the sink. `events`: being sent."""
        errors = _driver().errors
        try:
            async with asyncio.timeout(self.timeout_s):
                yield
        except (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError) as error:
            raise self._too_large(events, _said(error)) from error
        except TimeoutError as error:
            raise SinkUnavailable(repr(self), f"nothing within {self.timeout_s:g} s") from error
        except (errors.KafkaError, OSError) as error:
            raise SinkUnavailable(repr(self), _said(error)) from error

    def _too_large(self, events: Sequence[CloudEvent], said: str) -> EventRefused | SinkUnavailable:
        """A broker takes no record batch of this size: smaller ones from now on, down to one record."""
        if len(events) == 1:
            return EventRefused(repr(self), said, events[0].id)
        self._batch_bytes = max(1, min(self._batch_bytes or self.batch_bytes, sum(e.size for e in events)) // 2)
        return SinkUnavailable(repr(self), f"{said}; smaller batches now, up to {self._batch_bytes} bytes")


def _add(builder: Any, event: CloudEvent) -> bool:
    at = datetime.fromisoformat(event.attributes["time"])
    metadata = builder.append(
        timestamp=int(at.timestamp() * 1000), key=event.stream.encode(), value=event.data, headers=event.headers("ce_")
    )
    return metadata is not None


def _driver() -> Any:
    try:
        import aiokafka.errors  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore
        import aiokafka.partitioner  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore
    except ImportError as error:
        raise MissingExtra("Kafka", "aiokafka", "kafka") from error
    return aiokafka


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
