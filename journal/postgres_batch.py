"""One batch of appends on its way into PostgreSQL: looked up, decided, and gathered into the columns of one statement.

The rules are those of every store (`store.py`), and the order of the checks too. What deciding needs is looked up
first, for the whole batch at once; a batch of new events of known streams, the usual one, needs no look at all.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from .errors import CodecError, DuplicateKey, Fenced, JournalError, Unstorable, VersionConflict
from .pages import NUMBER_MAX
from .postgres_heads import Head, Heads
from .postgres_session import Session
from .postgres_turns import ME
from .records import Append, Appended, KeyedReply, NewEvent, StreamId
from .reminders import REMINDER_TYPES, change_of
from .rows import event_row, keyed_row

__all__ = ["Batch"]

_NAME_BYTES_MAX = 2000
"""An entry of an index holds at most a third of a page, 2704 bytes."""

# Everything of a batch, and nothing of it unless the writer is at its epoch ($1): see postgres_door.py.
_INSERT = f"""{ME},
c AS (INSERT INTO categories (key, name)
      SELECT * FROM unnest($2::integer[], $3::bytea[]) WHERE EXISTS (SELECT FROM me)),
s AS (INSERT INTO streams (key, category, id)
      SELECT * FROM unnest($4::bigint[], $5::integer[], $6::bytea[]) WHERE EXISTS (SELECT FROM me)),
e AS (INSERT INTO events (position, stream, version, category, type, command_id, payload, metadata, reply,
                          recorded_at, checksum)
      SELECT * FROM unnest($7::bigint[], $8::bigint[], $9::bigint[], $10::integer[], $11::bytea[], $12::bytea[],
                           $13::bytea[], $14::bytea[], $15::bytea[], $16::bigint[], $17::bigint[])
      WHERE EXISTS (SELECT FROM me)),
k AS (INSERT INTO keyed_replies (stream, key, version, fingerprint, reply, checksum)
      SELECT * FROM unnest($18::bigint[], $19::bytea[], $20::bigint[], $21::bytea[], $22::bytea[], $23::bigint[])
      WHERE EXISTS (SELECT FROM me)){{reminders}}
SELECT count(*) FROM me
"""
# For batches with events of reminders alone: the others need not plan, nor run, what does nothing. No name of a stream
# is in both parts, so their order is of no matter. Rows are deleted by their places: whatever the planner makes of the
# sizes, each is found by one seek in the index.
_REMIND = """,
r AS (INSERT INTO reminders (stream, name, due, category)
      SELECT * FROM unnest($24::bigint[], $25::bytea[], $26::bigint[], $27::integer[]) WHERE EXISTS (SELECT FROM me)
      ON CONFLICT (stream, name) DO UPDATE SET due = excluded.due),
