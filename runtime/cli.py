"""The command line: `holdfast verify sqlite:///bank.db`.

Exit status of every command: 0 all is well, 1 problems were found, 2 it could not run. What a program reads goes to
stdout, what a person watches to stderr. Ray is never started from here, nor imported by what does not need it.
"""

import asyncio
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Generator, Sequence

import click

from holdfast.actors.verify import ClassReplay, aggregates_in, replays_of
from holdfast.journal.errors import HoldfastError
from holdfast.journal.verify import Progress, Report, open_sources, verify

from .cli_archive import archive_commands
from .cli_check import check_command
from .cli_report import as_json, show, shown, watched

__all__ = ["cli", "main"]

GOOD, PROBLEMS, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="holdfast", message="%(prog)s %(version)s")
def cli() -> None:
    """Event-sourced aggregates that live in memory on a Ray cluster, over a durable journal."""


cli.add_command(check_command)


@cli.command("verify")
@click.argument("url")
@click.option("--json", "in_json", is_flag=True, help="One JSON object on stdout instead of a table.")
@click.option("--category", metavar="NAME", help="Only the streams of this category.")
@click.option(
    "--module",
    "modules",
    metavar="NAME",
    multiple=True,
    help="Import this module, and replay the streams of the aggregate classes in it: do they replay, and are their"
    " snapshots what their events say? May be given several times.",
)
def verify_command(url: str, in_json: bool, category: str | None, modules: Sequence[str]) -> None:
    """Check the journal at URL, such as sqlite:///bank.db, against itself.

    Every checksum, versions and positions without gaps, snapshots and keyed replies that belong to what is there, one
    owner for each epoch, and what the database itself says; all of it in each partition, if there are several. It
    reads, and changes nothing; a writer may be at work.

    Exit status: 0 all is well, 1 problems were found (each is named with its stream, version and position,
    and its partition if there are several),
    2 it could not be verified.
    """
    with _told():
        replays = _replays(modules)
        with watched() as progress:
            report = asyncio.run(_verify(url, category, replays, progress))
    click.echo(as_json(report)) if in_json else show(report)
    sys.exit(GOOD if report.good else PROBLEMS)


async def _verify(url: str, category: str | None, replays: Sequence[ClassReplay], progress: Progress) -> Report:
    return await verify(await open_sources(url), category=category, replays=replays, progress=progress)


def _replays(modules: Sequence[str]) -> list[ClassReplay]:
    """A module is looked for as `python -m` would: in the working folder first."""
    if modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return replays_of(cls for name in modules for cls in _classes_of(name))


def _classes_of(name: str) -> Sequence[type]:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # an import runs whatever the module says
        raise click.UsageError(f"--module {name}: {type(error).__name__}: {error}") from error
    classes = aggregates_in(module)
    if not classes:
        raise click.UsageError(f"--module {name}: there is no aggregate class in it")
    return classes


for each in archive_commands:
    cli.add_command(each)


@contextlib.contextmanager
def _told() -> Generator[None, None, None]:
    """What keeps a command from running is told in a line, with a status that says so."""
    try:
        yield
    except HoldfastError as error:
        click.echo(f"holdfast: {shown(str(error))}", err=True)
        sys.exit(CANNOT_RUN)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def main() -> None:
    """The console script."""
    run: Callable[[], object] = cli
    try:
        run()
    except Exception:  # a bug of ours: its status must not say that the journal has problems
        traceback.print_exc()
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main()
