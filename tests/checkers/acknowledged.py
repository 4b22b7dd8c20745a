"""The judge of a run: was everything that was acknowledged done, once, and is every reply what replay says?

It knows no runtime, no host and no store: only what callers were told, and what the journal holds. Workloads give
each command a token of its own, which its event carries; so a command is found whatever became of its ids.

    judge(acknowledged, recorded)       raises AssertionError, saying what is wrong with which stream
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Acknowledged", "contiguous", "done_once", "judge", "ledger", "replies_match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A command that its caller was told is done. `stream`: category/id. `reply`: as the caller got it.
    `writes`: whether such a command has an event whenever it is done."""

    stream: str
    token: str
    reply: Any
    writes: bool = True


Fold = Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
"""From the payloads of a stream to the reply of each token's command: the five-line model."""


def judge(
    acknowledged: Iterable[Acknowledged], recorded: Iterable[Any], fold: Fold, *, refused: Iterable[str] = ()
) -> None:
    """All checks. `recorded`: everything in the journal, in order of position. `refused`: tokens whose callers were
    told that nothing was done."""
    acknowledged, recorded = list(acknowledged), list(recorded)
    streams = contiguous(recorded)
    done_once(acknowledged, streams, refused)
    replies_match(acknowledged, streams, fold)


def contiguous(recorded: Sequence[Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Positions run 1..n over the journal, versions 1..n in each stream. Returns each stream's payloads."""
    streams: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for position, event in enumerate(recorded, 1):
        assert event.position == position, f"position {event.position} stands where {position} should"
        stream = streams[str(event.stream)]
        stream.append(msgspec.msgpack.decode(event.payload))
        assert event.version == len(stream), f"{event.stream}: version {event.version} after {len(stream) - 1}"
    return dict(streams)


def done_once(
    acknowledged: Sequence[Acknowledged],
    streams: Mapping[str, Sequence[Mapping[str, Any]]],
    refused: Iterable[str] = (),
) -> None:
    """No command is in the journal twice; each acknowledged one is there; none is that was refused."""
    found = Counter((stream, payload["token"]) for stream, payloads in streams.items() for payload in payloads)
    twice = [each for each, count in found.items() if count > 1]
    assert not twice, f"done more than once: {twice[:5]}"
    lost = [a for a in acknowledged if a.writes and (a.stream, a.token) not in found]
    assert not lost, f"acknowledged and not in the journal: {lost[:5]}"
    tokens, refused = {token for _, token in found}, set(refused)
    assert not tokens & refused, f"refused and yet in the journal: {sorted(tokens & refused)[:5]}"


def replies_match(
    acknowledged: Iterable[Acknowledged], streams: Mapping[str, Sequence[Mapping[str, Any]]], fold: Fold
) -> None:
    """What each caller was told is what the stream, folded, says."""
    expected = {stream: fold(payloads) for stream, payloads in streams.items()}
    for each in acknowledged:
        if each.writes:
            told = expected[each.stream][each.token]
            assert each.reply == told, f"{each.stream} {each.token}: the reply was {each.reply!r}, replay says {told!r}"


def ledger(payloads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The model of an account book whose commands answer `[entries so far, balance]`."""
    replies: dict[str, Any] = {}
    balance = 0
    for entries, payload in enumerate(payloads, 1):
        balance += payload["amount"]
        replies[payload["token"]] = [entries, balance]
    return replies
