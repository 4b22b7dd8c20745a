"""Traces: one from the caller through host and journal, and on through what follows; nothing where nobody asks."""

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import hf_sight
import pytest
from hf_sight import Notes, Shop
from hf_support import eventually
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from holdfast.actors import Rejected
from holdfast.actors.clock import VirtualClock
from holdfast.journal import tracing
from holdfast.runtime import Config, MissingExtra, Runtime, Sharded

TRACED = Config(tracing=True)
KEPT = InMemorySpanExporter()
FOLDER = tempfile.TemporaryDirectory()
os.environ[hf_sight.SPANS] = FOLDER.name  # now: the processes of a Ray inherit what was when it started


@pytest.fixture(autouse=True)
def kept() -> Iterator[InMemorySpanExporter]:
    """The spans of this process: a provider can be set only once in one, so there is one for all tests."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    provider: Any = trace.get_tracer_provider()
    if not getattr(provider, "_holdfast_tests", False):
        provider.add_span_processor(SimpleSpanProcessor(KEPT))
        provider._holdfast_tests = True
    KEPT.clear()
    yield KEPT
    tracing.stop()
    KEPT.clear()


class Spans:
    """What was kept, by name and kind."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.all: list[Any] = list(exporter.get_finished_spans())

    def one(self, name: str, kind: str = "INTERNAL", of: str | None = None) -> Any:
        found = [s for s in self.all if s.name == name and s.kind.name == kind]
        found = [s for s in found if of is None or s.attributes["holdfast.id"] == of]
        assert len(found) == 1, f"{len(found)} of {name} {kind}, in {[(s.name, s.kind.name) for s in self.all]}"
        return found[0]

    def under(self, child: Any, parent: Any) -> bool:
        assert child.context.trace_id == parent.context.trace_id
        return bool(child.parent.span_id == parent.context.span_id)


async def test_a_trace_goes_from_the_caller_through_host_and_journal(kept: InMemorySpanExporter) -> None:
    """Client, server, the wait for the disk, and the transaction, each below the one that caused it."""
    async with Runtime.local(placement=Sharded(1), config=TRACED) as runtime:
        assert await runtime.get(Shop, "a").add(5) == 5
        assert await runtime.get(Shop, "a").now() == 5
    spans = Spans(kept)
    asked, served = spans.one("Shop.add", "CLIENT"), spans.one("Shop.add", "SERVER")
    appended, committed = spans.one("journal append"), spans.one("journal commit")
    assert asked.parent is None
    assert spans.under(served, asked)
    assert spans.under(appended, served)
    assert spans.under(committed, served)
    assert dict(served.attributes) == {
        "rpc.system": "holdfast", "rpc.service": "Shop", "rpc.method": "add", "holdfast.category": "Shop",
        "holdfast.id": "a", "holdfast.version": 1, "holdfast.events": 1, "holdfast.outcome": "done",
    }  # fmt: skip
    assert appended.attributes["holdfast.batch_commands"] == 1
    assert committed.attributes["holdfast.appends"] == 1
    assert asked.start_time <= served.start_time <= appended.start_time <= committed.start_time
    assert committed.end_time <= appended.end_time <= served.end_time <= asked.end_time
    assert spans.under(spans.one("Shop.now", "SERVER"), spans.one("Shop.now", "CLIENT"))


async def test_a_trace_goes_on_below_the_span_of_the_program(kept: InMemorySpanExporter) -> None:
    """And what a command sends to others goes on below the command."""
    async with Runtime.local(placement=Sharded(1), config=TRACED) as runtime:
        with trace.get_tracer("test").start_as_current_span("request"):
            assert await runtime.get(Shop, "a").hand_on("b", 3) == 3
    spans = Spans(kept)
    handed, added = spans.one("Shop.hand_on", "SERVER"), spans.one("Shop.add", "CLIENT")
    assert spans.under(spans.one("Shop.hand_on", "CLIENT"), spans.one("request"))
    assert spans.under(added, handed)
    assert spans.under(spans.one("Shop.add", "SERVER"), added)
    assert len({span.context.trace_id for span in spans.all}) == 1


