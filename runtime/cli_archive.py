"""The command line's archives and backups: `holdfast export`, `import`, `digest`, `backup`.

Exit status: 0 all is well, 1 problems were found in what was read (a damaged archive or journal, another history at
the target), 2 it could not run, 130 it was interrupted: run it again, and it goes on. An archive on stdout is all that
is there; what a person or a program is told then goes to stderr. Nothing of it goes to a terminal.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from holdfast.journal.archive_digest import Contents
from holdfast.journal.archive_errors import ArchiveTorn
from holdfast.journal.archive_export import contents_of, export, open_archive_sources
from holdfast.journal.archive_import import Imported, import_archive, opened_stores
from holdfast.journal.archive_reader import ArchiveReader
from holdfast.journal.archive_resume import Begun, begun_in, check_begun
from holdfast.journal.archive_source import ArchiveSource
from holdfast.journal.backup import Backup, backup, written_whole
from holdfast.journal.progress import Progress

from .cli_event import json_line
from .cli_journal import journal_option, journal_to_change, the_journal
from .cli_report import shown, watched
from .cli_status import told

__all__ = ["archive_commands"]

_journal = click.argument("words", nargs=-1, metavar="[URL]")
_json = click.option("--json", "in_json", is_flag=True, help="One JSON object.")
_categories = click.option(
    "--category", "categories", metavar="NAME", multiple=True, help="Only this category. May be given several times."
)
_snapshots = click.option(
    "--snapshots", is_flag=True, help="Take snapshots along: they are a cache, and save a replay."
)
_compress = click.option("--compress", is_flag=True, help="Deflate what is written.")
_force = click.option("--force", is_flag=True, help="Write over what is there.")


# export


@click.command("export", short_help="Write a journal as an archive.")
@_journal
@journal_option
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Else stdout.")
@_categories
@_snapshots
@_compress
@click.option("--resume", is_flag=True, help="Go on with FILE.part, which an export that was cut short has left.")
@_force
@_json
def export_command(
    words: Sequence[str],
    journal: str | None,
    output: Path | None,
    categories: Sequence[str],
    snapshots: bool,
    compress: bool,
    resume: bool,
    force: bool,
    in_json: bool,
) -> None:
    """Write a journal as an archive, to a file or into a pipe.

    As it is at the moment at which this starts; a writer may be at work and is never waited for. The archive is the
    same for equal journals, whatever stores they are in, and holds no keys, owners or epochs. Until it is whole, a file
    has the name FILE.part. The digests of what was written are printed.

    Exit status: 0 the archive is whole, 1 the journal is damaged, 2 it could not be written.

    \b
    Examples:
      holdfast export sqlite:///bank.db -o bank.hf
      holdfast export sqlite:///bank.db | holdfast import postgres://me@host/bank
    """
    with _told("run it again with --resume, and it goes on" if output else ""):
        run = _Export(the_journal(words, journal), categories, snapshots, compress)
        if output is None:
            if resume or force:
                raise click.UsageError("--resume and --force are for a file: name one with -o FILE")
            contents = asyncio.run(run.into_pipe(_stdout()))
        else:
            contents = asyncio.run(run.into_file(output, resume=resume, force=force))
    _tell(contents, in_json, err=output is None)


class _Export:
    """One run of the command."""

    def __init__(self, url: str, categories: Sequence[str], snapshots: bool, compress: bool) -> None:
        self._url, self._categories = url, categories
        self._snapshots, self._compress = snapshots, compress

    async def into_pipe(self, pipe: BinaryIO) -> Contents:
        async with _opened(self._url) as sources:
            contents = await self._export(sources, pipe, None)
            pipe.flush()
            return contents

    async def into_file(self, path: Path, *, resume: bool, force: bool) -> Contents:
        """Into `<path>.part`, which gets its name when it is whole."""
        part = _part(path, resume=resume, force=force)
        async with _opened(self._url) as sources:
            with part.open("r+b" if resume else "wb") as file:
                begun = await self._begun(file, part, sources) if resume else None
                contents = await self._export(sources, file, begun)
        await asyncio.to_thread(written_whole, part, path)
        return contents

    async def _begun(self, file: BinaryIO, part: Path, sources: Sequence[ArchiveSource]) -> Begun | None:
        """What is there already; nothing, if not even the header is."""
        if not os.fstat(file.fileno()).st_size:
            return None
        begun: Begun | None = None
        with contextlib.suppress(ArchiveTorn):  # of not even its header
            begun = begun_in(file, str(part))
        if begun is not None:
            await check_begun(
                begun,
                sources,
                categories=self._categories,
                snapshots=self._snapshots,
                compress=self._compress,
                name=str(part),
            )
        file.seek(begun.size if begun else 0)
        file.truncate()
        return begun

    async def _export(self, sources: Sequence[ArchiveSource], sink: BinaryIO, begun: Begun | None) -> Contents:
        with watched() as progress:
            return await export(
                sources,
                sink,
                categories=self._categories,
                snapshots=self._snapshots,
                compress=self._compress,
                begun=begun,
                progress=progress,
            )


def _part(path: Path, *, resume: bool, force: bool) -> Path:
    """What a file is called until it is whole. Raises where something would be written over."""
    part = path.with_name(f"{path.name}.part")
    if path.exists() and not force:
        raise click.UsageError(f"{path} is there already; name another file, or write over it with --force")
    if part.exists() and not (resume or force):
        raise click.UsageError(f"{part} is there: go on with it by --resume, or write over it with --force")
    if not part.exists() and resume:
        raise click.UsageError(f"there is no {part} to go on with")
    return part


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[list[ArchiveSource], None]:
    sources = await open_archive_sources(url)
    try:
        yield sources
    finally:
        for source in sources:
            await source.close()


def _stdout() -> BinaryIO:
    if sys.stdout.isatty():
        raise click.UsageError("an archive is no text: send it into a pipe or a file, or name one with -o FILE")
    return sys.stdout.buffer


# import


@click.command("import", short_help="Take an archive into a journal.")
@_journal
@journal_option
@click.option(
    "-i", "--input", "source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Else stdin.",
)  # fmt: skip
@click.option("--no-checkpoints", is_flag=True, help="Have all followers begin at the beginning.")
@_json
def import_command(
    words: Sequence[str], journal: str | None, source: Path | None, no_checkpoints: bool, in_json: bool
) -> None:
    """Take an archive into a journal, from a file or a pipe. The journal has to be named, and is made if it is not
    there.

    What is there already is compared and left as it is, so an import that was interrupted goes on when it is run again.
    Where the target holds another history of a stream, it is refused, with the first version that differs. No runtime
    may be at work on the target.

    A journal with as many partitions, that holds nothing else, gets every event at its position, and followers go on
    where they were. In any other one the order within each stream is kept and positions are new.

    Exit status: 0 all of it is there, 1 the archive is damaged or the target holds another history, 2 it could not run.

    \b
    Example:
      holdfast import postgres://me@host/bank -i bank.hf
    """
    with _told("run it again, and it goes on"), contextlib.ExitStack() as opened:
        url = journal_to_change(words, journal)
        stream = opened.enter_context(source.open("rb")) if source else _stdin()
        with watched() as progress:
            imported = asyncio.run(_import(url, stream, str(source or "stdin"), not no_checkpoints, progress))
    _tell_imported(imported, in_json)


async def _import(url: str, stream: BinaryIO, name: str, checkpoints: bool, progress: Progress) -> Imported:
    reader = ArchiveReader(stream, name)
    reader.open()  # before a journal is made for it
    async with opened_stores(url) as stores:
        return await import_archive(reader, stores, checkpoints=checkpoints, progress=progress)


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        raise click.UsageError("an archive comes from a pipe or a file: name one with -i FILE")
    return sys.stdin.buffer


# digest


@click.command("digest", short_help="What a journal holds, as digests to compare.")
@_journal
@journal_option
@_categories
@_json
def digest_command(words: Sequence[str], journal: str | None, categories: Sequence[str], in_json: bool) -> None:
    """Print digests of what a journal holds: equal for equal contents, whatever store they are in.

    In total and for each category: of the events of each stream and of keyed replies, however many partitions there
    are. For each partition: of its events in their order and at their positions. It reads, and changes nothing.

    Exit status: 0 it was read, 1 it is damaged, 2 it could not be read.

    \b
    Example:
      holdfast digest sqlite:///bank.db
    """
    with _told():
        contents = asyncio.run(_digest(the_journal(words, journal), categories))
    _tell(contents, in_json)


async def _digest(url: str, categories: Sequence[str]) -> Contents:
    async with _opened(url) as sources:
        with watched() as progress:
            return await contents_of(sources, categories=categories, progress=progress)


# backup


@click.command("backup", short_help="Make a backup, while it is written.")
@click.argument("words", nargs=-1, metavar="[URL] FILE")
@journal_option
@_force
@_snapshots
@_compress
@_json
def backup_command(
    words: Sequence[str], journal: str | None, force: bool, snapshots: bool, compress: bool, in_json: bool
) -> None:
    """Make a backup of a journal in FILE, while it is written.

    Of SQLite: a journal that opens as it is, sqlite:///FILE, checked by SQLite before it gets its name; of several
    partitions all files, FILE.p1 and so on, with FILE.manifest.json. Of PostgreSQL: an archive, read in one snapshot of
    the database and brought back by `holdfast import`; --snapshots and --compress are for that.

    Exit status: 0 it is made and whole, 1 the journal is damaged, 2 it could not be made.

    \b
    Example:
      holdfast backup sqlite:///bank.db /backups/bank.db
    """
    if not words:
        raise click.UsageError("it needs a FILE to be made in")
    file = Path(words[-1])
    with _told(), watched() as progress:
        url = the_journal(words[:-1], journal)
        made = asyncio.run(backup(url, file, force=force, snapshots=snapshots, compress=compress, progress=progress))
    _tell_backup(made, in_json)


# Telling


def _tell(contents: Contents, in_json: bool, *, err: bool = False) -> None:
    if in_json:
        click.echo(json_line(contents), err=err)
        return
    for line in _lines(contents):
        click.echo(line, err=err)


def _lines(contents: Contents) -> Generator[str, None, None]:
    for each in contents.categories:
        held = f"{each.events:,} events, {each.keyed_replies:,} keyed replies"
        yield f"{each.digest}  category {shown(each.category)}: {held}"
    for part in contents.partitions:
        yield f"{part.digest}  partition {part.partition}: {part.events:,} events up to position {part.position:,}"
    yield f"{contents.digest}  total: {contents.events:,} events, {contents.keyed_replies:,} keyed replies"


def _tell_imported(imported: Imported, in_json: bool) -> None:
    if in_json:
        click.echo(json_line(imported))
        return
    _tell(imported.contents, in_json)
    click.echo(f"{imported.events_written:,} events written, {imported.events_found:,} were there already")
    if imported.positions_kept:
        click.echo(f"positions are kept; {imported.checkpoints:,} checkpoints of followers with them")
    else:
        click.echo("positions are new: compare journals by the digests of categories, and of the total")
    if imported.checkpoints_left:
        click.echo(f"{imported.checkpoints_left:,} checkpoints of followers were left: those begin where they are here")


def _tell_backup(made: Backup, in_json: bool) -> None:
    if in_json:
        click.echo(json_line(made))
        return
    for file in made.files:
        click.echo(f"{file.sha256}  {shown(file.file)}: {file.bytes:,} bytes, up to position {file.position:,}")
    if made.contents is not None:
        _tell(made.contents, in_json)


@contextlib.contextmanager
def _told(onward: str = "") -> Generator[None, None, None]:
    """As of other commands. `onward`: what to do after it was interrupted."""
    with told(onward), _interruptible():
        yield


@contextlib.contextmanager
def _interruptible() -> Generator[None, None, None]:
    """Have Ctrl-C break off a read or a write at once. asyncio's own way would cancel a task, which waits for a pipe
    that says nothing; it leaves a handler alone that is not Python's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


archive_commands: Sequence[click.Command] = (export_command, import_command, digest_command, backup_command)
"""To be added to the group."""
