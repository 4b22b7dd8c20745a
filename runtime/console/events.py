"""Events of the whole journal: the newest ones, and the page of one, with what caused it and what it caused."""

from starlette.requests import Request
from starlette.responses import Response

from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.errors import CorruptRecord
from holdfast.journal.positions import Positions
from holdfast.runtime.inspection import Inspection

from .addresses import BadAddress, event_at, field, place_of, stream_of
from .console import Console
from .graph import context_of, graph_of
from .problems import NoSuchThing
from .shown import rows_of
from .timeline import fields_of

__all__ = ["event_page", "events_page"]

PAGE = 50
NO_CONTEXT = "The metadata of this event does not say where its command came from."


async def events_page(console: Console, request: Request) -> Response:
    """`?category=`, `?before=12,7` (a position of each partition): events below these."""
    query, look = request.query_params, await console.look()
    category = query.get("category", "")
    ends = _positions(query["before"], look.partitions) if query.get("before") else None
    found, at = await _newest(look, category or None, ends, PAGE)
    return console.page(
        "events.html",
        "/events",
        title="Events",
        category=category,
        categories=await look.categories(),
        events=found,
        further=at if len(found) == PAGE and await _is_more(look, category or None, at) else None,
        continued=ends is not None,
        partitions=look.partitions,
    )


async def event_page(console: Console, request: Request) -> Response:
    """`?at=0:17`: partition and position."""
    partition, position = place_of(field(request.query_params, "at"))
    look = await console.look()
    event = await look.event_at(partition, position)
    if event is None:
        raise NoSuchThing("There is no such event", f"The journal has no position {position} in partition {partition}.")
    context, related, graph = context_of(event), None, None
    if context is not None:
        related = await look.related(event)
        graph = graph_of({*related.correlated, *related.command, *related.causes, *related.effects}, event)
    fields, problem = fields_of(event)
    return console.page(
        "event.html",
        "/events",
        title=f"{event.type} · {event.category}/{event.id}",
        event=event,
        stream=event.record.stream,
        context=context,
        metadata=rows_of(context.metadata) if context is not None else [],
        fields=fields,
        problem=problem or ("" if context is not None else NO_CONTEXT),
        related=related,
        graph=graph,
        partitions=look.partitions,
        before=event_at(partition, position - 1) if position > 1 else None,
        after=event_at(partition, position + 1) if await look.event_at(partition, position + 1) else None,
    )


async def _newest(
    look: Inspection, category: str | None, ends: Positions | None, limit: int
) -> tuple[list[RecordedEvent | CorruptRecord], Positions]:
    """The newest events, and in its place what is damaged; and where the next page begins. Around a damaged event
    fewer are asked for, down to one, so that what is beside it is found."""
    found, at, size = list[RecordedEvent | CorruptRecord](), ends, limit
    while len(found) < limit:
        size = min(size, limit - len(found))
        try:
            page = await look.recent(limit=size, category=category, before=at)
        except CorruptRecord as error:
            if size > 1:
                size //= 2
                continue
            stream = stream_of(error.stream)
            if not error.position:
                raise
            found.append(error)
            at = (at or Positions.start(look.partitions)).moved(look.partition_of(stream), error.position)
            size = limit
            continue
        found += page
        for event in page:
            at = (at or Positions.start(look.partitions)).past(event)
        if len(page) < size or at is None:
            break
    return found, at or Positions.start(look.partitions)


async def _is_more(look: Inspection, category: str | None, at: Positions) -> bool:
    """Whether there is an event before these positions, damaged or not."""
    try:
        return bool(await look.recent(limit=1, category=category, before=at))
    except CorruptRecord:
        return True


def _positions(text: str, partitions: int) -> Positions:
    try:
        found = Positions.parse(text)
    except ValueError as error:
        raise BadAddress(str(error)) from None
    if len(found) != partitions:
        raise BadAddress(f"this journal has {partitions} partitions, and {text!r} is not a position in each")
    return found
