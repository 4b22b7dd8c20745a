"""`holdfast stats`: how much a journal holds, how large it is, how far its followers are."""

import asyncio
from collections.abc import Iterable
from typing import Any

import click

from .cli_event import json_line, time_text
from .cli_journal import journal_option, look_at, url_alone
from .cli_report import show_table, shown
from .cli_status import told
from .inspection_report import CategorySummary, JournalContents, JournalHealth

__all__ = ["size_text", "stats_command"]


@click.command("stats", short_help="How much there is, and how far followers are.")
@click.argument("words", nargs=-1, metavar="[URL]")
@journal_option
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def stats_command(words: tuple[str, ...], journal: str | None, in_json: bool) -> None:
    """Tell how much a journal holds: streams and events of each category, snapshots, keyed replies, pending reminders,
    its size, its partitions, and how far behind its followers are.

    \b
    Example:
      holdfast stats sqlite:///bank.db
    """
    url = url_alone(words)
    with told():
        asyncio.run(_stats(url or journal, in_json))


async def _stats(url: str | None, in_json: bool) -> None:
    async with await look_at(url, None) as look:
        health, categories, contents = await look.health(), await look.categories(), await look.contents()
    if in_json:
        click.echo(json_line(_map(health, categories, contents)))
        return
    for name, value in _rows(health, contents):
        click.echo(f"{name:<18} {value}")
    show_table(
        ("category", "streams", "events"),
        [(shown(each.name), f"{each.streams:,}", f"{each.events:,}") for each in categories],
    )
    if len(health.partitions) > 1:
        show_table(
            ("partition", "events", "streams", "size", "newest"),
            [
                (
                    str(each.number),
                    f"{each.head:,}",
                    f"{each.streams:,}",
                    size_text(each.bytes_on_disk),
                    _newest(each.latest),
                )
                for each in health.partitions
            ],
        )
    if health.followers:
        show_table(
            ("follower", "positions", "lag"),
            [
                (shown(each.name), " · ".join("-" if p is None else f"{p:,}" for p in each.positions), f"{each.lag:,}")
                for each in health.followers
            ],
        )


def _newest(time: Any) -> str:
    return time_text(time) if time else "-"


def _rows(health: JournalHealth, contents: JournalContents) -> Iterable[tuple[str, str]]:
    log = f", of it {size_text(health.log_bytes)} in the log" if health.log_bytes else ""
    yield "journal", shown(health.journal)
    yield "format", f"{health.kind}, schema {health.schema}"
    yield "size", f"{size_text(health.bytes_on_disk)}{log}"
    yield "partitions", str(len(health.partitions))
    yield "events", f"{health.events:,}"
    yield "streams", f"{health.streams:,}"
    yield "newest event", _newest(max((each.latest for each in health.partitions if each.latest), default=None))
    yield "snapshots", _number(contents.snapshots)
    yield "keyed replies", _number(contents.keyed_replies)
    yield "pending reminders", _number(contents.reminders)
    yield "owners", f"{health.owners:,}"
    for each in health.partitions:
        if each.problem:
            yield f"partition {each.number}", shown(each.problem)


def _number(count: int | None) -> str:
    return "not told" if count is None else f"{count:,}"


def _map(health: JournalHealth, categories: list[CategorySummary], contents: JournalContents) -> dict[str, Any]:
    return {
        "journal": health.journal,
        "kind": health.kind,
        "schema": health.schema,
        "journal_id": health.journal_id,
        "bytes_on_disk": health.bytes_on_disk,
        "log_bytes": health.log_bytes,
        "events": health.events,
        "streams": health.streams,
        "snapshots": contents.snapshots,
        "keyed_replies": contents.keyed_replies,
        "reminders": contents.reminders,
        "owners": health.owners,
        "categories": categories,
        "partitions": health.partitions,
        "followers": health.followers,
    }


def size_text(size: float) -> str:
    """Bytes, as people say them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
