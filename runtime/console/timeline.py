"""One aggregate's timeline: its events, a slider over its versions, the state at each and what each event changed.

However long a stream is, a page holds `WINDOW` of its events: those around the version that is looked at. What is
damaged is shown in its place, and what stands before and after it as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from holdfast.actors.errors import HydrationFailed
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.errors import CodecError, CorruptRecord
from holdfast.journal.records import StreamId
from holdfast.runtime.inspection import Inspection
from holdfast.runtime.inspection_report import Change

from .addresses import field, number, stream_of
from .console import Console
from .problems import NoSuchThing
from .rendering import rendered
from .shown import Row, rows_of
from .streams import is_ours

__all__ = ["Damage", "Moment", "fields_of", "moment_at", "moment_piece", "stream_page"]

WINDOW = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A version of which there is no event to show, and why."""

    version: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A stream at one of its versions.

    `window`: the events around it, and what stands in the place of those that cannot be read. `change`: the event that
    made this version; None for version 0 and for one that is damaged. `fields`: of that event. `state`: as an outline;
    None where there is none, and then `why` says why not. `snapshot_version`: what the state was made from;
    `has_blanks`: where personal data would be."""

    stream: StreamId
    version: int
    head: int
    window: Sequence[Change | Damage]
    change: Change | None
    fields: Sequence[Row]
    fields_problem: str
    state: Sequence[Row] | None
    why: str
    snapshot_version: int = 0
    rows_read: int = 0
    has_blanks: bool = False

    @property
    def first(self) -> int:
        """The version that the window begins after."""
        return _window(self.version)

    @property
    def earlier(self) -> int | None:
        """A version in the window before this one."""
        return self.first if self.first > 0 else None

    @property
    def later(self) -> int | None:
        """A version in the window after this one."""
        return self.first + WINDOW + 1 if self.first + WINDOW < self.head else None


async def stream_page(console: Console, request: Request) -> Response:
    """`?of=Account/alice`, `?version=`; the newest one if none is given."""
    stream, look = stream_of(field(request.query_params, "of")), await console.look()
    moment = await _asked_for(look, stream, request)
    return console.page(
        "stream.html",
        "/",
        title=f"{stream}",
        stream=stream,
        moment=moment,
        partition=look.partition_of(stream) if look.partitions > 1 else None,
        ours=is_ours(stream),
        said=request.query_params.get("said", ""),
    )


async def moment_piece(console: Console, request: Request) -> Response:
    """What of a stream's page depends on the version, for the slider to put in its place."""
    stream, look = stream_of(field(request.query_params, "of")), await console.look()
    return rendered("moment.html", moment=await _asked_for(look, stream, request), stream=stream)


async def _asked_for(look: Inspection, stream: StreamId, request: Request) -> Moment:
    head = await _head(look, stream)
    if head == 0:
        raise NoSuchThing(
            "There is no such stream", f"The journal has no event of {stream}.", "Search for a part of its id."
        )
    asked = request.query_params.get("version", "")
    return await moment_at(look, stream, min(number(asked, "a version"), head) if asked else head, head)


async def _head(look: Inspection, stream: StreamId) -> int:
    """Its version, also where the newest event is damaged."""
    try:
        return await look.head(stream)
    except CorruptRecord as error:
        if not error.version:
            raise
        return error.version


async def moment_at(look: Inspection, stream: StreamId, version: int, head: int) -> Moment:
    """A stream at a version from 0 to `head`."""
    window = await _around(look, stream, version, head)
    change = next((each for each in window if isinstance(each, Change) and each.event.version == version), None)
    fields, fields_problem = ((), "") if change is None else fields_of(change.event)
    damage = next((each for each in window if isinstance(each, Damage) and each.version == version), None)
    state: Sequence[Row] | None = None
    found, why = None, ""
    try:
        found = await look.state(stream, version)
        why = "" if found is not None else "class"
    except (CorruptRecord, HydrationFailed, CodecError) as error:
        why = str(error)
    if found is not None:
        state = rows_of(found.fields, (change.differences or ()) if change is not None else ())
    return Moment(
        stream=stream,
        version=version,
        head=head,
        window=window,
        change=change,
        fields=fields,
        fields_problem=fields_problem if damage is None else damage.problem,
        state=state,
        why=why,
        snapshot_version=0 if found is None else found.snapshot_version,
        rows_read=0 if found is None else found.rows_read,
        has_blanks=found is not None and stream.category in look.blanked,
    )


def fields_of(event: RecordedEvent) -> tuple[Sequence[Row], str]:
    """Those of an event, or why they cannot be read."""
    try:
        return rows_of(_plain(event.event)), ""
    except CodecError as error:
        return (), str(error)


def _plain(fields: Any) -> dict[str, Any]:
    return fields if isinstance(fields, dict) else {"": fields}  # pyright: ignore[reportUnknownVariableType]


async def _around(look: Inspection, stream: StreamId, version: int, head: int) -> list[Change | Damage]:
    """The window that a version is in. Each step gets up to the next damaged event, then that one's place."""
    at = _window(version)
    end = min(at + WINDOW, head)
    found: list[Change | Damage] = []
    while at < end:
        try:
            found += await _changes(look, stream, at, end - at)
        except CorruptRecord as error:
            if error.version <= at:  # it does not say where: none of what follows can be told
                return [*found, *(Damage(version=each, problem=str(error)) for each in range(at + 1, end + 1))]
            found.append(Damage(version=error.version, problem=error.problem))
        last = found[-1]
        at = last.version if isinstance(last, Damage) else last.event.version
    return found


async def _changes(look: Inspection, stream: StreamId, after: int, limit: int) -> list[Change]:
    """With what they changed; without, if something before or among them keeps the state from being told. Never none:
    where the next event is damaged, it raises `CorruptRecord`."""
    try:
        found = await look.changes(stream, after, limit)
        if found:
            return found
    except (HydrationFailed, CodecError, CorruptRecord):
        pass
    events = await look.events(stream, after=after, limit=limit)
    if not events:
        raise CorruptRecord(str(stream), 0, 0, "the journal has no event where one must be")
    return [Change(event=event) for event in events]


def _window(version: int) -> int:
    """The version that the window of a version begins after."""
    return (max(version, 1) - 1) // WINDOW * WINDOW
