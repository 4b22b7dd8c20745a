"""A Kafka broker for the tests of a producer: as much of the public protocol as an idempotent producer meets.

It answers ApiVersions, Metadata, InitProducerId and Produce, and keeps record batches (magic 2) as a broker does: it
checks their CRC-32C, and their sequence numbers for each producer and partition. A batch that it has among the last
five is not written again and answered with its offset; one that leaves a gap is refused; the first one of a producer
that it does not know may have any number. Written from https://kafka.apache.org/protocol and the description of the
message format there.

`faults`: what goes wrong with the next Produce requests, one each.

    int               that error for every partition of the request; nothing is written
    "lost before"     the connection ends, nothing is written
    "lost after"      it is written, and the connection ends before the answer
    "silent"          it is written, and no answer ever comes
"""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

NO_ERROR, UNKNOWN_TOPIC, NOT_LEADER, TOO_LARGE, OUT_OF_ORDER = 0, 3, 6, 10, 45
UNSUPPORTED_VERSION, CORRUPT, DUPLICATE_SEQUENCE, INVALID_EPOCH = 35, 2, 46, 47
PRODUCE, METADATA, API_VERSIONS, INIT_PRODUCER_ID = 0, 3, 18, 22
SPOKEN = {PRODUCE: (3, 7), METADATA: (0, 5), API_VERSIONS: (0, 1), INIT_PRODUCER_ID: (0, 1)}


@dataclass
class Record:
    """One record, as it was written."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp: int


@dataclass
class Partition:
    """A log, and the last batches of each producer: (first sequence, count, offset)."""

    records: list[Record] = field(default_factory=list)
    producers: dict[tuple[int, int], deque[tuple[int, int, int]]] = field(default_factory=dict)


class Reader:
    """What comes over the wire, in the order in which it does."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data), "a request that is cut short"
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, format: str) -> int:
        return int(struct.unpack(f">{format}", self.take(struct.calcsize(format)))[0])

    def text(self) -> str | None:
        length = self.number("h")
        return None if length < 0 else self.take(length).decode()

    def blob(self) -> bytes | None:
        length = self.number("i")
        return None if length < 0 else self.take(length)

    def varint(self) -> int:
        raw = shift = 0
        while True:
            byte = self.take(1)[0]
            raw |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return (raw >> 1) ^ -(raw & 1)

    def varblob(self) -> bytes | None:
        length = self.varint()
        return None if length < 0 else self.take(length)