d AS (DELETE FROM reminders
      WHERE ctid = ANY (ARRAY(SELECT found.ctid FROM unnest($28::bigint[], $29::bytea[]) AS a (stream, name), LATERAL
                        (SELECT ctid FROM reminders WHERE stream = a.stream AND name = a.name LIMIT 1) AS found))
      AND EXISTS (SELECT FROM me))"""
_INSERT_EVENTS, _INSERT_AND_REMIND = _INSERT.format(reminders=""), _INSERT.format(reminders=_REMIND)

# LATERAL with a LIMIT is not flattened: whatever the planner makes of the sizes, each row is one seek in the index.
_SELECT_KEYED = (
    "SELECT a.n, k.* FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS a (stream, key, n), LATERAL"
    " (SELECT version, fingerprint, reply FROM keyed_replies WHERE stream = a.stream AND key = a.key LIMIT 1) AS k"
)
_SELECT_WRITTEN = (
    "SELECT a.n, e.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])"
    " WITH ORDINALITY AS a (stream, first, count, n), LATERAL"
    " (SELECT version, position, command_id, recorded_at, payload FROM events"
    " WHERE stream = a.stream AND version > a.first ORDER BY version LIMIT a.count) AS e"
)

_Row = tuple[Any, ...]
_Written = tuple[int, bytes, int, bytes]
"""An event as a resend is compared with it: position, command id, time, payload."""


class Batch:
    """Decides appends in their order, and gathers the rows of those that are written."""

    def __init__(self, heads: Heads, appends: Sequence[Append]) -> None:
        self._heads, self._appends = heads, appends
        self._refused = [_unstorable(append) for append in appends]
        self._keyed: dict[tuple[StreamId, str], KeyedReply] = {}
        self._there: dict[StreamId, dict[int, _Written]] = {}
        self._gathered: dict[StreamId, list[tuple[int, int, tuple[NewEvent, ...]]]] = {}  # version, position before
        self._categories: list[_Row] = []
        self._streams: list[_Row] = []
        self._events: list[_Row] = []
        self._replies: list[_Row] = []
        self._reminders: dict[tuple[int, bytes], tuple[int | None, int]] = {}  # stream, name: due, category; the newest
        self.written = 0
        """How many appends were gathered."""

    async def look_up(self, session: Session) -> None:
        """Fetch what deciding needs: heads and epochs, recorded keys, events that may have been sent before."""
        storable = [append for append, why in zip(self._appends, self._refused, strict=True) if why is None]
        await self._heads.recall(session, (a.stream for a in storable), (a.owner for a in storable))
        known = [(append, head) for append in storable if (head := self._heads.head(append.stream)).key]
        if keys := [(append.stream, head.key, reply.key) for append, head in known for reply in append.keys]:
            await self._look_up_keys(session, keys)
        resent = [
            (append, head) for append, head in known if append.events and 0 <= append.expected_version < head.version
        ]
        if resent:
            await self._look_up_events(session, resent)

    async def _look_up_keys(self, session: Session, keys: list[tuple[StreamId, int, str]]) -> None:
        streams, names = [key for _, key, _ in keys], [name.encode() for _, _, name in keys]
        for n, version, fingerprint, reply in await session.fetch(_SELECT_KEYED, streams, names):
            stream, _, name = keys[int(n) - 1]
            self._keyed[stream, name] = KeyedReply(key=name, fingerprint=fingerprint, version=version, reply=reply)

    async def _look_up_events(self, session: Session, resent: list[tuple[Append, Head]]) -> None:
        first = [append.expected_version for append, _ in resent]
        count = [len(append.events) for append, _ in resent]
        found = await session.fetch(_SELECT_WRITTEN, [head.key for _, head in resent], first, count)
        for n, version, *written in found:
            self._there.setdefault(resent[int(n) - 1][0].stream, {})[version] = tuple(written)

    def decide(self) -> list[Appended | JournalError]:
        """What becomes of each, if the rows that are gathered on the way are written."""
        refused = zip(self._appends, self._refused, strict=True)
        return [self._decide(append) if why is None else why for append, why in refused]

    def _decide(self, append: Append) -> Appended | JournalError:
        current = self._heads.epoch(append.owner)
        if append.epoch != current or not current:
            return Fenced(append.owner, append.epoch, current)
        head = self._heads.head(append.stream)
        if append.expected_version != head.version or append.keys or not append.events:
            answer = self._decide_with_care(append, head)
            if answer is not None:
                return answer
        if self._heads.position > NUMBER_MAX - len(append.events):
            return Unstorable(str(append.stream), f"there is no position left above {self._heads.position}")
        return self._gather(append, head)

    def _decide_with_care(self, append: Append, head: Head) -> Appended | JournalError | None:
        """Whatever the head alone cannot tell: resends, conflicts, keys. None: it is new, write it."""
        before = self._written_before(append, head)
        if before is not None:
            return before
        if append.expected_version != head.version:
            return VersionConflict(str(append.stream), append.expected_version, head.version)
        keys = [reply.key for reply in append.keys]
        for place, key in enumerate(keys):
            if (append.stream, key) in self._keyed or key in keys[:place]:
                return DuplicateKey(str(append.stream), key)
        if not append.events and not append.keys:
            return Appended(version=head.version, position=0)
        return None

    def _written_before(self, append: Append, head: Head) -> Appended | None:
        """The answer this append got the first time, if it is one sent again."""
        first, last = append.expected_version, append.expected_version + len(append.events)
        if last > head.version or not (append.events or append.keys):
            return None
        for reply in append.keys:
            if self._keyed.get((append.stream, reply.key)) != reply or not first <= reply.version <= last:
                return None
        there = self._events_after(append.stream, first, last)
        # The payloads count: a command that ran again, on an owner that could not tell, may have decided otherwise.
        if [row[1:] for row in there] != [(e.command_id.encode(), e.recorded_at, e.payload) for e in append.events]:
            return None
        return Appended(version=last, position=there[-1][0] if there else 0)

    def _events_after(self, stream: StreamId, first: int, last: int) -> list[_Written]:
        """Events `first + 1` to `last`: from the journal, or from the appends that stand before this one."""
        there = dict(self._there.get(stream, {}))
        for version, position, events in self._gathered.get(stream, ()):
            for n, event in enumerate(events, 1):
                there[version + n] = (position + n, event.command_id.encode(), event.recorded_at, event.payload)
        return [there[version] for version in range(first + 1, last + 1) if version in there]

    def _gather(self, append: Append, head: Head) -> Appended:
        heads, stream = self._heads, append.stream
        if not head.key:
            if heads.create(stream, head):
                self._categories.append((head.category, stream.category.encode()))
            self._streams.append((head.key, head.category, stream.id.encode()))
        if append.events:
            self._gathered.setdefault(stream, []).append((head.version, heads.position, append.events))
        for event in append.events:
            head.version += 1
            heads.position += 1
            row = event_row(event, heads.position, head.key, head.version, head.category, head.name)
            self._events.append(row)
            if event.type in REMINDER_TYPES:
                name, due = change_of(event.payload)
                self._reminders[head.key, name.encode()] = due, head.category
        for reply in append.keys:
            self._keyed[stream, reply.key] = reply
            self._replies.append(keyed_row(reply, head.key, head.name))
        self.written += 1
        return Appended(version=head.version, position=heads.position if append.events else 0)

    @property
    def statement(self) -> str:
        """What writes the gathered rows. Its values are the writer's epoch, and `columns`."""
        return _INSERT_AND_REMIND if self._reminders else _INSERT_EVENTS

    def columns(self) -> list[list[Any]]:
        """The gathered rows as the values of `statement`, from $2 on."""
        events, replies = _columns(self._events, 11), _columns(self._replies, 6)
        events[4], events[5], replies[1] = _encoded(events[4]), _encoded(events[5]), _encoded(replies[1])
        return [*_columns(self._categories, 2), *_columns(self._streams, 3), *events, *replies, *self._changes()]

    def _changes(self) -> list[list[Any]]:
        """What it does to the index of reminders: rows that are set, rows that go. No columns if it does nothing."""
        if not self._reminders:
            return []
        changed = self._reminders.items()
        pending = [(stream, name, due, category) for (stream, name), (due, category) in changed if due is not None]
        return [*_columns(pending, 4), *_columns([key for key, (due, _) in changed if due is None], 2)]


