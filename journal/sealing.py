"""Sealing: what a host writes, as it may be kept. Personal fields go under the keys of their subjects, snapshots and
replies under the key of the stream, and what is large is compressed first.

It stands around the journal of a host whose aggregates have personal data, or that compresses; the others have none of
it. Keys that are not at hand are asked for before an append is handed over, which costs it a request and disturbs no
order: a stream has one append under way at a time.

**What a state holds and what it is sealed with.** The stream's key is asked for before the state is read, and with it
everything is sealed that is made from that state, for as long as it is in memory. Destroying a subject destroys the
keys of its streams in the same transaction. So whatever was made from a state that still held the subject's data is
sealed with a key that is destroyed, however late it is written; and a state that was read with a newer key was read
without that data. A host that cannot get its stream's key again reads its state again.

Before this: commands have run, and their events are encoded. After this: no personal data is on its way in the clear.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from .batcher import Answered, Batcher
from .compression import compressed
from .errors import JournalError, JournalUnavailable, Unstorable
from .journal import Journal
from .keys import DataSubject, Key, Wanted
from .opening import field_place, fingerprint_place, reply_place, snapshot_place
from .records import Append, Appended, KeyedReply, Load, Loaded, NewEvent, Snapshot, StreamId
from .reminders import RESERVED_PREFIX
from .sealed import parsed_fields, seal, seal_whole, unparsed

__all__ = ["PersonalField", "SealingJournal", "sealing"]

SUBJECTS_MAX = 1000
"""Keys of subjects that are kept at hand for one stream."""


class PersonalField(msgspec.Struct, frozen=True, kw_only=True):
    """A personal field of an event. `subject`: the field that holds the subject's id; empty: the id is the stream's.
    `kind`: of the subject; empty: the stream's category. `blank`: what it is once forgotten, as MessagePack."""

    name: str
    subject: str
    kind: str
    blank: bytes


Personal = Mapping[str, Sequence[PersonalField]]
"""The personal fields of events, by the name of the event."""


class _Hand:
    """The keys at hand for one stream."""

    __slots__ = ("own", "subjects")

    def __init__(self, own: Key) -> None:
        self.own, self.subjects = own, dict[DataSubject, Key]()