class KafkaBroker:
    """One broker, the leader of all partitions of one topic."""

    def __init__(self, topic: str, partitions: int = 1, *, max_message_bytes: int = 1 << 20) -> None:
        self.topic, self.logs = topic, [Partition() for _ in range(partitions)]
        self.max_message_bytes = max_message_bytes
        self.faults: list[int | str] = []
        self.fault: Callable[[], int | str | None] = lambda: self.faults.pop(0) if self.faults else None
        self.produced = self.duplicates = self.gaps = 0
        self._next_producer = 1000
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def records(self) -> list[Record]:
        """Of all partitions, one after the other."""
        return [record for log in self.logs for record in log.records]

    async def start(self) -> None:
        """Listen; again at the same port, with all that was written."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end every connection."""
        assert self._server is not None, "it runs"
        self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                answer = self._answer(Reader(await reader.readexactly(size)))
                if answer is None:
                    return
                if answer:
                    writer.write(struct.pack(">i", len(answer)) + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    def _answer(self, request: Reader) -> bytes | None:
        """Empty: there is none; None: the connection ends."""
        api, version, correlation = request.number("h"), request.number("h"), request.take(4)
        request.text()  # the client's name
        if api == API_VERSIONS:
            return correlation + self._api_versions(version)
        first, last = SPOKEN[api]
        assert first <= version <= last, f"api {api} was not offered in version {version}"
        if api == METADATA:
            return correlation + self._metadata(version)
        if api == INIT_PRODUCER_ID:
            self._next_producer += 1
            return correlation + struct.pack(">ihqh", 0, NO_ERROR, self._next_producer, 0)
        fault = self.fault()
        if fault == "lost before":
            return None
        answer = self._produce(request, version, fault if isinstance(fault, int) else NO_ERROR)
        return {"lost after": None, "silent": b""}.get(str(fault), correlation + answer)

    def _api_versions(self, version: int) -> bytes:
        ranges = b"".join(struct.pack(">hhh", api, *spoken) for api, spoken in SPOKEN.items())
        known = version <= SPOKEN[API_VERSIONS][1]
        answer = struct.pack(">hi", NO_ERROR if known else UNSUPPORTED_VERSION, len(SPOKEN)) + ranges
        return answer + (struct.pack(">i", 0) if version == 1 else b"")

    def _metadata(self, version: int) -> bytes:
        host, port = self.address.split(":")
        broker = struct.pack(">i", 0) + _text(host) + struct.pack(">i", int(port))
        partitions = b"".join(
            struct.pack(">hiiii", NO_ERROR, number, 0, 1, 0)  # one replica: this broker
            + struct.pack(">ii", 1, 0)
            + (struct.pack(">i", 0) if version >= 5 else b"")
            for number in range(len(self.logs))
        )
        topic = struct.pack(">h", NO_ERROR) + _text(self.topic) + (b"\0" if version >= 1 else b"")
        parts = [
            struct.pack(">i", 0) if version >= 3 else b"",
            struct.pack(">i", 1) + broker + (_text(None) if version >= 1 else b""),
            _text("peer") if version >= 2 else b"",
            struct.pack(">i", 0) if version >= 1 else b"",
            struct.pack(">i", 1) + topic + struct.pack(">i", len(self.logs)) + partitions,
        ]
        return b"".join(parts)

    def _produce(self, request: Reader, version: int, error: int) -> bytes:
        request.text()  # a transaction's name
        assert request.number("h") == -1, "acks=all"
        request.number("i")
        topics = []
        for _ in range(request.number("i")):
            name, partitions = request.text(), []
            for _ in range(request.number("i")):
                number, batch = request.number("i"), request.blob() or b""
                known = name == self.topic and number < len(self.logs)
                code, offset = (error, -1) if error else self._append(number, batch) if known else (UNKNOWN_TOPIC, -1)
                partitions.append(
                    struct.pack(">ihqq", number, code, offset, -1) + (struct.pack(">q", 0) if version >= 5 else b"")
                )
            topics.append(_text(name) + struct.pack(">i", len(partitions)) + b"".join(partitions))
        return struct.pack(">i", len(topics)) + b"".join(topics) + struct.pack(">i", 0)

    def _append(self, number: int, batch: bytes) -> tuple[int, int]:
        """One record batch into one log: all of it or nothing."""
        log, reader = self.logs[number], Reader(batch)
        reader.take(8)  # the offset is the broker's to give
        assert reader.number("i") == len(batch) - 12, "one batch for each partition of a request"
        reader.take(4)
        assert reader.number("b") == 2, "magic"
        if reader.number("I") != _crc32c(batch[21:]):
            return CORRUPT, -1
        if len(batch) > self.max_message_bytes:
            return TOO_LARGE, -1
        assert reader.number("h") & 7 == 0, "uncompressed"
        reader.take(4)
        first_timestamp, _ = reader.number("q"), reader.number("q")
        producer, epoch = reader.number("q"), reader.number("h")
        sequence, count = reader.number("i"), reader.number("i")
        assert producer >= 0, "an idempotent producer"
        known = log.producers.get((producer, epoch))
        for kept_sequence, kept_count, kept_offset in known or ():
            if (kept_sequence, kept_count) == (sequence, count):
                self.duplicates += 1
                return NO_ERROR, kept_offset
        if known is not None and sequence != known[-1][0] + known[-1][1]:
            self.gaps += sequence > known[-1][0]
            return (OUT_OF_ORDER if sequence > known[-1][0] else DUPLICATE_SEQUENCE), -1
        offset = len(log.records)
        log.records.extend(_record(reader, first_timestamp) for _ in range(count))
        assert reader.at == len(batch), "nothing after the last record"
        log.producers.setdefault((producer, epoch), deque(maxlen=5)).append((sequence, count, offset))
        self.produced += 1
        return NO_ERROR, offset


@contextlib.asynccontextmanager
async def broker(topic: str = "bank", partitions: int = 1, **how: int) -> AsyncIterator[KafkaBroker]:
    """One that runs."""
    made = KafkaBroker(topic, partitions, **how)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def _record(reader: Reader, first_timestamp: int) -> Record:
    length = reader.varint()
    end = reader.at + length
    reader.take(1)
    timestamp, _ = first_timestamp + reader.varint(), reader.varint()
    key, value = reader.varblob(), reader.varblob()
    headers = {(reader.varblob() or b"").decode(): reader.varblob() or b"" for _ in range(reader.varint())}
    assert reader.at == end, "a record is as long as it says"
    return Record(key, value, headers, timestamp)


def _text(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
