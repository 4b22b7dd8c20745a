"""`holdfast tail`: the newest events of a journal, and those that come.

It follows by asking for what is new four times a second, which is one look into an index; a writer never waits for it.
"""

import asyncio
from collections import deque
from typing import NamedTuple

import click

from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.positions import Positions
from holdfast.journal.records import StreamId

from .cli_event import event_line, event_map, json_line
from .cli_journal import journal_option, look_at, named_stream, unknown_word, url_and_rest
from .cli_status import told
from .inspection import Inspection

__all__ = ["tail_command"]

LOOK_S = 0.25
PAGE = 500


class _Filter(NamedTuple):
    category: str | None
    type: str | None
    stream: StreamId | None

    def takes(self, event: RecordedEvent) -> bool:
        return self.type in (None, event.type) and self.stream in (None, event.record.stream)


@click.command("tail", short_help="The newest events, and those that come.")
@click.argument("words", nargs=-1, metavar="[URL]")
@journal_option
@click.option("-n", "count", metavar="N", type=click.IntRange(0), default=20, help="So many of the newest. [20]")
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, until Ctrl-C (status 130).")
@click.option("--category", metavar="NAME", help="Only of this category.")
@click.option("--type", "kind", metavar="NAME", help="Only events of this type.")
@click.option("--stream", metavar="STREAM", help="Only of this stream.")
@click.option("--json", "in_json", is_flag=True, help="A JSON object for each, on a line of its own.")
def tail_command(
    words: tuple[str, ...],
    journal: str | None,
    count: int,
    follow: bool,
    category: str | None,
    kind: str | None,
    stream: str | None,
    in_json: bool,
) -> None:
    """Show the newest events of a journal, the newest last.

    \b
    Examples:
      holdfast tail -n 5
      holdfast tail -f --category Account --type account.deposited
    """
    url, rest = url_and_rest(words)
    if rest and "/" in rest[0] and not rest[0].endswith(".db"):
        raise click.UsageError(f"a stream is named with --stream {rest[0]}")
    if rest:
        raise unknown_word(rest[0])
    one = named_stream(stream) if stream else None
    if one and category not in (None, one.category):
        raise click.UsageError(f"{stream} is not of category {category}")
    wanted = _Filter(one.category if one else category, kind, one)
    with told():
        asyncio.run(_tail(url or journal, wanted, count, follow, in_json))


async def _tail(url: str | None, wanted: _Filter, count: int, follow: bool, in_json: bool) -> None:
    def show(event: RecordedEvent) -> None:
        click.echo(json_line(event_map(event)) if in_json else event_line(event, stream=True))

    async with await look_at(url, None) as look:
        at = await look.positions()
        for event in await _newest(look, wanted, count, at):
            show(event)
        while follow:
            events, reached = await look.after(at, limit=PAGE, category=wanted.category)
            for event in filter(wanted.takes, events):
                show(event)
            at = reached
            if not events:
                await asyncio.sleep(LOOK_S)


async def _newest(look: Inspection, wanted: _Filter, count: int, at: Positions) -> list[RecordedEvent]:
    """The newest up to there, the newest last."""
    found: deque[RecordedEvent] = deque()
    if wanted.stream is not None:
        return await _newest_of(look, wanted, wanted.stream, count)
    before = Positions(tuple(position + 1 for position in at))
    while len(found) < count and (page := await look.recent(limit=PAGE, category=wanted.category, before=before)):
        for event in page:
            before = before.past(event)
            if wanted.takes(event) and len(found) < count:
                found.appendleft(event)
    return list(found)


async def _newest_of(look: Inspection, wanted: _Filter, stream: StreamId, count: int) -> list[RecordedEvent]:
    found: deque[RecordedEvent] = deque()
    before = 0
    while len(found) < count and (page := await look.events(stream, after=before, limit=PAGE, backward=True)):
        found.extendleft(list(filter(wanted.takes, page))[: count - len(found)])
        before = page[-1].version
        if before == 1:
            break
    return list(found)
