"""The output gate: what one aggregate has done ahead of the disk, and everybody who waits for the disk because of it.

Commands run on tentative state. Their events gather in the *pending* append; while another one is *in flight*, that is
where the next commands add theirs. A reply, and every reply that saw a version not yet durable, is held at the append
that it depends on, and goes out when that is durable. At most one append is in flight, so versions cannot overtake.

Before this: a command has run. After this: its caller may know.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from holdfast.journal.records import Append, KeyedReply, NewEvent, StreamId

from .calls import Call, Kind

__all__ = ["RECORD_BYTES", "Ahead", "Done", "OutputGate"]

RECORD_BYTES = 64
"""What a record costs beside its payload, so that a great many empty ones count too."""

Key = tuple[bool, str]


class Done:
    """What a command did, as far as a second copy of it needs to know. `ahead`: the append that it is part of.
    `in_doubt`: it was done again, since an earlier append of it had no answer."""

    __slots__ = ("ahead", "fingerprint", "in_doubt", "reply")

    def __init__(
        self, reply: bytes, fingerprint: bytes, ahead: "Ahead | None" = None, *, in_doubt: bool = False
    ) -> None:
        self.reply, self.fingerprint, self.ahead, self.in_doubt = reply, fingerprint, ahead, in_doubt


class Ahead:
    """What will be, or is, one append; and who waits for it. Emptied, and marked durable, when it is.

    `commands`: those that it is made of, with their replies, in order. `since`: when the first of them had run, by the
    host's clock, where that is measured."""

    __slots__ = ("_done", "bytes", "commands", "durable", "events", "held", "keys", "since")

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self.keys: list[KeyedReply] = []
        self.bytes = 0
        self.since = 0.0
        self.commands: list[tuple[Call, bytes]] = []
        self.held: list[tuple[Call, Kind, Any]] = []
        self.durable = False
        self._done: dict[Key, Done] = {}

    @property
    def done(self) -> dict[Key, Done]:
        """What its commands did, by id. Copies are rare, so this is made when somebody looks for one."""
        done = self._done
        for call, reply in islice(self.commands, len(done), None):
            done[call.keyed, call.command_id] = Done(reply, call.fingerprint, self, in_doubt=call.maybe_executed)
        return done

    def settle(self) -> list[tuple[Call, Kind, Any]]:
        """It is durable. Gives up those who waited for it, and keeps nothing of its commands."""
        self.durable = True
        held, self.held, self.commands, self._done = self.held, [], [], {}
        return held


class OutputGate:
    """The gate of one activation. `durable`: the version that the journal holds."""

    __slots__ = ("_recent", "durable", "in_flight", "pending")

    def __init__(self, durable: int = 0) -> None:
        self.durable = durable
        self.pending: Ahead | None = None  # of finished commands, not yet sent
        self.in_flight: Ahead | None = None
        self._recent: dict[Key, Done] = {}  # durable, but later than what waiting calls were told by the journal

    @property
    def clear(self) -> bool:
        """All that was done is durable, and nobody waits."""
        return self.pending is None and self.in_flight is None

    @property
    def wants_append(self) -> bool:
        """Something is finished and not on its way to the disk, and nothing else is."""
        return self.pending is not None and self.in_flight is None

    @property
    def pending_bytes(self) -> int:
        """About what the next append weighs."""
        return 0 if self.pending is None else self.pending.bytes

    # -- before the append ---------------------------------------------------------------------------------------

    def add(self, call: Call, events: Sequence[NewEvent], size: int, key: KeyedReply | None, reply: bytes) -> None:
        """A command is finished: this is what has to become durable before its caller may know. `size`: bytes of its
        events, about."""
        ahead = self.pending
        if ahead is None:
            ahead = self.pending = Ahead()
        ahead.events += events
        ahead.bytes += size + len(reply)
        if key is not None:
            ahead.keys.append(key)
            ahead.bytes += len(key.key) + RECORD_BYTES
        ahead.commands.append((call, reply))

    def hold(self, call: Call, kind: Kind, value: Any) -> None:
        """Answer a call that has seen the newest state: now if all of it is durable, else when it is."""
        ahead = self.pending or self.in_flight
        if ahead is None:
            call.resolve(call, kind, value)
        else:
            ahead.held.append((call, kind, value))

    # -- copies --------------------------------------------------------------------------------------------------

    def find(self, call: Call) -> Done | None:
        """What an earlier copy of this call did, as far as the journal could not have told yet."""
        key = (call.keyed, call.command_id)
        for ahead in (self.pending, self.in_flight):
            if ahead is not None and (done := ahead.done.get(key)) is not None:
                return done
        return self._recent.get(key)

    def answer(self, call: Call, done: Done, kind: Kind, value: Any) -> None:
        """Answer a copy of a call as soon as the original is durable: now, if it is."""
        if done.ahead is None or done.ahead.durable:
            call.resolve(call, kind, value)
        else:
            call.maybe_executed = call.maybe_executed or done.in_doubt
            done.ahead.held.append((call, kind, value))

    def forget_recent(self) -> None:
        """No call waits that was looked up earlier: the next look-up finds in the journal what is forgotten here."""
        if self._recent:
            self._recent = {}

    # -- the append ----------------------------------------------------------------------------------------------

    def take(self, stream: StreamId, owner: str, epoch: int) -> tuple[Append, int]:
        """The pending append, which is in flight from now on, and its size in bytes."""
        ahead = self.pending
        assert ahead is not None, f"{stream}: there is nothing to append"
        assert self.in_flight is None, f"{stream}: an append is in flight"
        self.pending, self.in_flight = None, ahead
        append = Append(
            stream=stream,
            owner=owner,
            epoch=epoch,
            expected_version=self.durable,
            events=tuple(ahead.events),
            keys=tuple(ahead.keys),
        )
        return append, ahead.bytes

    def settle(self, *, remember: bool) -> None:
        """What was in flight is durable: everybody who waited for it may know. `remember`: for calls that wait and
        were looked up, or are just being looked up, before it was."""
        ahead, self.in_flight = self.in_flight, None
        assert ahead is not None, "only what is in flight can become durable"
        self.durable += len(ahead.events)
        if remember:
            self._recent |= ahead.done
        for call, kind, value in ahead.settle():
            call.resolve(call, kind, value)

    def drop(self) -> Iterable[tuple[Call, Kind]]:
        """Nothing of what is ahead counts any more. Returns those who waited for it, in order."""
        dropped = [ahead for ahead in (self.in_flight, self.pending) if ahead is not None]
        self.pending = self.in_flight = None
        self._recent = {}
        return [(call, kind) for ahead in dropped for call, kind, _ in ahead.held]
