"""Which journal a command is about, and which classes it may use.

The journal is, in this order: an argument that is a URL (`holdfast stats sqlite:///bank.db`), the option `--journal`,
the variable HOLDFAST_URL, or the one file `*.db` in the working folder that is a journal. The rule is the same for all
commands, and `holdfast --help` tells it.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.verify import aggregates_in
from holdfast.journal.errors import HoldfastError
from holdfast.journal.records import StreamId
from holdfast.journal.sqlite_file import inspect_header
from holdfast.journal.url import JournalUrl

from .inspection import Inspection

__all__ = [
    "URL_VARIABLE",
    "NoJournal",
    "classes_in",
    "imported",
    "journal_option",
    "journal_to_change",
    "journal_url",
    "look_at",
    "module_option",
    "named_stream",
    "the_journal",
    "unknown_word",
    "url_alone",
    "url_and_rest",
]

URL_VARIABLE, MODULE_VARIABLE = "HOLDFAST_URL", "HOLDFAST_MODULE"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_F = TypeVar("_F", bound=Callable[..., Any])


class NoJournal(HoldfastError):
    """Nothing says which journal is meant. Name it."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}; name one: --journal URL, or {URL_VARIABLE}=URL"


def journal_option(function: _F) -> _F:
    """The option `--journal`, as all commands have it."""
    return click.option(
        "--journal",
        "-j",
        metavar="URL",
        envvar=URL_VARIABLE,
        help=f"The journal; see holdfast --help. [{URL_VARIABLE}]",
    )(function)


def module_option(purpose: str, *, of: str = "the aggregate classes", required: bool = False) -> Callable[[_F], _F]:
    """The option `--module`, which may be given several times. `of`: what is looked for in it."""
    return click.option(
        "--module",
        "modules",
        metavar="NAME",
        multiple=True,
        required=required,
        envvar=MODULE_VARIABLE,
        help=f"Import this module, as python -m would, for {of} in it: {purpose}. May be given several"
        f" times. [{MODULE_VARIABLE}]",
    )


def url_and_rest(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """An argument that is a URL is the journal's, wherever it stands."""
    urls = [word for word in words if _URL.match(word)]
    if len(urls) > 1:
        raise click.UsageError(f"two journals are named: {urls[0]!r} and {urls[1]!r}")
    return (urls[0] if urls else None), [word for word in words if not _URL.match(word)]


def url_alone(words: Sequence[str]) -> str | None:
    """The URL among these words of a command that takes no other."""
    url, rest = url_and_rest(words)
    if rest:
        raise unknown_word(rest[0])
    return url


def unknown_word(word: str) -> click.UsageError:
    """For a word that means nothing here. Often it is the file of a journal, and then its URL is told."""
    meant = f"sqlite:///{word}" if word.endswith(".db") else "sqlite:///bank.db"
    return click.UsageError(f"what is {word!r}? The journal is a URL, as {meant}")


def journal_url(argument: str | None, option: str | None) -> str:
    """The URL of the journal that is meant. Raises `NoJournal`, `JournalUrlError`."""
    url = argument or option
    if url is not None:
        JournalUrl.parse(url)
        return url
    found = [path for path in sorted(Path().glob("*.db")) if _is_journal(path)]
    if len(found) == 1:
        return str(JournalUrl(scheme="sqlite", path=str(found[0])))
    if not found:
        raise NoJournal("no journal was named, and there is none (*.db) in this folder")
    raise NoJournal(f"no journal was named, and there are several in this folder: {', '.join(map(str, found))}")


def the_journal(words: Sequence[str], option: str | None) -> str:
    """The URL of the one journal that these words of a command name, if they name any. Raises as `journal_url`."""
    return journal_url(url_alone(words), option)


def journal_to_change(words: Sequence[str], option: str | None) -> str:
    """The same for what changes it: one that only happens to be in this folder is not meant."""
    named = url_alone(words) or option
    if named is None:
        raise NoJournal("this changes a journal, and none was named")
    return journal_url(named, None)


def _is_journal(path: Path) -> bool:
    try:
        inspect_header(path)
        return path.stat().st_size > 0
    except (HoldfastError, OSError):
        return False


async def look_at(argument: str | None, option: str | None, classes: Sequence[type] = ()) -> Inspection:
    """A look at the journal that is meant."""
    return await Inspection.open(journal_url(argument, option), classes)


def named_stream(text: str) -> StreamId:
    """`Account/alice`, taken apart. The id is all that comes after the first slash."""
    category, slash, id = text.partition("/")
    if not (category and slash and id):
        raise click.UsageError(f"a stream is named CATEGORY/ID, as Account/alice, and not {text!r}")
    return StreamId(category, id)


def classes_in(modules: Sequence[str]) -> list[type[Aggregate]]:
    """The aggregate classes of these modules."""
    return list(dict.fromkeys(cls for name in modules for cls in _classes_of(name)))


def _classes_of(name: str) -> Sequence[type[Aggregate]]:
    classes = aggregates_in(imported(name))
    if not classes:
        raise click.UsageError(f"--module {name}: there is no aggregate class in it")
    return classes


def imported(name: str) -> ModuleType:
    """A module, looked for as `python -m` would: in the working folder first."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # an import runs whatever the module says
        raise click.UsageError(f"--module {name}: {type(error).__name__}: {error}") from error
