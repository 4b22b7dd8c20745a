"""Followers: projections, reactions, publishers, reminders. How far each is, and what it has set aside.

What the journal knows of them, their checkpoints and dead letters, is there without a cluster. What they are doing, and
how far a projection is (its checkpoint lies beside its tables), only they can say.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from holdfast.journal.codec import decode_plain
from holdfast.journal.errors import CodecError, CorruptRecord, HoldfastError
from holdfast.journal.records import StreamId
from holdfast.runtime.dead_letters import CATEGORY, REPLAYED, SET_ASIDE, Letter
from holdfast.runtime.follower import FollowerStatistics
from holdfast.runtime.inspection import Inspection
from holdfast.runtime.inspection_report import FollowerView

from .console import Console
from .onlooker import Onlooker, View
from .rendering import rendered

__all__ = ["FollowerLine", "LettersOf", "followers_page", "followers_piece"]

LETTERS_SHOWN_MAX = 50
LETTER_EVENTS_MAX = 20_000
LETTERS_S = 3.0
PAGE = 1000
OWNER = "follower:"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerLine:
    """One follower. `statistics`: as it says itself, `stored`: as the journal has it; one of them may be missing.
    `silent`: it runs, and does not answer."""

    name: str
    statistics: FollowerStatistics | None = None
    stored: FollowerView | None = None
    silent: bool = False

    @property
    def lag(self) -> int | None:
        """Events that it has not been past yet. None: nobody says."""
        if self.statistics is not None:
            return self.statistics.lag
        return None if self.stored is None else self.stored.lag

    @property
    def positions(self) -> str:
        """What it is done with."""
        if self.statistics is not None:
            return _places(self.statistics.positions)
        return "-" if self.stored is None else _places(each or 0 for each in self.stored.positions)

    @property
    def kind(self) -> str:
        """As it says itself, or as its name begins."""
        return self.statistics.kind if self.statistics is not None else self.name.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersOf:
    """What a follower has set aside, oldest first. `more`: beyond those. `problem`: why they cannot be told."""

    name: str
    letters: Sequence[Letter] = ()
    more: int = 0
    problem: str = ""


async def followers_page(console: Console, request: Request) -> Response:
    """The page; what changes in it is a piece of its own."""
    lines, view = await _lines(console)
    letters = await _letters(console, lines)
    said = request.query_params.get("said", "")
    return console.page(
        "followers.html", "/followers", title="Followers", lines=lines, view=view, letters=letters, said=said
    )


async def followers_piece(console: Console, request: Request) -> Response:
    """What changes, for the page to put in its place."""
    lines, view = await _lines(console)
    return rendered(
        "followers_now.html",
        lines=lines,
        view=view,
        cluster=console.onlooker is not None,
        allow_changes=console.allow_changes,
        form_token=console.keys.form,
    )


async def _lines(console: Console) -> tuple[list[FollowerLine], View]:
    view, health = await console.view(), await (await console.look()).health()
    stored = {each.name: each for each in health.followers if not _is_part(each)}
    running = {each.name: each for each in view.followers}
    return [
        FollowerLine(name=name, statistics=running.get(name), stored=stored.get(name), silent=name in view.silent)
        for name in sorted({*stored, *running, *view.silent})
    ], view


def _is_part(view: FollowerView) -> bool:
    """Whether it is a further checkpoint of a follower, called after that: not one of its own."""
    owner = view.owner.removeprefix(OWNER)
    return view.name != owner and view.name.startswith(f"{owner}:")


async def _letters(console: Console, lines: Iterable[FollowerLine]) -> list[LettersOf]:
    """Of each that has any: as the journal holds them, and for those that keep them elsewhere as they say."""
    look = await console.look()
    kept = [each.stream for each in await look.streams(category=CATEGORY, limit=PAGE)]
    found = [await _stored_letters(look, stream) for stream in kept]
    names = {each.name for each in found}
    for line in lines:
        said = line.statistics.dead_letters if line.statistics is not None else 0
        if said and line.name not in names and console.onlooker is not None:
            found.append(await _told_letters(console.onlooker, line.name, said))
    return [each for each in found if each.letters or each.problem]


async def _told_letters(onlooker: Onlooker, name: str, said: int) -> LettersOf:
    try:
        async with asyncio.timeout(LETTERS_S):
            told = await onlooker.joined.dead_letters(name)
    except (TimeoutError, AttributeError, HoldfastError) as error:
        return LettersOf(name=name, problem=f"{said} are set aside: {error or 'it does not answer'}")
    return _letters_of(name, [letter for each in told.values() for letter in each])


async def _stored_letters(look: Inspection, stream: StreamId) -> LettersOf:
    """What the events of a follower's stream of dead letters come to, as `dead_letters.DeadLetters` reads them."""
    pending, at = dict[tuple[int, int], Letter](), 0
    try:
        while at < LETTER_EVENTS_MAX and (page := await look.events(stream, after=at, limit=PAGE)):
            for event in page:
                _apply(pending, event.type, decode_plain(event.payload))
            at = page[-1].version
    except (CodecError, CorruptRecord, msgspec.ValidationError, KeyError) as error:
        return LettersOf(name=stream.id, problem=str(error))
    return _letters_of(stream.id, list(pending.values()))


def _letters_of(name: str, letters: Sequence[Letter]) -> LettersOf:
    return LettersOf(name=name, letters=letters[:LETTERS_SHOWN_MAX], more=max(0, len(letters) - LETTERS_SHOWN_MAX))


def _apply(pending: dict[tuple[int, int], Letter], type: str, payload: dict[str, Any]) -> None:
    if type == SET_ASIDE:
        letter = msgspec.convert(payload, Letter)
        pending[letter.place] = letter
    elif type == REPLAYED:
        pending.pop((payload["partition"], payload["position"]), None)


def _places(positions: Iterable[int]) -> str:
    return " · ".join(f"{each:,}" for each in positions)
