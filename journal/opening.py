"""Opening: what is marked in a journal's answers becomes what was written, on the way to whoever asked.

It stands in the link, so all who read have it and none of them knows: hosts that hydrate, followers, subscriptions,
`runtime.read`. An answer without a mark is passed on as it is. One with marks costs one more request, for all the keys
that it names; keys are not kept here, so what is read after a key was destroyed is read without it.

In an event, a field whose key was destroyed is blank. A snapshot or a reply whose key was destroyed stays sealed, which
makes the one useless and the other unknown. A value that was tampered with, or whose key the store never had, is told
as `CorruptRecord`, which names its stream and version.

Before this: the journal has answered. After this: there is no sealed field in the events that go on.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import msgspec
from msgspec.structs import replace

from .cipher import Tampered
from .client import JournalLink
from .compression import expanded
from .errors import CodecError, CorruptRecord, JournalError
from .keys import KeyId
from .marked import SEALED, has_mark, is_marked
from .records import Fact, Followed, Loaded, Recorded, Snapshot, StoredReply, StreamId
from .sealed import Place, Sealed, opened, parsed_fields, sealed_whole, unparsed
from .wire import decode_followed, decode_loaded, decode_loads, decode_page, encode, encode_results

__all__ = ["OPENED", "OpeningLink", "field_place", "fingerprint_place", "is_sealed", "reply_place", "snapshot_place"]

P = ParamSpec("P")
T = TypeVar("T")

OPENED = "opened"
"""What a link answers by itself: a page of events, opened."""

Secrets = dict[KeyId, bytes | None]
Opener = Callable[[Any, tuple[Any, ...]], Awaitable[Any]]


def field_place(stream: StreamId, version: int, type: str, field: str) -> Place:
    """Where a field of an event stands."""
    return ("field", *stream, version, type, field)


def snapshot_place(stream: StreamId, version: int, schema: str) -> Place:
    """Where a snapshot stands."""
    return ("snapshot", *stream, version, schema)


def reply_place(stream: StreamId, id: str) -> Place:
    """Where the reply of a command stands."""
    return ("reply", *stream, id)


def fingerprint_place(stream: StreamId, id: str) -> Place:
    """Where the fingerprint of a keyed command stands."""
    return ("fingerprint", *stream, id)


class _Stored(NamedTuple):
    """A stored event, as far as opening it goes."""

    stream: StreamId
    version: int
    position: int
    type: str
    payload: bytes


class _Parsed(NamedTuple):
    """A payload that was expanded; with its fields, where some of them are sealed."""

    payload: bytes
    fields: dict[str, msgspec.Raw]
    sealed: dict[str, Sealed]


class _Opened(NamedTuple):
    """A payload that was opened, and whether fields of it were sealed: what was compressed does not show it."""

    payload: bytes
    was_sealed: bool


class OpeningLink:
    """A `JournalLink` that opens what comes back over another one. `keys`: the way to who serves them."""

    def __init__(self, link: JournalLink, keys: JournalLink) -> None:
        self._link, self._keys = link, keys
        self._openers: dict[str, Opener] = {
            "load": self._open_loads,
            "read_stream": self._open_page,
            "read_all": self._open_page,
            "follow": self._open_followed,
            "find_replies": self._open_replies,
            "find_keyed_of": self._open_keyed,
            "list_snapshots": self._open_snapshots,
        }

    async def ask(self, method: str, *args: Any) -> Any:
        """See `JournalLink.ask`."""
        if method == OPENED:
            return await self._open_page(args[0], ())
        answer = await self._link.ask(method, *args)
        opener = self._openers.get(method)
        if opener is None or (isinstance(answer, bytes) and not has_mark(answer)):
            return answer
        return await opener(answer, args)

    # -- answers -------------------------------------------------------------------------------------------------

    async def _open_loads(self, wire: bytes, args: tuple[Any, ...]) -> bytes:
        loads, answers = decode_loads(args[0]), decode_loaded(wire)
        stored = [
            _Stored(load.stream, fact.version, fact.position, fact.type, fact.payload)
            for load, loaded in zip(loads, answers, strict=True)
            if isinstance(loaded, Loaded)
            for fact in loaded.events
        ]
        events = iter(await self._open_events(stored))
        snapshots = [loaded.snapshot for loaded in answers if isinstance(loaded, Loaded) and loaded.snapshot]
        opened_snapshots = iter(await self._open_all(snapshots))
        results: list[Loaded | JournalError] = []
        for loaded in answers:
            if isinstance(loaded, Loaded):
                snapshot = next(opened_snapshots) if loaded.snapshot is not None else None
                results.append(_loaded(loaded, snapshot, [next(events) for _ in loaded.events]))
            else:
                results.append(loaded)
        return encode_results(results)

    async def _open_page(self, wire: bytes, args: tuple[Any, ...]) -> bytes:
        return encode(await self._opened(decode_page(wire)))

    async def _open_followed(self, wire: bytes, args: tuple[Any, ...]) -> bytes:
        page = decode_followed(wire)
        events = await self._opened(page.events)
        if len(events) < len(page.events):  # those before the one that cannot be opened are good
            return encode(Followed(events=tuple(events), reached=events[-1].position, head=page.head))
        return encode(replace(page, events=tuple(events)))

    async def _open_replies(self, found: dict[str, StoredReply], args: tuple[Any, ...]) -> dict[str, StoredReply]:
        (one,) = await self._open_found([(args[0], found)])
        return one

    async def _open_keyed(self, found: Sequence[Any], args: tuple[Any, ...]) -> list[Any]:
        streams = [stream for stream, _ in args[0]]
        good = [(stream, each) for stream, each in zip(streams, found, strict=True) if not _is_error(each)]
        done = iter(await self._open_found(good))
        return [each if _is_error(each) else next(done) for each in found]

    async def _open_snapshots(self, snapshots: list[Snapshot], args: tuple[Any, ...]) -> list[Snapshot]:
        return await self._open_all(snapshots)

    # -- events --------------------------------------------------------------------------------------------------

    async def _opened(self, events: Sequence[Recorded]) -> list[Recorded]:
        """These, up to the first that cannot be opened. Raises what is wrong with that, if it is the first of all."""
        stored = [_Stored(e.stream, e.version, e.position, e.type, e.payload) for e in events]
        done: list[Recorded] = []
        for event, found in zip(events, await self._open_events(stored), strict=True):
            if isinstance(found, JournalError):
                if done:
                    break
                raise found
            if found.payload is not event.payload:
                event = replace(event, payload=found.payload, sealed=event.payload if found.was_sealed else b"")
            done.append(event)
        return done

    async def _open_events(self, events: Sequence[_Stored]) -> list[_Opened | JournalError]:
        parsed = [_parsed(event) for event in events]
        wanted = [s.key for each in parsed if isinstance(each, _Parsed) for s in each.sealed.values()]
        secrets = await self._find(wanted)
        return [
            _opened(event, each, secrets) if isinstance(each, _Parsed) else each
            for event, each in zip(events, parsed, strict=True)
        ]

    # -- wholes --------------------------------------------------------------------------------------------------

    async def _open_all(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Snapshots; one that cannot be opened stays as it is: no code reads it, so it is passed over."""
        wholes = [(s.payload, snapshot_place(s.stream, s.version, s.schema)) for s in snapshots]
        payloads = await self._open_wholes(wholes)
        return [
            s if isinstance(payload, Exception) or payload is s.payload else replace(s, payload=payload)
            for s, payload in zip(snapshots, payloads, strict=True)
        ]

    async def _open_found(self, found: Sequence[tuple[StreamId, dict[str, StoredReply]]]) -> list[dict[str, Any]]:
        """Replies with their fingerprints. One whose key was destroyed stays sealed."""
        replies = [(stream, id, reply) for stream, each in found for id, reply in each.items()]
        wholes = [(reply.reply, reply_place(stream, id)) for stream, id, reply in replies]
        wholes += [(reply.fingerprint, fingerprint_place(stream, id)) for stream, id, reply in replies]
        values = await self._open_wholes(wholes)
        done: list[dict[str, Any]] = [{} for _ in found]
        places = [place for place, (_, each) in enumerate(found) for _ in each]
        for n, (place, (stream, id, stored)) in enumerate(zip(places, replies, strict=True)):
            reply, fingerprint = values[n], values[len(replies) + n]
            for value in (reply, fingerprint):
                if isinstance(value, Exception):
                    raise CorruptRecord(str(stream), stored.version, 0, f"the reply of {id!r}: {value}") from value
            done[place][id] = replace(stored, reply=reply, fingerprint=fingerprint)
        return done

    async def _open_wholes(self, wholes: Sequence[tuple[bytes, Place]]) -> list[bytes | Exception]:
        sealed = [_attempt(sealed_whole, value) for value, _ in wholes]
        secrets = await self._find(each.key for each in sealed if isinstance(each, Sealed))
        done: list[bytes | Exception] = []
        for (value, place), each in zip(wholes, sealed, strict=True):
            if isinstance(each, Sealed):
                done.append(_attempt(_whole, value, place, each, secrets))
            else:
                done.append(_attempt(expanded, value) if each is None else each)
        return done

    async def _find(self, wanted: Iterable[KeyId]) -> Secrets:
        ids = list(dict.fromkeys(wanted))
        return dict(zip(ids, await self._keys.ask("find_keys", ids), strict=True)) if ids else {}


