"""What the tests of metrics, traces, logs and the watchdog look at. A module that hosts import by its name."""

import asyncio
import json
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from holdfast.actors import Aggregate, DeadLetter, Reaction, Rejected, Retry, Stop, apply, command, event, on, query

SPANS = "HF_SIGHT_SPANS"
"""Names the folder to which each process writes its spans, a JSON object to a line."""


@event("hf_sight.added")
class Added:
    amount: int


class Shop(Aggregate, snapshot_every=3):
    """A little of everything that can be counted."""

    total: int = 0

    @command
    def add(self, amount: int) -> int:
        if amount < 0:
            raise Rejected("no less")
        self.emit(Added(amount))
        return self.total

    @command
    def break_after(self) -> None:
        self.emit(Added(1))
        raise ZeroDivisionError("on purpose")

    @command
    async def hand_on(self, to: str, amount: int) -> int:
        """Send a command to another one."""
        self.emit(Added(-amount))
        return await self.aggregate(Shop, to).add(amount)

    @command
    async def wait_for(self, gate: str) -> None:
        await _opened(gate)

    @command
    def block_for(self, gate: str) -> None:
        _block(gate)

    @command
    async def await_and_block(self, gate: str) -> None:
        await asyncio.sleep(0)
        _block(gate)

    @command
    def remind_me(self, after: timedelta) -> None:
        self.remind("add", after=after, command=Shop.add, args=[7])

    @query
    def now(self) -> int:
        return self.total

    @query
    def pid(self) -> int:
        return os.getpid()

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


class Patient(Shop, category="Patient", slow_command_s=3600.0):
    """One whose commands may take their time."""


async def _opened(gate: str) -> None:
    while not Path(gate).exists():  # noqa: ASYNC240
        await asyncio.sleep(0.005)


def _block(gate: str) -> None:
    waits = threading.Event()
    while not Path(gate).exists():
        waits.wait(0.005)


@event("hf_sight.noted")
class Noted:
    amount: int


class Notes(Reaction, on_error=Retry(times=1, first_s=0.01, then="dead letter")):
    """Notes what was added to any shop, under the amount; cannot note 13."""

    noted: int = 0

    @on(Added, by=lambda event, recorded: str(event.amount))
    async def seen(self, event: Added) -> None:
        if event.amount == 13:
            raise ValueError("unlucky")
        self.emit(Noted(event.amount))

    @apply(Noted)
    def _noted(self, event: Noted) -> None:
        self.noted += 1


class Strict(Reaction, on_error=Stop()):
    """Stops at 13."""

    @on(Added, by=lambda event, recorded: "all")
    async def seen(self, event: Added) -> None:
        if event.amount == 13:
            raise ValueError("unlucky")


class SetAside(Reaction, on_error=DeadLetter()):
    """Sets everything aside."""

    @on(Added, by=lambda event, recorded: "all")
    async def seen(self, event: Added) -> None:
        raise ValueError("never")


class ToFile(SpanExporter):
    """Writes spans to a file of this process."""

    def __init__(self, folder: str) -> None:
        self._path = Path(folder, f"{os.getpid()}.jsonl")

    def export(self, spans: Any) -> SpanExportResult:
        with self._path.open("a") as file:
            file.writelines(json.dumps(_plain(span)) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def set_up() -> None:
    """What `Config.tracing` names: each process calls it. A provider can be set once in a process."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        return
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile(os.environ[SPANS])))
    trace.set_tracer_provider(provider)


def _plain(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": context.trace_id,
        "span": context.span_id,
        "parent": None if span.parent is None else span.parent.span_id,
        "attributes": dict(span.attributes or {}),
        "pid": os.getpid(),
    }
