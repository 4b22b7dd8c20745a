"""The command line: `holdfast verify sqlite:///bank.db`.

Exit status of every command: 0 all is well, 1 problems were found, 2 it could not run; more of it in `cli_status.py`.
What a program reads goes to stdout, what a person watches to stderr. Ray is never started from here, nor imported by
what does not need it. Which journal a command is about is the same rule for all: `cli_journal.py`.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

import click
import msgspec

from holdfast.actors.verify import ClassReplay, replays_of
from holdfast.journal.progress import Progress
from holdfast.journal.verify import Report, open_sources, verify

from .cli_aggregates import passivate_command, snapshot_command
from .cli_archive import archive_commands
from .cli_check import check_command
from .cli_completion import completion_command
from .cli_event import json_line
from .cli_forget import forget_command
from .cli_journal import classes_in, journal_option, module_option, the_journal
from .cli_live import live_command
from .cli_projections import projections_command
from .cli_report import show, watched
from .cli_show import show_command
from .cli_stats import stats_command
from .cli_status import CANNOT_RUN, GOOD, PROBLEMS, told
from .cli_streams import streams_command
from .cli_tail import tail_command
from .cli_try import bench_command, demo_command
from .cli_ui import ui_command

__all__ = ["cli", "main"]

SECTIONS: Mapping[str, Sequence[str]] = {
    "Look": ("streams", "show", "tail", "stats", "ui"),
    "Keep and repair": ("verify", "check", "export", "import", "digest", "backup", "forget"),
    "Cluster": ("live", "projections", "snapshot", "passivate"),
    "Try": ("demo", "bench", "completion"),
}


class _Sections(click.Group):
    """Lists its commands by what they are for; one that no section names comes last."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """For `--help`."""
        named = {name for names in SECTIONS.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in named]
        width = formatter.width - 6 - max(map(len, self.commands))
        for section, names in (*SECTIONS.items(), ("Other", others)):
            rows = [(name, self.commands[name].get_short_help_str(width)) for name in names if name in self.commands]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


@click.group(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="holdfast", message="%(prog)s %(version)s")
def cli() -> None:
    """Event-sourced aggregates that live in memory on a Ray cluster, over a durable journal.

    The journal is named in one way for all commands: an argument that is a URL, as in `holdfast stats
    sqlite:///bank.db`; else --journal URL; else the variable HOLDFAST_URL; else it is the one *.db in this folder that
    is a journal. URLs are sqlite:///relative.db, sqlite:////absolute.db, postgres://user@host/database.

    To look changes nothing: no file is created, no writer is held up. With --json everything is JSON, one object or
    one to a line; times are UTC, bytes are base64.

    Exit status: 0 all is well, 1 problems were found, 2 it could not run, 130 Ctrl-C, 141 its reader has gone.
    """


@cli.command("verify", short_help="Check a journal against itself.")
@click.argument("words", nargs=-1, metavar="[URL]")
@journal_option
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
@click.option("--category", metavar="NAME", help="Only the streams of this category.")
@module_option("their streams are replayed, too, and snapshots compared with what the events say")
def verify_command(
    words: Sequence[str], journal: str | None, in_json: bool, category: str | None, modules: Sequence[str]
) -> None:
    """Check a journal against itself.

    Every checksum, versions and positions without gaps, snapshots and keyed replies that belong to what is there, one
    owner for each epoch, and what the database itself says; all of it in each partition, if there are several. It
    reads, and changes nothing; a writer may be at work.

    Exit status: 0 all is well, 1 problems were found (each is named with its stream, version and position, and its
    partition if there are several), 2 it could not be verified.

    \b
    Example:
      holdfast verify sqlite:///bank.db --module bank.accounts
    """
    with told():
        url = the_journal(words, journal)
        replays = replays_of(classes_in(modules))
        with watched() as progress:
            report = asyncio.run(_verify(url, category, replays, progress))
    if in_json:
        click.echo(json_line({"good": report.good, **msgspec.structs.asdict(report)}))
    else:
        show(report)
    sys.exit(GOOD if report.good else PROBLEMS)


async def _verify(url: str, category: str | None, replays: Sequence[ClassReplay], progress: Progress) -> Report:
    return await verify(await open_sources(url), category=category, replays=replays, progress=progress)


_COMMANDS = (
    streams_command,
    show_command,
    tail_command,
    stats_command,
    check_command,
    live_command,
    projections_command,
    snapshot_command,
    passivate_command,
    demo_command,
    bench_command,
    completion_command,
    forget_command,
    ui_command,
    *archive_commands,
)
for each in _COMMANDS:
    cli.add_command(each)


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
