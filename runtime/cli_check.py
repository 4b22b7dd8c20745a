"""`holdfast check sqlite:///bank.db --module app`: would this code read what the journal holds?

To be run before a deployment, with the new code, against the journal as it is; it changes nothing, and a writer may be
at work. Ray is not started.
"""

import asyncio
import sys
from collections.abc import Sequence

import click
import msgspec

from holdfast.actors.check import SAMPLES, EventReader, FollowingReader, check, readers_of
from holdfast.actors.check_report import CheckReport, TypeFound
from holdfast.actors.verify import aggregates_in
from holdfast.journal.progress import Progress
from holdfast.journal.verify import open_sources

from .cli_event import json_line
from .cli_journal import imported, journal_option, module_option, the_journal
from .cli_report import shown, watched
from .cli_status import GOOD, PROBLEMS, told
from .projection_definition import is_projection, projection_of

__all__ = ["check_command"]


@click.command("check", short_help="Would this code read what the journal holds?")
@click.argument("words", nargs=-1, metavar="[URL]")
@journal_option
@module_option("they are the code that is checked", of="the aggregates, reactions and projections", required=True)
@click.option("--category", metavar="NAME", help="Only the streams of this category.")
@click.option("--all", "every", is_flag=True, help="Open every event, not only some of each type.")
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def check_command(
    words: Sequence[str],
    journal: str | None,
    modules: Sequence[str],
    category: str | None,
    every: bool,
    in_json: bool,
) -> None:
    """Compare the events of the code in --module with what a journal holds.

    For each stored type: whether whoever reads it (the aggregate, projections, reactions) knows it, can upcast it, and
    can open events of it: the first, the last and some between. Types that newer code has written are told, and
    snapshots that would be ignored, and events that the journal has none of.

    Exit status: 0 all would load, 1 something would not (each with its first place), 2 it could not be checked.

    \b
    Example:
      holdfast check sqlite:///bank.db --module bank.accounts
    """
    with told():
        url = the_journal(words, journal)
        readers = [reader for name in modules for reader in _readers_of(name)]
        with watched() as progress:
            report = asyncio.run(_check(url, readers, category, every, progress))
    if in_json:
        click.echo(json_line({"good": report.good, **msgspec.structs.asdict(report)}))
    else:
        _show(report)
    sys.exit(GOOD if report.good else PROBLEMS)


async def _check(
    url: str, readers: Sequence[EventReader], category: str | None, every: bool, progress: Progress
) -> CheckReport:
    samples = None if every else SAMPLES
    return await check(await open_sources(url), readers, category=category, samples=samples, progress=progress)


def _readers_of(name: str) -> Sequence[EventReader]:
    module = imported(name)
    readers = readers_of(aggregates_in(module))
    named = [thing for thing in vars(module).values() if is_projection(thing) and thing.__holdfast_projection__.name]
    readers += [FollowingReader(cls.__qualname__, projection_of(cls).reading) for cls in dict.fromkeys(named)]
    if not readers:
        raise click.UsageError(f"--module {name}: there is no aggregate, reaction or projection class in it")
    return readers


def _show(report: CheckReport) -> None:
    for found in report.types:
        verdict = "WOULD NOT LOAD" if found.problem else "loads" if found.readers else "is read by nobody here"
        who = f" ({', '.join(map(shown, found.readers))})" if found.readers else ""
        click.echo(f"{shown(found.category)}  {shown(found.type)}  {found.count:,}  {verdict}{who}")
        if found.problem:
            click.echo(f"    {shown(_told_of(found))}")
    for snapshots in report.snapshots:
        if snapshots.ignored:
            click.echo(
                f"{shown(snapshots.category)}  {snapshots.ignored:,} of {snapshots.count:,} snapshots are ignored"
            )
    for unseen in report.unseen:
        click.echo(f"note: the journal has no {shown(unseen)}")
    for category in report.unclaimed:
        click.echo(f"note: no aggregate of category {shown(category)} is among the modules")
    problems = len(report.problems)
    verdict = "everything would load" if report.good else f"WOULD NOT LOAD: {problems} of {len(report.types)} types"
    far = " · ".join(f"{each:,}" for each in report.upto)
    click.echo(
        f"{shown(report.journal)}, up to position {far}: {sum(f.count for f in report.types):,} events\n{verdict}"
    )


def _told_of(found: TypeFound) -> str:
    return f"{found.reader}: {found.problem}; first at {found.place}, {found.failed:,} of {found.opened:,} opened"
