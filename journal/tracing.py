# pyright: reportPossiblyUnboundVariable=false
# Where OpenTelemetry is missing nothing starts, and what needs it is not reached.
"""Tracing: OpenTelemetry spans along a command's way. The one file that touches OpenTelemetry, which may be missing.

    Account.deposit (client) ─▶ Account.deposit (server) ─┬▶ journal append      until its events are durable
                                                          ├▶ journal commit      in the journal's process
                                                          └▶ Transfers.react … what follows from the events, later

The W3C `traceparent` travels in a command's metadata, and is stored with its events: that is how a reaction, hours
later and in another process, continues the trace that caused it.

`tracer` is None until `start`: whoever makes spans asks that first, and nothing else is done.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context as otel_context
    from opentelemetry import trace as otel
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    _W3C = TraceContextTextMapPropagator()
    is_installed = True
except ImportError:  # the extra `otel` is not installed
    is_installed = False

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanKind, Tracer

__all__ = ["TRACEPARENT", "Asked", "Served", "commit", "durable", "is_installed", "start", "stop", "within"]

TRACEPARENT = "traceparent"
LINKS_MAX = 100
"""Appends of one transaction that its span links to. More are not told apart by anybody."""

tracer: "Tracer | None" = None
"""What makes spans. None: nothing does."""


def start() -> None:
    """Make spans, by the provider that this process has. Only where OpenTelemetry `is_installed`."""
    global tracer
    tracer = otel.get_tracer("holdfast")


def stop() -> None:
    """Make none any more."""
    global tracer
    tracer = None


class Asked:
    """A call, as its caller sees it: from the first try to the answer. `metadata`: what is to travel with it."""

    __slots__ = ("_span", "metadata")

    def __init__(self, category: str, id: str, method: str, metadata: Mapping[str, Any]) -> None:
        """Its parent is what this code runs under, or else what `metadata` says."""
        self._span = _begin(_name(category, method), "CLIENT", metadata, _about(category, id, method))
        self.metadata = dict(metadata) | _carried(self._span)

    def done(self, error: BaseException | None = None) -> None:
        """It is answered, or has failed."""
        if error is not None:
            _failed(self._span, error)
        self._span.end()


class Served:
    """A call, as its host sees it: from its arrival to the answer leaving. Stands in the place of `resolve`."""

    __slots__ = ("_append", "_resolve", "_span", "metadata")

    def __init__(
        self, category: str, id: str, method: str, metadata: Mapping[str, Any], resolve: Callable[..., None]
    ) -> None:
        self._span = _begin(_name(category, method), "SERVER", metadata, _about(category, id, method), follows=True)
        self._resolve = resolve
        self._append: Span | None = None
        self.metadata = dict(metadata) | _carried(self._span)

    def __call__(self, call: Any, kind: Any, value: Any) -> None:
        """Answer, and end the spans."""
        if self._append is not None:
            self._append.end()
        self._span.set_attribute("holdfast.outcome", kind.name.lower())
        if kind.name == "ERROR":
            self._span.set_status(otel.StatusCode.ERROR)
        self._span.end()
        self._resolve(call, kind, value)

    def has_run(self, version: int, events: int) -> None:
        """It is done, up to its events being durable: from here on it waits for the disk."""
        if not self._span.is_recording():
            return
        attributes = {"holdfast.version": version, "holdfast.events": events}
        self._span.set_attributes(attributes)
        parent = otel.set_span_in_context(self._span, otel_context.Context())
        assert tracer is not None, "what has begun a span has a tracer"
        self._append = tracer.start_span("journal append", parent, attributes=attributes)

    def durable_with(self, commands: int) -> None:
        """Its append is durable, with those of so many commands, itself included."""
        if self._append is not None:
            self._append.set_attribute("holdfast.batch_commands", commands)


def durable(commands: Sequence[tuple[Any, Any]]) -> None:
    """These commands, each with its reply, were one append, and that is durable."""
    for call, _ in commands:
        if isinstance(call.resolve, Served):
            call.resolve.durable_with(len(commands))


def within(metadata: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """What runs in here runs under the span that `metadata` names: the spans that a command itself makes, and the calls
    that it sends."""
    traceparent = metadata.get(TRACEPARENT)
    return nullcontext() if tracer is None or traceparent is None else _Within(traceparent)


def commit(metadata: Iterable[Mapping[str, Any]], appends: int, partition: str) -> "AbstractContextManager[Any]":
    """One transaction of the journal. It is part of the first trace that it serves, and linked to the others."""
    assert tracer is not None, "asked before"
    parents = [_parent(each) for each in metadata if TRACEPARENT in each][:LINKS_MAX]
    links = [otel.Link(otel.get_current_span(parent).get_span_context()) for parent in parents[1:]]
    attributes: dict[str, str | int] = {"holdfast.appends": appends, "holdfast.partition": partition}
    return tracer.start_as_current_span(
        "journal commit", parents[0] if parents else otel_context.Context(), links=links, attributes=attributes
    )


class _Within:
    __slots__ = ("_token", "_traceparent")

    def __init__(self, traceparent: str) -> None:
        self._traceparent = traceparent

    def __enter__(self) -> None:
        self._token = otel_context.attach(_parent({TRACEPARENT: self._traceparent}))

    def __exit__(self, *raised: object) -> None:
        otel_context.detach(self._token)


def _begin(
    name: str, kind: str, metadata: Mapping[str, Any], attributes: Mapping[str, Any], *, follows: bool = False
) -> "Span":
    """`follows`: its parent is what the metadata says, whatever this process happens to do."""
    assert tracer is not None, "asked before"
    here = otel.get_current_span().get_span_context().is_valid
    parent = None if here and not follows else _parent(metadata)
    which: SpanKind = getattr(otel.SpanKind, kind)
    return tracer.start_span(name, parent, kind=which, attributes=attributes)


def _parent(metadata: Mapping[str, Any]) -> Any:
    traceparent = metadata.get(TRACEPARENT)  # or whatever a caller has put there
    carrier = {TRACEPARENT: traceparent} if isinstance(traceparent, str) else {}
    return _W3C.extract(carrier, otel_context.Context())


def _carried(span: "Span") -> dict[str, str]:
    """Nothing where no provider was set up: what leads nowhere is not stored."""
    here = span.get_span_context()
    if not here.is_valid:
        return {}
    return {TRACEPARENT: f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"}


def _name(category: str, method: str) -> str:
    """Of system commands too: `Transfers.react`."""
    return f"{category}.{method.removeprefix('holdfast_')}"


def _about(category: str, id: str, method: str) -> dict[str, str]:
    return {
        "rpc.system": "holdfast",
        "rpc.service": category,
        "rpc.method": method,
        "holdfast.category": category,
        "holdfast.id": id,
    }


def _failed(span: "Span", error: BaseException) -> None:
    if isinstance(error, Exception):
        span.record_exception(error)
    span.set_status(otel.StatusCode.ERROR, f"{type(error).__name__}: {error}")
