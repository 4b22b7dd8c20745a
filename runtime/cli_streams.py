"""`holdfast streams`: which streams a journal has."""

import asyncio

import click

from holdfast.journal.records import StreamId

from .cli_event import json_line
from .cli_journal import journal_option, look_at, named_stream, url_alone
from .cli_report import shown
from .cli_status import note, told
from .inspection_report import StreamSummary

__all__ = ["streams_command"]

PAGE = 1000


@click.command("streams", short_help="List, filter and count streams.")
@click.argument("words", nargs=-1, metavar="[URL]")
@journal_option
@click.option("--category", metavar="NAME", help="Only of this category.")
@click.option("--contains", metavar="TEXT", default="", help="Only those whose id has this text in it.")
@click.option("--after", metavar="STREAM", help="Only those that come after this one, by category and id.")
@click.option("--limit", metavar="N", type=click.IntRange(0), default=100, help="As many at most (0: all). [100]")
@click.option("--count", is_flag=True, help="Only how many there are.")
@click.option("--json", "in_json", is_flag=True, help="A JSON object for each, on a line of its own.")
def streams_command(
    words: tuple[str, ...],
    journal: str | None,
    category: str | None,
    contains: str,
    after: str | None,
    limit: int,
    count: bool,
    in_json: bool,
) -> None:
    """List the streams of a journal, by category and id, with their versions.

    \b
    Example:
      holdfast streams --category Account --contains smith
    """
    url = url_alone(words)
    past = named_stream(after) if after else None
    with told():
        if count:
            asyncio.run(_count(url or journal, category, contains, in_json))
        else:
            asyncio.run(_list(url or journal, category, contains, past, limit, in_json))


async def _count(url: str | None, category: str | None, contains: str, in_json: bool) -> None:
    async with await look_at(url, None) as look:
        found = await look.count(category=category, contains=contains)
    click.echo(json_line({"count": found}) if in_json else found)


async def _list(
    url: str | None, category: str | None, contains: str, after: StreamId | None, limit: int, in_json: bool
) -> None:
    left = limit or None
    async with await look_at(url, None) as look:
        while left != 0:
            size = PAGE if left is None else min(PAGE, left)
            page = await look.streams(category=category, contains=contains, after=after, limit=size)
            for each in page:
                click.echo(_json(each) if in_json else f"{shown(str(each.stream))}  {each.version}")
            left = None if left is None else left - len(page)
            if len(page) < size:
                return
            after = page[-1].stream
        if await look.streams(category=category, contains=contains, after=after, limit=1):
            note(f"there are more: --limit 0 shows all, --after {after} goes on")


def _json(each: StreamSummary) -> str:
    stream = each.stream
    return json_line(
        {
            "stream": str(stream),
            "category": stream.category,
            "id": stream.id,
            "version": each.version,
            "partition": each.partition,
        }
    )
