"""Spans that go nowhere: OpenTelemetry's SDK at work, and nobody who takes what it makes."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

__all__ = ["set_up"]


def set_up() -> None:
    """What `Config.tracing` names: each process calls it."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