def _unstorable(append: Append) -> JournalError | None:
    """What no column, or no index, can hold of this append."""
    try:
        names = [append.stream.category, append.stream.id, append.owner, *(reply.key for reply in append.keys)]
        if any(len(name) * 4 > _NAME_BYTES_MAX and len(name.encode()) > _NAME_BYTES_MAX for name in names):
            return Unstorable(_printable(append.stream)[:200], f"a name is longer than {_NAME_BYTES_MAX} bytes")
        for name in names:
            name.encode()
        for event in append.events:
            event.type.encode()
            event.command_id.encode()
            if event.type in REMINDER_TYPES:
                change_of(event.payload)
    except (UnicodeEncodeError, CodecError) as error:
        return Unstorable(_printable(append.stream), str(error))
    numbers = [*(event.recorded_at for event in append.events), *(reply.version for reply in append.keys)]
    if any(not -NUMBER_MAX <= number <= NUMBER_MAX for number in numbers):
        return Unstorable(str(append.stream), "a number is beyond 64 bits")
    return None


def _printable(stream: StreamId) -> str:
    """Its name, so that it can travel: what cannot be stored may be the name."""
    return str(stream).encode(errors="backslashreplace").decode()


def _columns(rows: list[_Row], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _encoded(texts: Iterable[str]) -> list[bytes]:
    return [text.encode() for text in texts]