class SealingJournal:
    """A `Journal` for one host. What is not here, the journal that it stands around does by itself."""

    def __init__(self, journal: Journal, personal: Personal, *, compress_from: int, streams_max: int) -> None:
        """`compress_from`: bytes from which on a payload is compressed; 0: none is. `streams_max`: for so many streams
        keys are kept at hand: as many as there are in memory."""
        self._journal, self._personal, self._compress_from = journal, personal, compress_from
        self._streams_max = streams_max
        self._hands: OrderedDict[StreamId, _Hand] = OrderedDict()  # least recently used first
        self._asking: Batcher[Wanted, tuple[Key, ...] | None] = Batcher("keys", self._prepare, in_flight_max=2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, append: Append, size: int = 0) -> "asyncio.Future[Appended]":
        """See `Journal.append`."""
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.hand_over(append, size, partial(_settle, future))
        return future

    def hand_over(self, append: Append, size: int, answered: Answered[Appended]) -> None:
        """See `Journal.hand_over`. Raises `JournalUnavailable` where the stream's key is not at hand: its state has to
        be read again."""
        if not self._personal:
            self._journal.hand_over(self._compressed(append), size, answered)
            return
        hand = self._hand(append.stream)
        missing = tuple(s for s in dict.fromkeys(self._subjects(append)) if s not in hand.subjects)
        if missing:
            wanted = Wanted(str(append.stream), hand.own.generation, missing)
            self._asking.put(wanted, 0, partial(self._got, append, size, answered, hand, missing))
        else:
            self._journal.hand_over(self._sealed(append, hand), size, answered)

    def request(self, load: Load, answered: Answered[Loaded]) -> None:
        """See `Journal.request`. The stream's key comes first, where a state is read from its beginning."""
        if not self._personal or load.after or load.stream in self._hands:
            self._journal.request(load, answered)
        else:
            self._asking.put(Wanted(str(load.stream), 0), 0, partial(self._begin, load, answered))

    def kept(self, snapshot: Snapshot) -> Snapshot | None:
        """See `Journal.kept`. None where the stream's key is not at hand: it belonged to another state than this."""
        small = replace(snapshot, payload=compressed(snapshot.payload, self._compress_from))
        if not self._personal:
            return small
        hand = self._hands.get(snapshot.stream)
        return None if hand is None else self._sealed_snapshot(small, hand.own)

    def let_go(self, subject: DataSubject, streams: Iterable[StreamId]) -> None:
        """A subject was forgotten: have no key of it, nor of these streams, at hand any more."""
        for stream in streams:
            self._hands.pop(stream, None)
        for hand in self._hands.values():
            hand.subjects.pop(subject, None)

    # -- keys ----------------------------------------------------------------------------------------------------

    async def _prepare(self, wanted: list[Wanted]) -> list[tuple[Key, ...] | None]:
        found: list[tuple[Key, ...] | None] = await self._journal.parts[0].ask("prepare_keys", wanted)
        return found

    def _begin(self, load: Load, answered: Answered[Loaded], result: tuple[Key, ...] | Exception | None) -> None:
        if isinstance(result, Exception):
            answered(result)
            return
        assert result is not None, "a key that is asked for anew is never refused"
        self._hands[load.stream] = _Hand(result[0])
        while len(self._hands) > self._streams_max:
            self._hands.popitem(last=False)
        try:
            self._journal.request(load, answered)
        except JournalError as error:  # its queue is full
            answered(error)

    def _got(
        self,
        append: Append,
        size: int,
        answered: Answered[Appended],
        hand: _Hand,
        missing: Sequence[DataSubject],
        result: tuple[Key, ...] | Exception | None,
    ) -> None:
        try:
            if isinstance(result, Exception):
                raise result
            if result is None:
                if self._hands.get(append.stream) is hand:
                    del self._hands[append.stream]
                raise _stale(append.stream)
            if len(hand.subjects) + len(missing) > SUBJECTS_MAX:
                kept = set(self._subjects(append))
                hand.subjects = {subject: key for subject, key in hand.subjects.items() if subject in kept}
            hand.subjects.update(zip(missing, result[1:], strict=True))
            self._journal.hand_over(self._sealed(append, hand), size, answered)
        except Exception as error:
            answered(error)

    def _hand(self, stream: StreamId) -> _Hand:
        hand = self._hands.get(stream)
        if hand is None:
            raise _stale(stream)
        self._hands.move_to_end(stream)
        return hand

    def _subjects(self, append: Append) -> Iterable[DataSubject]:
        for event in append.events:
            fields = self._personal.get(event.type)
            if fields:
                values, _ = parsed_fields(event.payload)
                for field in fields:
                    if bytes(values[field.name]) != NIL:
                        yield subject_of(field, values, append.stream)

    # -- what is written -----------------------------------------------------------------------------------------

    def _compressed(self, append: Append) -> Append:
        return replace(
            append,
            events=tuple(self._small(event) for event in append.events),
            keys=tuple(replace(key, reply=compressed(key.reply, self._compress_from)) for key in append.keys),
        )

    def _small(self, event: NewEvent) -> NewEvent:
        """Our own events stay as they are: the journal itself looks into them."""
        reply = None if event.reply is None else compressed(event.reply, self._compress_from)
        own = event.type.startswith(RESERVED_PREFIX)
        payload = event.payload if own else compressed(event.payload, self._compress_from)
        return (
            event if payload is event.payload and reply is event.reply else replace(event, payload=payload, reply=reply)
        )

    def _sealed(self, append: Append, hand: _Hand) -> Append:
        stream, start = append.stream, append.expected_version + 1
        events = [self._sealed_event(stream, start + n, event, hand) for n, event in enumerate(append.events)]
        return replace(append, events=tuple(events), keys=tuple(self._sealed_key(stream, k, hand) for k in append.keys))

    def _sealed_event(self, stream: StreamId, version: int, event: NewEvent, hand: _Hand) -> NewEvent:
        fields, payload, reply = self._personal.get(event.type, ()), event.payload, event.reply
        if fields:
            payload = self._sealed_fields(stream, version, event, fields, hand)
        if reply is not None and reply != NIL:  # which most commands answer, and which tells nothing
            small = compressed(reply, self._compress_from)
            reply = seal_whole(hand.own, small, reply_place(stream, event.command_id))
        if not event.type.startswith(RESERVED_PREFIX):
            payload = compressed(payload, self._compress_from)
        return replace(event, payload=payload, reply=reply)

    def _sealed_fields(
        self, stream: StreamId, version: int, event: NewEvent, fields: Sequence[PersonalField], hand: _Hand
    ) -> bytes:
        raw, _ = parsed_fields(event.payload)
        values: dict[str, Any] = dict(raw)
        for field in fields:
            value = bytes(raw[field.name])
            if value != NIL:
                key = hand.subjects[subject_of(field, raw, stream)]
                place = field_place(stream, version, event.type, field.name)
                values[field.name] = seal(key, compressed(value, self._compress_from), place, field.blank)
        return unparsed(values)

    def _sealed_key(self, stream: StreamId, key: KeyedReply, hand: _Hand) -> KeyedReply:
        """The fingerprint too: of arguments that can be guessed, a hash tells whether the guess is right."""
        reply = seal_whole(hand.own, compressed(key.reply, self._compress_from), reply_place(stream, key.key))
        fingerprint = seal_whole(hand.own, key.fingerprint, fingerprint_place(stream, key.key))
        return replace(key, reply=reply, fingerprint=fingerprint)

    def _sealed_snapshot(self, snapshot: Snapshot, key: Key) -> Snapshot:
        place = snapshot_place(snapshot.stream, snapshot.version, snapshot.schema)
        return replace(snapshot, payload=seal_whole(key, snapshot.payload, place))


NIL = b"\xc0"
_decode = msgspec.msgpack.Decoder().decode


def subject_of(field: PersonalField, values: Mapping[str, msgspec.Raw], stream: StreamId) -> DataSubject:
    """Whose data a field of an event is. Raises `Unstorable` where the event does not say."""
    id: Any = _decode(values[field.subject]) if field.subject else stream.id
    if type(id) not in (str, int) or id == "":
        raise Unstorable(f"{field.name!r} of an event of {stream}", f"{field.subject!r} names no data subject: {id!r}")
    return DataSubject(field.kind or stream.category, str(id))


def _stale(stream: StreamId) -> JournalUnavailable:
    return JournalUnavailable(f"the key of {stream} is not at hand any more: its state is read again")


def _settle(future: "asyncio.Future[Appended]", result: Appended | Exception) -> None:
    if not future.done():
        future.set_exception(result) if isinstance(result, Exception) else future.set_result(result)


def sealing(journal: Journal, personal: Personal, *, compress_from: int, streams_max: int) -> Journal:
    """The journal as a host with such events writes to it: itself, where nothing is personal and nothing compressed."""
    if not personal and not compress_from:
        return journal
    made = SealingJournal(journal, personal, compress_from=compress_from, streams_max=streams_max)
    return cast(Journal, made)
