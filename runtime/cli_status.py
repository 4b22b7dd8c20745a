"""How a command of the command line ends.

0 all is well · 1 problems were found in the journal, or in what was looked for · 2 it could not run · 130 interrupted
with Ctrl-C, which is how `tail -f` and `live` end · 141 whoever read the output has gone, as in `holdfast tail | head`.
"""

import contextlib
import os
import sys
from collections.abc import Generator

import click

from holdfast.actors.errors import HydrationFailed
from holdfast.journal.archive_errors import ArchiveDamaged, ForeignHistory, NotAnArchive
from holdfast.journal.errors import CorruptRecord, HoldfastError

from .cli_report import shown

__all__ = ["CANNOT_RUN", "GOOD", "INTERRUPTED", "PROBLEMS", "UNREAD", "note", "told"]

GOOD, PROBLEMS, CANNOT_RUN, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141

_FOUND = (ArchiveDamaged, CorruptRecord, ForeignHistory, HydrationFailed, NotAnArchive)
"""What is wrong with what was read, and not with how it was asked for."""


def note(text: str) -> None:
    """A word to whoever watches; what is read by a program is not touched by it."""
    click.echo(f"holdfast: {shown(text)}", err=True)


@contextlib.contextmanager
def told(onward: str | None = None) -> Generator[None, None, None]:
    """What keeps a command from running is told in a line, with a status that says so. `onward`: that it was
    interrupted is told too, with what to do then."""
    try:
        yield
    except BrokenPipeError:
        _forget_output()
        sys.exit(UNREAD)
    except (HoldfastError, OSError) as error:
        note(str(error))
        sys.exit(PROBLEMS if isinstance(error, _FOUND) else CANNOT_RUN)
    except KeyboardInterrupt:
        if onward is not None:
            note(f"interrupted{'; ' if onward else ''}{onward}")
        sys.exit(INTERRUPTED)


def _forget_output() -> None:
    """What is still to be written goes nowhere, without a complaint at the end of the process."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
