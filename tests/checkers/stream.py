"""What the journal holds against what was said to callers: nothing lost, doubled, invented, misnumbered, misquoted."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from .history import Operation, plain

__all__ = ["Streams", "argument_of", "numbered", "once_each", "said_as_written", "snapshots_equal_replay", "token_of"]

Streams = Mapping[str, Sequence[Any]]
"""The journal's records by stream, in order of version."""


def numbered(recorded: Sequence[Any]) -> dict[str, list[Any]]:
    """Positions run 1..n over the journal, versions 1..n in each stream. Returns the records by stream."""
    streams: dict[str, list[Any]] = defaultdict(list)
    for position, event in enumerate(recorded, 1):
        assert event.position == position, f"{event.stream}: position {event.position} stands where {position} should"
        stream = streams[str(event.stream)]
        stream.append(event)
        assert event.version == len(stream), f"{event.stream}: version {event.version} after {len(stream) - 1}"
    return dict(streams)


def once_each(history: Iterable[Operation], streams: Streams) -> None:
    """Each command that is done has its event, in its own stream, once; one in doubt at most once; none refused."""
    found = Counter((stream, token_of(event)) for stream, events in streams.items() for event in events)
    twice = [f"{stream} {token}" for (stream, token), count in found.items() if count > 1]
    assert not twice, f"done more than once: {twice[:5]}"
    commands = {(each.aggregate, each.token): each for each in history if each.kind == "command"}
    invented = [f"{stream} {token}" for stream, token in found if (stream, token) not in commands]
    assert not invented, f"in the journal, and nobody commanded it: {invented[:5]}"
    lost = [str(each) for place, each in commands.items() if each.outcome == "done" and place not in found]
    assert not lost, f"acknowledged and not in the journal: {lost[:5]}"
    refused = [str(each) for place, each in commands.items() if each.outcome == "refused" and place in found]
    assert not refused, f"refused and yet in the journal: {refused[:5]}"


def said_as_written(history: Iterable[Operation], streams: Streams) -> None:
    """Each event says what its command was asked for; a reply kept beside it is what the caller was told."""
    commands = {each.token: each for each in history if each.kind == "command"}
    for stream, events in streams.items():
        for event in events:
            command, where = commands[token_of(event)], f"{stream} version {event.version}"
            written = argument_of(event)
            assert plain(written) == plain(command.argument), f"{where}: written is {written!r}, asked was {command}"
            if event.reply is not None and command.outcome == "done":
                kept = msgspec.msgpack.decode(event.reply)
                assert plain(kept) == plain(command.value), f"{where}: the reply kept is {kept!r}, told was {command}"


def token_of(event: Any) -> str:
    """The token of the command that an event comes from."""
    return str(msgspec.msgpack.decode(event.payload)["token"])


def argument_of(event: Any) -> Any:
    """What an event says: its one field beside the token."""
    (argument,) = (value for name, value in msgspec.msgpack.decode(event.payload).items() if name != "token")
    return argument


def snapshots_equal_replay(streams: Iterable[str], load: Callable[[str], tuple[Any, Any]]) -> None:
    """`load` gives the state of a stream twice: from the newest snapshot and the events after it, and from the
    events alone."""
    for stream in streams:
        short, full = load(stream)
        assert plain(short) == plain(full), f"{stream}: snapshot and tail give {short!r}, all events {full!r}"
