"""`holdfast live`: what a cluster does right now, in place, until Ctrl-C."""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .cli_cluster import at_cluster, cluster_options
from .cli_event import json_line
from .cli_report import show_table, shown
from .cli_status import told

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .bystander import Bystander
    from .runtime import Statistics

__all__ = ["live_command"]

HOST_COLUMNS = ("host", "live", "queue", "commands/s", "queries/s", "hydrations/s", "failures")
FOLLOWER_COLUMNS = ("follower", "phase", "lag", "events/s", "dead letters", "problem")
COUNTED = ("commands", "queries", "hydrations")


@click.command("live", short_help="Hosts, live aggregates, queues and rates, in place.")
@cluster_options
@click.option("--every", metavar="SECONDS", type=click.FloatRange(0.1), default=1.0, help="How often. [1]")
@click.option("--hosts", "hosts_max", metavar="N", type=click.IntRange(1), default=20, help="Busiest so many. [20]")
@click.option("--once", is_flag=True, help="Look once, for as long as --every, and end.")
@click.option("--json", "in_json", is_flag=True, help="A JSON object for each look, on a line of its own.")
def live_command(address: str, namespace: str, every: float, hosts_max: int, once: bool, in_json: bool) -> None:
    """Show what the hosts and followers of a running cluster do: aggregates in memory, calls waiting, rates. It starts
    nothing, and a host that does not answer is left out.

    \b
    Examples:
      holdfast live
      holdfast live --once --json --namespace bank
    """

    async def look(bystander: "Bystander") -> None:
        watch = _Watch(bystander, every, hosts_max)
        if once or in_json or not sys.stdout.isatty():
            await _lines(watch, once, in_json)
        else:
            await _in_place(watch)

    with told():
        at_cluster(address, namespace, look)


class _Watch:
    """Looks again and again, and tells what happened in between."""

    def __init__(self, bystander: "Bystander", every: float, hosts_max: int) -> None:
        self._bystander, self._every, self._hosts_max = bystander, every, hosts_max
        self._before: Statistics | None = None
        self._at = 0.0
        self.journal = ""

    async def first(self) -> None:
        """What the first rates are counted from."""
        self.journal = await self._bystander.journal()
        self._before, self._at = await self._bystander.statistics(), time.monotonic()

    async def look(self) -> dict[str, Any]:
        """What there is, and what was done since the last look."""
        await asyncio.sleep(self._every)
        now, at = await self._bystander.statistics(), time.monotonic()
        before, took = self._before, at - self._at
        assert before is not None, "there was a first look"
        self._before, self._at = now, at
        known = {(host.name, host.epoch): host for host in before.hosts}
        hosts: list[dict[str, Any]] = []
        for host in now.hosts:
            one: dict[str, Any] = msgspec.structs.asdict(host)
            earlier = known.get((host.name, host.epoch))
            for name in COUNTED:
                one[f"{name}_rate"] = max(0, getattr(host, name) - (getattr(earlier, name) if earlier else 0)) / took
            hosts.append(one)
        hosts.sort(key=lambda one: (-one["commands_rate"] - one["queries_rate"], -one["live"], one["name"]))
        appended = max(0, now.journal.events - before.journal.events) / took
        return {
            "journal": self.journal,
            "streams": now.journal.streams,
            "events": now.journal.events,
            "events_rate": appended,
            "live": now.live,
            "calls": sum(host.calls for host in now.hosts),
            "commands_rate": sum(one["commands_rate"] for one in hosts),
            "hosts": hosts,
            "followers": [{**msgspec.structs.asdict(each), "lag": each.lag} for each in now.followers],
        }

    def tables(self, found: dict[str, Any]) -> tuple[str, Sequence[Sequence[str]], Sequence[Sequence[str]]]:
        """A line, rows of hosts, rows of followers; escaped."""
        hosts = found["hosts"]
        left_out = len(hosts) - self._hosts_max
        line = (
            f"{shown(found['journal'])}  {found['events']:,} events (+{found['events_rate']:,.0f}/s),"
            f" {found['streams']:,} streams, {found['live']:,} live in {len(hosts):,} hosts,"
            f" {found['calls']:,} calls waiting, {found['commands_rate']:,.0f} commands/s"
            + (f"; {left_out:,} quieter hosts not shown" if left_out > 0 else "")
        )
        host_rows = [
            (
                shown(one["name"]),
                f"{one['live']:,}",
                f"{one['calls']:,}",
                *(f"{one[f'{name}_rate']:,.0f}" for name in COUNTED),
                f"{one['failures']:,}",
            )
            for one in hosts[: self._hosts_max]
        ]
        follower_rows = [
            (
                shown(one["name"]),
                str(one["phase"]),
                f"{one['lag']:,}",
                f"{one['rate']:,.0f}",
                f"{one['dead_letters']:,}",
                shown(one["problem"]),
            )
            for one in found["followers"]
        ]
        return line, host_rows, follower_rows


async def _lines(watch: _Watch, once: bool, in_json: bool) -> None:
    await watch.first()
    while True:
        found = await watch.look()
        if in_json:
            click.echo(json_line(found))
        else:
            line, hosts, followers = watch.tables(found)
            click.echo(line)
            show_table(HOST_COLUMNS, hosts)
            if followers:
                show_table(FOLLOWER_COLUMNS, followers)
        if once:
            return


async def _in_place(watch: _Watch) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        made = Table(*columns)
        for row in rows:
            made.add_row(*map(Text, row))
        return made

    def drawn(found: dict[str, Any]) -> "RenderableType":
        line, hosts, followers = watch.tables(found)
        parts: list[RenderableType] = [Text(line), table(HOST_COLUMNS, hosts)]
        return Group(*parts, *([table(FOLLOWER_COLUMNS, followers)] if followers else []))

    await watch.first()
    with Live(Text("…"), console=Console(), auto_refresh=False) as screen:
        while True:
            screen.update(drawn(await watch.look()), refresh=True)
