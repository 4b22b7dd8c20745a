"""Units of work: what one command may do, and what is left of it when it fails."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.actors import (
    Aggregate,
    NotInCommand,
    NotSerializable,
    Rejected,
    UnhandledEvent,
    command,
    event,
    on,
    query,
)
from holdfast.actors.context import Context
from holdfast.actors.definition import definition_of
from holdfast.actors.unit import Unit
from holdfast.journal.records import Recorded, StreamId


@dataclass
class Line:
    text: str


@event("test_unit.written")
class Written:
    line: Line
    copies: tuple[str, ...] = ()


@event("test_unit.broken")
class Broken:
    why: str


@event("test_unit.lost")
class Lost:
    pass


class Page(Aggregate):
    lines: list[Line] = []

    @command
    def write(self, text: Any, *copies: str) -> int:
        line = Line(text)
        self.emit(Written(line, copies))
        line.text = "changed afterwards"
        return len(self.lines)

    @command
    def write_then_refuse(self, text: str) -> None:
        self.emit(Written(Line(text)))
        raise Rejected("no")

    @command
    def lose(self) -> None:
        self._emit_anything(Lost())

    @command
    def break_quietly(self) -> str:
        with contextlib.suppress(ZeroDivisionError):
            self.emit(Broken("on purpose"))
        return "all is well"

    @command
    async def break_quietly_later(self) -> str:
        return Page.break_quietly(self)

    @command
    async def write_later(self, text: str, gate: asyncio.Event | None = None) -> Context:
        if gate is not None:
            await gate.wait()
        self.emit(Written(Line(text)))
        return self.context

    @command
    async def leave_running(self, gate: asyncio.Event) -> Any:
        return asyncio.get_running_loop().create_task(Page.write_later(self, "too late", gate))

    @command
    def reach(self) -> Any:
        return self.aggregate(Page, "other")

    @query
    def last(self) -> str:
        return self.lines[-1].text

    @query
    def scribble(self) -> None:
        self.emit(Written(Line("x")))

    def _emit_anything(self, event: Any) -> None:
        self.emit(event)

    @on(Written)
    def _written(self, event: Written) -> None:
        self.lines.append(event.line)

    @on(Broken)
    def _broken(self, event: Broken) -> None:
        self.lines.append(Line("half"))
        raise ZeroDivisionError(event.why)


DEFINITION = definition_of(Page)
CONTEXT = Context(command_id="c1", correlation_id="c0", chain=("Page/p",))


def unit_of(method: str, instance: Aggregate | None = None, peers: Any = None) -> Unit:
    return Unit(DEFINITION, instance or DEFINITION.new("p"), DEFINITION.commands[method], CONTEXT, peers)


def lines(unit: Unit) -> list[str]:
    assert isinstance(unit.instance, Page)
    return [line.text for line in unit.instance.lines]


def test_an_emitted_event_is_applied_at_once_and_kept_as_bytes() -> None:
    """The next line of the command sees it; the journal gets exactly what was applied."""
    unit = unit_of("write")
    assert unit.run(("hello", "a", "b"), {}) == 1
    ((spec, payload),) = unit.emitted
    assert spec.name == "test_unit.written"
    assert spec.codec.decode(payload) == Written(Line("hello"), ("a", "b"))


def test_what_the_command_changes_later_does_not_reach_the_state() -> None:
    """State is made from a decoded copy: replay will see the same."""
    unit = unit_of("write")
    unit.run(("hello",), {})
    replayed = DEFINITION.new("p")
    recorded = [
        Recorded(
            position=n,
            stream=StreamId("Page", "p"),
            version=n,
            type=s.name,
            payload=p,
            command_id="c",
            recorded_at=0,
        )
        for n, (s, p) in enumerate(unit.emitted, 1)
    ]
    DEFINITION.replay(replayed, recorded)
    assert lines(unit) == ["hello"]
    assert DEFINITION.same_state(unit.instance, replayed)


@pytest.mark.parametrize("text", [5, object(), b"x", 2**70, "\ud800", None])
def test_an_event_that_does_not_survive_is_refused_before_it_is_in(text: Any) -> None:
    """Nothing is kept and nothing applied."""
    unit = unit_of("write")
    with pytest.raises(NotSerializable, match=r"event test_unit\.written of Page<p@0>: .*line\.text"):
        unit.run((text,), {})
    assert (unit.emitted, lines(unit), unit.instance.version) == ([], [], 0)


def test_an_event_that_nobody_applies_is_refused() -> None:
    """When the definition could not see it coming."""
    unit = unit_of("lose")
    with pytest.raises(UnhandledEvent, match="Page emitted Lost"):
        unit.run((), {})
    assert unit.emitted == []


def test_a_rejection_leaves_its_mark_on_the_unit() -> None:
    """What was emitted before it tells that the instance is of no use any more."""
    unit = unit_of("write_then_refuse")
    with pytest.raises(Rejected):
        unit.run(("x",), {})
    assert len(unit.emitted) == 1


def test_a_command_cannot_swallow_what_a_handler_raised() -> None:
    """It would write an event that no replay gets past."""
    unit = unit_of("break_quietly")
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        unit.run((), {})
    assert len(unit.emitted) == 1


async def test_nor_can_an_async_command() -> None:
    """The same holds for coroutines."""
    unit = unit_of("break_quietly_later")
    with pytest.raises(ZeroDivisionError):
        await unit.awaiting(unit.run((), {}))


def test_a_query_emits_nothing() -> None:
    """It only reads."""
    unit = unit_of("scribble")
    with pytest.raises(NotInCommand):
        unit.run((), {})
    assert (unit.emitted, lines(unit)) == ([], [])


async def test_an_async_command_runs_when_it_is_awaited() -> None:
    """Its unit is in force from then until it ends."""
    unit = unit_of("write_later")
    coroutine = unit.run(("later",), {})
    assert unit.emitted == []
    assert await unit.awaiting(coroutine) is CONTEXT
    assert lines(unit) == ["later"]


async def test_what_a_command_leaves_running_can_emit_no_more() -> None:
    """Its events would belong to no command."""
    gate = asyncio.Event()
    unit = unit_of("leave_running")
    task = await unit.awaiting(unit.run((gate,), {}))
    gate.set()
    with pytest.raises(NotInCommand):
        await task
    assert unit.emitted == []


async def test_nor_can_it_emit_into_the_command_that_runs_by_then() -> None:
    """That one would journal what it did not decide."""
    gate, held = asyncio.Event(), asyncio.Event()
    before = unit_of("leave_running")
    stray = await before.awaiting(before.run((gate,), {}))
    unit = unit_of("write_later", before.instance)
    command = asyncio.ensure_future(unit.awaiting(unit.run(("mine", held), {})))
    await asyncio.wait({asyncio.ensure_future(asyncio.sleep(0))})
    gate.set()
    with pytest.raises(NotInCommand):
        await stray
    held.set()
    await command
    assert lines(unit) == ["mine"]
    assert len(unit.emitted) == 1


async def test_a_cancelled_command_is_over() -> None:
    """Nothing of it is in force any more."""
    unit = unit_of("write_later")
    task = asyncio.ensure_future(unit.awaiting(unit.run(("x", asyncio.Event()), {})))
    await asyncio.wait({asyncio.ensure_future(asyncio.sleep(0))})
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(NotInCommand):
        unit.instance.emit(Written(Line("x")))


def test_other_aggregates_are_reached_through_the_peers() -> None:
    """The peers learn who calls."""

    class Known:
        def get(self, type: type[Any], id: str, caller: Unit) -> Any:
            return type, id, caller.context.command_id

    assert unit_of("reach", peers=Known()).run((), {}) == (Page, "other", "c1")
    with pytest.raises(LookupError, match="no others here"):
        unit_of("reach").run((), {})
