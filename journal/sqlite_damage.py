"""What SQLite itself, and the system, find wrong with a journal's file: length, pages, indexes, tables, triggers."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from .errors import JournalUnavailable
from .sqlite_file import schema_script
from .verify_rows import text

__all__ = ["DAMAGED", "damage", "let_pass"]

DAMAGE_MAX = 100
"""Messages that SQLite's own check gives, at most."""

DAMAGED = (sqlite3.Error, UnicodeDecodeError)
"""What reading raises. The second: even the message, which quotes the schema, can be rotten."""

_NOT_NOW = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""What keeps a verification from running; every other error of SQLite is damage."""


def let_pass(error: Exception) -> None:
    """Raise `JournalUnavailable` unless the error says that something stored is damaged."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_NOW:
        raise JournalUnavailable(str(error)) from error


def damage(connection: sqlite3.Connection, path: Path | None) -> Iterator[str]:
    """Each thing that is wrong, in words. `path`: of the file, if it is whole without a log."""
    if path is not None:
        yield from _length_problems(path)
    try:
        found = connection.execute(f"PRAGMA integrity_check({DAMAGE_MAX})").fetchall()
        yield from (text(row[0]) for row in found if row[0] != b"ok")
        yield from _schema_problems(connection)
    except DAMAGED as error:
        let_pass(error)
        yield f"SQLite cannot read it: {error}"


def _length_problems(path: Path) -> Iterator[str]:
    """A file that was cut short, or has something behind its end."""
    with path.open("rb") as file:
        header = file.read(100)
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    wanted, there = page * int.from_bytes(header[28:32], "big"), path.stat().st_size
    if wanted > there:
        yield f"the file is torn: {there:,} bytes are there, its header counts {wanted:,}"
    elif 0 < wanted < there:
        yield f"the file has {there - wanted:,} bytes behind its end"


def _schema_problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Tables, indexes and triggers, held against those of a new file of the same schema."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    fresh = sqlite3.connect(":memory:")
    fresh.text_factory = bytes
    fresh.executescript(schema_script(schema))
    wanted, found = _schema_of(fresh), _schema_of(connection)
    fresh.close()
    for what in sorted(wanted.keys() - found.keys()):
        yield f"the {' '.join(what)} is missing"
    for what in sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name]):
        yield f"the {' '.join(what)} is not as it was made"


def _schema_of(connection: sqlite3.Connection) -> dict[tuple[str, str], bytes]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    return {(text(kind), text(name)): b" ".join((sql or b"").split()) for kind, name, sql in rows}