def _loaded(loaded: Loaded, snapshot: Snapshot | None, events: list[_Opened | JournalError]) -> Loaded | JournalError:
    facts: list[Fact] = []
    for fact, found in zip(loaded.events, events, strict=True):
        if isinstance(found, JournalError):
            return found
        facts.append(fact if found.payload is fact.payload else replace(fact, payload=found.payload))
    return replace(loaded, snapshot=snapshot, events=tuple(facts))


def _parsed(event: _Stored) -> _Parsed | JournalError:
    if not has_mark(event.payload):
        return _Parsed(event.payload, {}, {})
    try:
        payload = expanded(event.payload)
        return _Parsed(payload, *(parsed_fields(payload) if SEALED in payload else ({}, {})))
    except (Tampered, CodecError) as error:
        return CorruptRecord(str(event.stream), event.version, event.position, f"{event.type}: {error}")
    except JournalError as error:  # an extra is missing
        return error


def _opened(event: _Stored, parsed: _Parsed, secrets: Secrets) -> _Opened | JournalError:
    if not parsed.sealed:
        return _Opened(parsed.payload, was_sealed=False)
    fields: dict[str, Any] = dict(parsed.fields)
    for name, sealed in parsed.sealed.items():
        try:
            secret = _known(sealed, secrets)
            place = field_place(event.stream, event.version, event.type, name)
            fields[name] = msgspec.Raw(opened(sealed, secret, place) if secret else sealed.blank)
        except (Tampered, CodecError) as error:
            return CorruptRecord(str(event.stream), event.version, event.position, f"{event.type}.{name}: {error}")
        except JournalError as error:
            return error
    return _Opened(unparsed(fields), was_sealed=True)


def _whole(value: bytes, place: Place, sealed: Sealed, secrets: Secrets) -> bytes:
    secret = _known(sealed, secrets)
    return opened(sealed, secret, place) if secret else value


def _known(sealed: Sealed, secrets: Secrets) -> bytes:
    """Empty for a key that was destroyed. One that never was is none that was destroyed: what it opens is not blank."""
    secret = secrets[sealed.key]
    if secret is None:
        raise Tampered(f"the key of {sealed.key} is not in the key store, and never was; is it the right store?")
    return secret


def _attempt(what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    try:
        return what(*args, **kwargs)
    except (Tampered, JournalError) as error:
        return error


def _is_error(found: Any) -> bool:
    return isinstance(found, Exception)


def is_sealed(value: bytes) -> bool:
    """Whether a reply has stayed sealed: its key was destroyed."""
    return is_marked(value, SEALED)
