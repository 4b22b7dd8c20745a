"""`holdfast projections`: the followers of a running cluster, what they have set aside, and building one anew."""

from typing import TYPE_CHECKING, Any

import click
import msgspec

from .cli_cluster import at_cluster, cluster_options
from .cli_event import json_line, time_text
from .cli_report import show_table, shown
from .cli_status import PROBLEMS, note, told
from .inspection_report import time_of
from .progress import draw

if TYPE_CHECKING:
    from .bystander import Bystander

__all__ = ["projections_command"]

COLUMNS = ("follower", "kind", "phase", "lag", "events", "events/s", "errors", "dead letters", "problem")
LETTER_COLUMNS = ("partition:position", "event", "of", "attempts", "at", "problem")


@click.group("projections", short_help="Status, rebuild, dead letters.")
def projections_command() -> None:
    """Look at the projections (and other followers) of a running cluster, build one anew, see to its dead letters.

    NAME is that of the projection, as Balances; or a follower's whole name, as `status` tells it.

    \b
    Examples:
      holdfast projections status
      holdfast projections rebuild Balances
    """


@projections_command.command("status", short_help="How each follower does.")
@cluster_options
@click.option("--json", "in_json", is_flag=True, help="A JSON object for each, on a line of its own.")
def status_command(address: str, namespace: str, in_json: bool) -> None:
    """Tell how far each follower is, and what is wrong with it. Status 1: one has stopped.

    \b
    Example:
      holdfast projections status
    """
    stopped: list[str] = []

    async def status(bystander: "Bystander") -> None:
        rows: list[tuple[str, ...]] = []
        for each in await bystander.followers():
            if str(each.phase) == "stopped":
                stopped.append(each.name)
            if in_json:
                click.echo(json_line({**msgspec.structs.asdict(each), "lag": each.lag}))
                continue
            counts = (each.lag, each.events, round(each.rate), each.errors, each.dead_letters)
            numbers = (f"{count:,}" for count in counts)
            rows.append((shown(each.name), each.kind, str(each.phase), *numbers, shown(each.problem)))
        if not in_json:
            show_table(COLUMNS, rows)

    with told():
        at_cluster(address, namespace, status)
    if stopped:
        raise SystemExit(PROBLEMS)


@projections_command.command("rebuild", short_help="Build one anew, beside the one that serves.")
@click.argument("name")
@cluster_options
@click.option("--json", "in_json", is_flag=True, help="One JSON object in the end.")
def rebuild_command(name: str, address: str, namespace: str, in_json: bool) -> None:
    """Build the read model of a projection anew from the first event on. The one that is there serves until the new
    one takes its place. Whoever stops looking (Ctrl-C) does not stop it.

    \b
    Example:
      holdfast projections rebuild Balances
    """

    async def rebuild(bystander: "Bystander") -> None:
        last = await draw(await bystander.rebuild(name), f"rebuild of {shown(name)}")
        events = last.of if last else 0
        found = {"name": name, "events": events}
        click.echo(json_line(found) if in_json else f"{shown(name)} was rebuilt from {events:,} events, and serves")

    with told():
        at_cluster(address, namespace, rebuild)


@projections_command.command("letters", short_help="The events that one has set aside.")
@click.argument("name")
@cluster_options
@click.option("--json", "in_json", is_flag=True, help="A JSON object for each, on a line of its own.")
def letters_command(name: str, address: str, namespace: str, in_json: bool) -> None:
    """List the dead letters of a follower: events that it has set aside because handling them kept failing. Status 1:
    there are some.

    \b
    Example:
      holdfast projections letters Balances
    """
    found: dict[str, list[Any]] = {}

    async def letters(bystander: "Bystander") -> None:
        found.update(await bystander.dead_letters(name))
        rows: list[tuple[str, ...]] = []
        for follower, letter in ((follower, letter) for follower, each in found.items() for letter in each):
            if in_json:
                click.echo(json_line({"follower": follower, **_fields(letter)}))
            else:
                rows.append(
                    (
                        f"{letter.partition}:{letter.position}",
                        shown(letter.type),
                        shown(f"{letter.category}/{letter.id}"),
                        str(letter.attempts),
                        time_text(time_of(letter.at)),
                        shown(letter.problem),
                    )
                )
        if rows:
            show_table(LETTER_COLUMNS, rows)
        elif not in_json:
            click.echo("no dead letters")

    with told():
        at_cluster(address, namespace, letters)
    if any(found.values()):
        raise SystemExit(PROBLEMS)


@projections_command.command("replay", short_help="Have one that was set aside handled again.")
@click.argument("name")
@click.argument("position")
@cluster_options
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def replay_command(name: str, position: str, address: str, namespace: str, in_json: bool) -> None:
    """Have a dead letter handled again: POSITION is that of its event, as `letters` tells it, with the number of its
    partition (1:17) where there are several. Status 1: it failed again, and stays.

    \b
    Example:
      holdfast projections replay Balances 0:4711
    """
    partition, at = _place(position)
    failed: list[str] = []

    async def replay(bystander: "Bystander") -> None:
        names = await bystander.names_of(name)
        try:
            await bystander.replay(name, partition, at)
        except Exception as error:  # whatever its handler raises
            failed.append(f"{type(error).__name__}: {error}")
        if in_json:
            done = {"name": name, "partition": partition, "position": at, "replayed": not failed}
            click.echo(json_line(done | {"problem": failed[0] if failed else None}))
        elif not failed:
            click.echo(f"{partition}:{at} was handled by {shown(names[0])}, and is no dead letter any more")

    with told():
        at_cluster(address, namespace, replay)
    if failed:
        note(failed[0])
        raise SystemExit(PROBLEMS)


def _fields(letter: Any) -> dict[str, Any]:
    """Projections keep theirs as tuples with names, the others as structs."""
    named: Any = getattr(letter, "_asdict", None)
    found: dict[str, Any] = named() if named else msgspec.structs.asdict(letter)
    return found | {"at": time_of(letter.at)}


def _place(text: str) -> tuple[int, int]:
    partition, colon, position = text.rpartition(":")
    if not (position.isascii() and position.isdigit()) or (colon and not partition.isdigit()):
        raise click.UsageError(f"a position is written 4711, or with its partition 1:4711, and not {text!r}")
    return int(partition or 0), int(position)