async def test_a_trace_from_elsewhere_is_handed_over_as_metadata(kept: InMemorySpanExporter) -> None:
    """Its parent is what a request's header said, say. What is no traceparent is none."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Runtime.local(placement=Sharded(1), config=TRACED) as runtime:
        await runtime.get(Shop, "a", metadata={"traceparent": parent, "who": "me"}).add(1)
        await runtime.get(Shop, "b", metadata={"traceparent": 7}).add(1)
        (recorded,) = [each async for each in runtime.read(Shop, "a")]
    asked = Spans(kept).one("Shop.add", "CLIENT", of="a")
    assert f"{asked.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{asked.parent.span_id:016x}" == "b7ad6b7169203331"
    served = Spans(kept).one("Shop.add", "SERVER", of="a").context
    assert recorded.metadata["who"] == "me"
    assert recorded.metadata["traceparent"] == f"00-{served.trace_id:032x}-{served.span_id:016x}-01"


async def test_a_trace_tells_what_became_of_a_call(kept: InMemorySpanExporter) -> None:
    """With the exception, at the caller; the host says that it was one."""
    async with Runtime.local(placement=Sharded(1), config=TRACED) as runtime:
        with pytest.raises(Rejected):
            await runtime.get(Shop, "a").add(-1)
    spans = Spans(kept)
    assert spans.one("Shop.add", "SERVER").attributes["holdfast.outcome"] == "error"
    assert not spans.one("Shop.add", "CLIENT").status.is_ok
    assert spans.one("Shop.add", "CLIENT").events[0].attributes["exception.message"] == "no less"


async def test_a_trace_goes_on_in_what_reacts_to_the_event(kept: InMemorySpanExporter) -> None:
    """Below the command that emitted it, over journal and follower."""
    async with Runtime.local(placement=Sharded(1), config=TRACED) as runtime:
        await runtime.get(Shop, "a").add(5)
        await runtime.start(Notes)
        await runtime.wait_for(Notes)
    spans = Spans(kept)
    delivered = spans.one("Notes.react", "CLIENT")
    assert spans.under(delivered, spans.one("Shop.add", "SERVER"))
    assert spans.under(spans.one("Notes.react", "SERVER"), delivered)


async def test_a_trace_goes_on_when_a_reminder_fires(kept: InMemorySpanExporter) -> None:
    """Days later: below the command that has set it."""
    clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC))
    async with Runtime.local(placement=Sharded(1), config=TRACED, clock=clock) as runtime:
        await runtime.get(Shop, "a").remind_me(timedelta(days=3))
        await clock.advance(timedelta(days=4))

        async def fired() -> bool:
            return bool(await runtime.get(Shop, "a").now() == 7)

        await eventually(fired)
    spans = Spans(kept)
    assert spans.under(spans.one("Shop.fire", "CLIENT"), spans.one("Shop.remind_me", "SERVER"))
    assert spans.under(spans.one("Shop.fire", "SERVER"), spans.one("Shop.fire", "CLIENT"))


async def test_a_transaction_is_linked_to_every_trace_that_it_serves(kept: InMemorySpanExporter) -> None:
    """It is part of the first one's, whichever that is."""
    async with Runtime.local(placement=Sharded(1), config=TRACED) as runtime:
        await asyncio.gather(*(runtime.get(Shop, f"{n}").add(1) for n in range(20)))
    spans = Spans(kept)
    commits = [span for span in spans.all if span.name == "journal commit"]
    joined = [s.parent.span_id for s in commits] + [link.context.span_id for s in commits for link in s.links]
    served = [s.context.span_id for s in spans.all if s.name == "Shop.add" and s.kind.name == "SERVER"]
    assert sorted(joined) == sorted(served)
    assert len(served) == 20
    assert sum(span.attributes["holdfast.appends"] for span in commits) == 20


async def test_without_tracing_nothing_is_traced_and_nothing_is_stored(kept: InMemorySpanExporter) -> None:
    """Although this process has a provider, and a span of its own."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        with trace.get_tracer("test").start_as_current_span("request"):
            await runtime.get(Shop, "a").add(1)
        (recorded,) = [each async for each in runtime.read(Shop, "a")]
    assert [span.name for span in Spans(kept).all] == ["request"]
    assert recorded.metadata == {}


async def test_tracing_says_what_is_missing(monkeypatch: Any) -> None:
    """OpenTelemetry, or the function that was named; before anything is opened."""
    with pytest.raises(AttributeError):
        await Runtime.local(config=Config(tracing="hf_sight:nobody"))
    with pytest.raises(ValueError, match="module:function"):
        Config(tracing="hf_sight")
    monkeypatch.setattr(tracing, "is_installed", False)
    with pytest.raises(MissingExtra, match=r"holdfast\[otel\]"):
        await Runtime.local(config=TRACED)


@pytest.mark.ray
async def test_a_trace_on_ray_goes_through_all_processes(world: Any) -> None:
    """Caller, host, journal, follower: each writes its own spans, and together they are one tree."""
    config = Config(tracing="hf_sight:set_up")
    async with world.open(placement=Sharded(1), config=config) as runtime:
        await runtime.get(Shop, "a").add(5)
        await runtime.start(Notes)
        await runtime.wait_for(Notes)
        own = [hf_sight._plain(span) for span in KEPT.get_finished_spans()]

        def spans() -> list[Any]:
            lines = [line for path in Path(FOLDER.name).glob("*.jsonl") for line in path.read_text().splitlines()]
            found = {span["span"]: span for span in [*own, *map(json.loads, lines)]}
            names = {(span["name"], span["kind"]) for span in found.values()}
            return list(found.values()) if ("Notes.react", "SERVER") in names else []

        found = await eventually(spans)
    by = {(span["name"], span["kind"]): span for span in found if span["name"] != "journal commit"}
    chain = [("Shop.add", "CLIENT"), ("Shop.add", "SERVER"), ("Notes.react", "CLIENT"), ("Notes.react", "SERVER")]
    for above, below in pairwise(chain):
        assert by[below]["parent"] == by[above]["span"], f"{below} is not below {above}"
    commits = [s for s in found if s["name"] == "journal commit" and s["trace"] == by[chain[0]]["trace"]]
    assert by["Shop.add", "SERVER"]["span"] in {span["parent"] for span in commits}
    assert len({span["pid"] for span in found}) >= 4
