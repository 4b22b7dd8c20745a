"""What the methods of a key store do, as SQL that SQLite and PostgreSQL share.

Each is a generator: it yields statements with their values and is sent the rows. So one text serves a driver that
blocks and one that is awaited, and whoever runs it wraps a transaction around it.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from .cipher import KEY_BYTES, new_key
from .keys import STREAM, DataSubject, Destroyed, Key, KeyId, Wanted
from .wrap import Wrap

__all__ = ["FORMAT", "SCHEMA", "Script", "begin", "destroy", "find", "prepare", "run"]

T = TypeVar("T")

Script: TypeAlias = Generator[tuple[str, tuple[Any, ...]], list[tuple[Any, ...]], T]

FORMAT = 1

PROOF = KeyId("holdfast.store", "", 0)
"""What is stored wrapped so that another master key is noticed: no key."""

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS key_store (format BIGINT NOT NULL, proof {blob} NOT NULL)",
    # A key that was destroyed keeps its row, without a secret: it is never made again, and is known to have been.
    "CREATE TABLE IF NOT EXISTS keys (kind TEXT NOT NULL, id TEXT NOT NULL, generation BIGINT NOT NULL,"
    " secret {blob}, PRIMARY KEY (kind, id, generation))",
    "CREATE TABLE IF NOT EXISTS uses (kind TEXT NOT NULL, id TEXT NOT NULL, stream TEXT NOT NULL,"
    " PRIMARY KEY (kind, id, stream))",
)

FOUND_AT_ONCE = 200

_NEWEST = "SELECT generation, secret FROM keys WHERE kind = ? AND id = ? ORDER BY generation DESC LIMIT 1"
_ADD = "INSERT INTO keys (kind, id, generation, secret) VALUES (?, ?, ?, ?)"
_USE = "INSERT INTO uses (kind, id, stream) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_USERS = "SELECT stream FROM uses WHERE kind = ? AND id = ? ORDER BY stream"
_GENERATION = "SELECT MAX(generation) FROM keys WHERE kind = ? AND id = ?"
# The bytes are written over before they are let go of.
_DESTROY = (
    "UPDATE keys SET secret = {zeros} WHERE kind = ? AND id = ? AND secret IS NOT NULL",
    "UPDATE keys SET secret = NULL WHERE kind = ? AND id = ? AND secret IS NOT NULL",
)


def begin(wrap: Wrap) -> Script[int]:
    """The format of the store, which is begun if it is new. Raises `JournalOpenError` where the master key is not the
    one that it was begun with: else it would come to hold keys of both."""
    rows = yield "SELECT format, proof FROM key_store", ()
    if not rows:
        yield "INSERT INTO key_store (format, proof) VALUES (?, ?)", (FORMAT, wrap.wrapped(bytes(KEY_BYTES), PROOF))
        return FORMAT
    ((format, proof),) = rows
    wrap.unwrapped(bytes(proof), PROOF)
    found: int = format
    return found


def prepare(wanted: Sequence[Wanted], wrap: Wrap) -> Script[list[tuple[Key, ...] | None]]:
    """See `KeyStore.prepare`."""
    results: list[tuple[Key, ...] | None] = []
    for each in wanted:
        own = yield from _current(DataSubject(STREAM, each.stream), wrap, make=not each.generation)
        if own is None or (each.generation and own.generation != each.generation):
            results.append(None)
            continue
        keys = [own]
        for subject in each.subjects:
            yield _USE, (*subject, each.stream)
            key = yield from _current(subject, wrap, make=True)
            assert key is not None, "it is made where there is none"
            keys.append(key)
        results.append(tuple(keys))
    return results


def _current(subject: DataSubject, wrap: Wrap, *, make: bool) -> Script[Key | None]:
    newest = yield _NEWEST, subject
    generation, secret = newest[0] if newest else (0, None)
    if secret is not None:
        id = KeyId(*subject, generation)
        return Key(kind=id.kind, id=id.id, generation=generation, secret=wrap.unwrapped(bytes(secret), id))
    if not make:
        return None
    id, secret = KeyId(*subject, generation + 1), new_key()
    yield _ADD, (*id, wrap.wrapped(secret, id))
    return Key(kind=id.kind, id=id.id, generation=id.generation, secret=secret)


def find(ids: Sequence[KeyId], wrap: Wrap) -> Script[list[bytes | None]]:
    """See `KeyStore.find`."""
    found: dict[KeyId, bytes | None] = {}
    for start in range(0, len(ids), FOUND_AT_ONCE):
        some = ids[start : start + FOUND_AT_ONCE]
        places = ", ".join(["(?, ?, CAST(? AS BIGINT))"] * len(some))
        select = f"SELECT kind, id, generation, secret FROM keys WHERE (kind, id, generation) IN (VALUES {places})"
        for kind, id, generation, secret in (yield select, tuple(part for each in some for part in each)):
            key = KeyId(kind, id, generation)
            found[key] = b"" if secret is None else wrap.unwrapped(bytes(secret), key)
    return [found.get(id) for id in ids]


def destroy(subject: DataSubject, zeros: str) -> Script[Destroyed]:
    """See `KeyStore.destroy`. `zeros`: what to write over a secret, as SQL."""
    streams = tuple([stream for (stream,) in (yield _USERS, subject)])
    for each in (subject, *(DataSubject(STREAM, stream) for stream in streams)):
        for statement in _DESTROY:
            yield statement.format(zeros=zeros), each
    ((generation,),) = yield _GENERATION, subject
    return Destroyed(generation=generation or 0, streams=streams)


def run(script: Script[T], execute: Callable[[str, tuple[Any, ...]], Iterable[tuple[Any, ...]]]) -> T:
    """Run one with a driver that blocks."""
    rows: list[tuple[Any, ...]] | None = None
    while True:
        try:
            statement = next(script) if rows is None else script.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result
        rows = list(execute(*statement))
