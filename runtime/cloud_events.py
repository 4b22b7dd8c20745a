"""CloudEvents 1.0: the envelope in which events leave a journal.

    specversion      1.0
    id               32 hex digits, made from what the journal keeps of the event: the same each time it is published
    source           the context that it comes from: `/holdfast/<namespace>`, unless the publisher says otherwise
    type, subject    the event's name; its stream, `Account/alice`
    eventversion     the version of the event, as `@event` counts it; absent if it is 1
    time             when its command ran, to the microsecond, UTC
    datacontenttype  application/json, or application/vnd.msgpack
    partitionkey     the stream again, by the name that the extension "partitioning" has for it
    sequence         its version in the stream, 19 digits so that text sorts as numbers do (extension "sequence"); of
                     the parts of an older event that was upcast to several, the later ones have `.1`, `.2` … behind it
    correlationid, causationid, commandid    where its command came from (extension "correlation")
    metadata         what the caller added, as JSON text; absent if nothing

The id is no `Account/alice/17`: brokers that drop what they have seen before go by the id alone, and two journals that
write to one broker may both have an `Account/alice`. The command's id is in it, which is drawn at random, and so is
the moment. A journal that is restored, or moved, publishes the same ids again.

Formats: https://github.com/cloudevents/spec (spec.md, formats/json-format.md, extensions/).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from holdfast.actors.context import Context
from holdfast.actors.upcasting import Piece
from holdfast.journal.codec import CodecError, decode_plain
from holdfast.journal.event_types import name_and_version
from holdfast.journal.records import Recorded

__all__ = ["BATCH_TYPE", "EVENT_TYPE", "CloudEvent", "DataFormat", "batch_json", "cloud_event"]

DataFormat: TypeAlias = Literal["json", "msgpack"]

EVENT_TYPE = "application/cloudevents+json; charset=UTF-8"
BATCH_TYPE = "application/cloudevents-batch+json; charset=UTF-8"
JSON, MSGPACK = "application/json", "application/vnd.msgpack"

_json = msgspec.json.Encoder().encode
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What the specification allows in no attribute: control characters, surrogates, and code points that are none."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event in its envelope. `attributes`: all of them but `datacontenttype`, by their names, as text. `data`:
    bytes of the content type."""

    attributes: Mapping[str, str]
    content_type: str
    data: bytes

    @property
    def id(self) -> str:
        """Unique among all events of all journals."""
        return self.attributes["id"]

    @property
    def type(self) -> str:
        """The event's name."""
        return self.attributes["type"]

    @property
    def stream(self) -> str:
        """The stream that it is of; those of one stream must stay in order."""
        return self.attributes["subject"]

    @property
    def category(self) -> str:
        """Of its stream."""
        return self.stream.partition("/")[0]

    @property
    def size(self) -> int:
        """Bytes, roughly, in whatever way it travels."""
        return len(self.data) + sum(len(name) + len(value) for name, value in self.attributes.items())

    @property
    def json(self) -> bytes:
        """All of it as one JSON object: the structured mode."""
        envelope: dict[str, Any] = {**self.attributes, "datacontenttype": self.content_type}
        if self.content_type == JSON:
            envelope["data"] = msgspec.Raw(self.data)
        else:
            envelope["data_base64"] = self.data  # as base64, which is how bytes go into JSON
        return msgspec.json.encode(envelope)

    def headers(self, prefix: str) -> list[tuple[str, bytes]]:
        """The attributes as headers beside the data: the binary mode."""
        named = ((prefix + name, value.encode()) for name, value in self.attributes.items())
        return [*named, ("content-type", self.content_type.encode())]


def cloud_event(
    recorded: Recorded, source: str, data: DataFormat = "json", *, part: int = 0, today: Piece | None = None
) -> CloudEvent:
    """Put an event into its envelope. `today`: what it was upcast to, if it was, of which it is that `part`. Raises
    `CodecError` for one that cannot be: a payload that JSON does not know, a name with a character that no attribute
    may have."""
    type, payload = today or (recorded.type, recorded.payload)
    name, version = name_and_version(type)
    context = Context.decode(recorded.command_id, recorded.recorded_at, recorded.metadata)
    stream = str(recorded.stream)
    attributes = {
        "specversion": "1.0",
        "id": _id(recorded, part),
        "source": source,
        "type": name,
        "subject": stream,
        "time": context.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "partitionkey": stream,
        "sequence": f"{recorded.version:019}" + (f".{part}" if part else ""),
        "commandid": context.command_id,
        "correlationid": context.correlation_id,
    }
    if version > 1:
        attributes["eventversion"] = str(version)
    if context.causation_id:
        attributes["causationid"] = context.causation_id
    if context.metadata:
        attributes["metadata"] = _as_json(context.metadata).decode()
    for name, value in attributes.items():
        if unfit := _UNFIT.search(value):
            raise CodecError(f"{name} of an event", f"{unfit.group()!r} may be in no attribute of a CloudEvent")
    content = payload if data == "msgpack" else _as_json(decode_plain(payload))
    return CloudEvent(attributes=attributes, content_type=_CONTENT[data], data=content)


def batch_json(events: Iterable[CloudEvent]) -> bytes:
    """Several events as one JSON array: the batched mode."""
    return b"[" + b",".join(event.json for event in events) + b"]"


_CONTENT: dict[DataFormat, str] = {"json": JSON, "msgpack": MSGPACK}


def _id(recorded: Recorded, part: int) -> str:
    parts = (*recorded.stream, recorded.version, recorded.command_id, recorded.recorded_at, *((part,) if part else ()))
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).hexdigest()


def _as_json(value: Mapping[str, Any]) -> bytes:
    """Bytes become base64, keys text, and what is no number (NaN, infinity) null, since JSON has none of them."""
    try:
        return _json(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError("payload of an event as JSON", str(error)) from error
