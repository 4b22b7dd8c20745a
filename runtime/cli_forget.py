"""`holdfast forget sqlite:///bank.db customer 42 --keys sqlite:///keys.db`: forget a data subject, from a shell.

A journal that a cluster serves is told through the cluster (`--address`): its hosts have the person in memory. One that
nobody serves is opened here, for as long as it takes.
"""

import asyncio
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast.journal.errors import JournalLocked, JournalOpenError
from holdfast.journal.keys_url import KeysUrl
from holdfast.journal.url import JournalUrl

from .cli_cluster import cluster_if_named
from .cli_event import json_line
from .cli_journal import journal_option, journal_to_change
from .cli_report import shown
from .cli_status import CANNOT_RUN, note, told

__all__ = ["forget_command"]


@click.command("forget", short_help="Destroy the key of a data subject.")
@click.argument("words", nargs=-1, metavar="[URL] KIND ID")
@journal_option
@click.option("--keys", required=True, metavar="URL", help="The store with the keys, such as sqlite:///keys.db.")
@cluster_if_named("The Ray cluster that serves the journal")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def forget_command(
    words: Sequence[str],
    journal: str | None,
    keys: str,
    address: str | None,
    namespace: str,
    yes: bool,
    in_json: bool,
) -> None:
    """Destroy the key of a data subject, `customer 42`, and have nobody remember what was kept under it.

    Every field that is marked as personal data of this subject reads as blank from now on, wherever the journal was
    copied to. This cannot be undone.

    Exit status: 0 it was forgotten, 1 you said no, 2 it could not be done: what was begun is finished by the next run.

    \b
    Example:
      holdfast forget sqlite:///bank.db customer 42 --keys sqlite:///keys.db
    """
    if len(words) < 2:
        raise click.UsageError("it needs the KIND and the ID of a data subject")
    kind, id = words[-2:]
    with told():
        url = journal_to_change(words[:-2], journal)
        if not yes:
            click.confirm(f"what was kept of {kind} {shown(id)} can never be read again; go on?", abort=True, err=True)
        try:
            report = asyncio.run(_forget(url, kind, id, keys, address, namespace))
        except JournalLocked as error:
            note(f"{error}; name its cluster: --address")
            sys.exit(CANNOT_RUN)
        except ValueError as error:
            note(str(error))
            sys.exit(CANNOT_RUN)
    click.echo(json_line(report) if in_json else _in_words(report))


async def _forget(url: str, kind: str, id: str, keys: str, address: str | None, namespace: str) -> dict[str, Any]:
    """The runtime is imported here: it takes Ray, which no other command needs."""
    runtime: Any = importlib.import_module("holdfast.runtime.runtime").Runtime
    if address is None:
        _check_there(JournalUrl.parse(url))
        _check_there(KeysUrl.parse(keys).url)
        opening = runtime.local(url, keys=keys, namespace=namespace)
    else:
        opening = runtime.open(url, keys=keys, address=address, namespace=namespace)
    async with opening as opened:
        plain: dict[str, Any] = msgspec.to_builtins(await opened.forget(kind, id))
    return plain


def _check_there(parsed: JournalUrl) -> None:
    """Opening would make a journal, or a key store that has never heard of the person, where there is none."""
    if parsed.is_local_file and not Path(parsed.path).exists():
        raise JournalOpenError(parsed.path, "there is no such file")


def _in_words(report: dict[str, Any]) -> str:
    streams, who = report["streams"], f"{report['kind']} {report['id']}"
    if not report["generation"]:
        return shown(f"nothing was ever kept under a key of {who} in this key store")
    lines = [f"{who} is forgotten, generation {report['generation']}: {len(streams)} streams"]
    lines += [f"  {stream}" for stream in streams]
    lines.append(f"{report['passivated']} aggregates left memory, {report['hosts']} hosts were told")
    lines += [f"host {host} did not answer and was ended" for host in report["unreached"]]
    return "\n".join(map(shown, lines))
