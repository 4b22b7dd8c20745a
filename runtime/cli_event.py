"""How the command line shows events and plain values: as lines for people, as JSON for programs.

What stands in a journal is whatever its users chose, so nothing of it reaches a terminal as a control sequence; in JSON
such characters are escaped as JSON has it, so that it says the same.
"""

# Values are of any type at all.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import base64
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from holdfast.actors.plain import Difference
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.codec import CodecError
from holdfast.journal.sealed import shown as unsealed

from .cli_report import shown
from .inspection_report import time_of

__all__ = ["difference_lines", "event_line", "event_map", "json_line", "time_text", "value_text"]

ABSENT = "(none)"


def json_line(value: Any) -> str:
    """Any plain value as one line of JSON."""
    text = msgspec.json.encode(_jsonable(value)).decode()
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2))


def _jsonable(value: Any) -> Any:
    """What JSON has no word for becomes text, or a map that says what it is."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else value_text(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, msgspec.msgpack.Ext):
        said = unsealed(value)
        return said if said is not value else {"ext": value.code, "bytes": base64.b64encode(value.data).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return {
            name: _jsonable(each) for name, each in msgspec.structs.asdict(value).items() if each is not msgspec.UNSET
        }
    return value


def value_text(value: Any) -> str:
    """A plain value for people: JSON, with bytes and extensions told by their length, and who sealed ones are of."""
    return ABSENT if value is msgspec.UNSET else shown(msgspec.json.encode(_told(value)).decode())


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {key if isinstance(key, str) else value_text(key): _told(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, msgspec.msgpack.Ext):
        said = unsealed(value)
        return said if said is not value else f"<extension {value.code}, {len(bytes(value.data))} bytes>"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def time_text(time: datetime | None) -> str:
    """In UTC, to the millisecond."""
    return "no time at all" if time is None else f"{time.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def event_map(event: RecordedEvent, differences: Sequence[Difference] | None = None) -> dict[str, Any]:
    """An event with all that is known of it."""
    record = event.record
    found: dict[str, Any] = {
        "stream": str(record.stream),
        "version": event.version,
        "type": event.type,
        "time": time_of(record.recorded_at),
        "partition": event.partition,
        "position": event.position,
        "command_id": record.command_id,
    }
    try:
        context = event.context
        found |= {"correlation_id": context.correlation_id, "causation_id": context.causation_id or None}
        found |= {"metadata": dict(context.metadata), "payload": event.event}
    except CodecError as error:
        found |= {"payload": None, "problem": str(error)}
    if differences is not None:
        found["changes"] = list(differences)
    return found


def event_line(event: RecordedEvent, *, stream: bool = False, width: int = 0) -> str:
    """For people. `stream`: with the stream and the position, for who looks at many. `width`: of the versions."""
    record = event.record
    when = click.style(time_text(time_of(record.recorded_at)), dim=True)
    place = f"{event.version:>{width}}"
    if stream:
        place = f"{event.partition}:{event.position}  {shown(str(record.stream))}@{event.version}"
    try:
        payload, cause = value_text(event.event), event.context.causation_id
    except CodecError as error:
        payload, cause = shown(f"({error})"), ""
    by = click.style(f"by {shown(record.command_id)}" + (f" of {shown(cause)}" if cause else ""), dim=True)
    kind = click.style(shown(event.type), bold=True)
    return f"{place}  {when}  {kind}  {payload}  {by}"


def difference_lines(differences: Iterable[Difference]) -> Iterable[str]:
    """What an event changed, a line for each place."""
    for each in differences:
        before, after = click.style(value_text(each.before), fg="red"), click.style(value_text(each.after), fg="green")
        yield f"{shown(each.path)}: {before} → {after}"
