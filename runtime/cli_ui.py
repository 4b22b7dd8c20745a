"""`holdfast ui`: the console in a browser. What it needs beyond the library comes with the extra `ui`, and is asked for
when the command runs, so that all others do without."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from .cli_cluster import cluster_if_named
from .cli_journal import classes_in, journal_option, journal_url, module_option, url_alone
from .cli_status import told
from .errors import MissingExtra

__all__ = ["ui_command"]

PACKAGES = ("starlette", "uvicorn", "jinja2", "markupsafe")


@click.command("ui", short_help="Look at it all in a browser.")
@click.argument("words", nargs=-1, metavar="[URL]")
@journal_option
@click.option("--host", metavar="HOST", default="127.0.0.1", help="The address to listen at. [127.0.0.1]")
@click.option("--port", metavar="N", default=8765, type=click.IntRange(0, 65535), help="0: any that is free. [8765]")
@cluster_if_named("A Ray cluster to look at as well")
@module_option("their states are shown")
@click.option(
    "--allow-changes", is_flag=True, help="Let it passivate, snapshot, rebuild and replay, and not only look."
)
@click.option("--no-token", is_flag=True, help="Let in whoever reaches it. Only on a loopback address.")
@click.option("--open/--no-open", "open_browser", default=False, help="Open it in a browser. [no]")
def ui_command(
    words: Sequence[str],
    journal: str | None,
    host: str,
    port: int,
    address: str | None,
    namespace: str,
    modules: Sequence[str],
    allow_changes: bool,
    no_token: bool,
    open_browser: bool,
) -> None:
    """Look at a journal in a browser: streams, states at any version, cause and effect, and what is live.

    It listens on this machine alone, lets in whoever has the token in the address that it prints, and changes nothing
    unless told to. A writer may be at work. What runs in a cluster is seen with --address.

    \b
    Example:
      holdfast ui sqlite:///bank.db --module bank.accounts --open
    """
    url = url_alone(words)
    with told():
        ui = _console()
        if no_token and not ui.is_loopback(host):
            raise click.UsageError(f"--no-token lets in all who reach {host}: it goes with a loopback address alone")
        named = journal_url(url, journal)
        console = ui.Console(
            source=ui.Source(named, classes_in(modules)),
            onlooker=None if address is None else ui.onlooker_at(named, address, namespace),
            keys=ui.Keys(token=None) if no_token else ui.Keys(),
            names=(host,),
            allow_changes=allow_changes,
        )
        ui.serve(console, host, port, tell=_tell, open_browser=open_browser)


def _console() -> Any:
    """The package. Raises `MissingExtra`."""
    try:
        return importlib.import_module("holdfast.runtime.console")
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) not in PACKAGES:
            raise
        raise MissingExtra("holdfast ui", package, "ui") from None


def _tell(address: str) -> None:
    """What a person, or a program that started this, opens next."""
    click.echo(f"The console is at {address}")
    click.echo("Ctrl-C ends it.", err=True)
    sys.stdout.flush()
