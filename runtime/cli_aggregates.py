"""`holdfast passivate` and `holdfast snapshot`: one aggregate of a running cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from holdfast.actors.definition import definition_of

from .cli_cluster import at_cluster, cluster_options
from .cli_event import json_line
from .cli_journal import classes_in, module_option, named_stream
from .cli_report import shown
from .cli_show import NoSuchStream
from .cli_status import told

if TYPE_CHECKING:
    from .bystander import Bystander

__all__ = ["passivate_command", "snapshot_command"]


@click.command("passivate", short_help="Send one aggregate out of memory.")
@click.argument("stream")
@cluster_options
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def passivate_command(stream: str, address: str, namespace: str, in_json: bool) -> None:
    """Send one aggregate of a running cluster out of memory, once it has done what it was asked until now. Its snapshot
    is written then, and its next call brings it back.

    \b
    Example:
      holdfast passivate Account/alice
    """
    name = named_stream(stream)

    async def passivate(bystander: "Bystander") -> None:
        done = await bystander.passivate(name)
        words = "left memory" if done else "was not in memory"
        click.echo(json_line({"stream": str(name), "passivated": done}) if in_json else f"{shown(str(name))} {words}")

    with told():
        at_cluster(address, namespace, passivate)


@click.command("snapshot", short_help="Have a snapshot of one aggregate kept.")
@click.argument("stream")
@cluster_options
@module_option("the one of the aggregate")
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def snapshot_command(stream: str, address: str, namespace: str, modules: Sequence[str], in_json: bool) -> None:
    """Have the running journal keep a snapshot of one aggregate as it is now, so that it comes into memory faster the
    next time. The aggregate itself is left alone. Needs its class: --module.

    \b
    Example:
      holdfast snapshot Account/alice --module bank.accounts
    """
    name = named_stream(stream)

    async def snapshot(bystander: "Bystander") -> None:
        version = await bystander.snapshot(cls, name.id)
        if not version:
            raise NoSuchStream(str(name))
        found = {"stream": str(name), "version": version}
        click.echo(json_line(found) if in_json else f"{shown(str(name))} has a snapshot at version {version}")

    with told():
        found = [each for each in classes_in(modules) if definition_of(each).category == name.category]
        if not found:
            raise click.UsageError(f"no class of category {name.category!r} is at hand: name its module, --module")
        cls = found[0]
        at_cluster(address, namespace, snapshot)
