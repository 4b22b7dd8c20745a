"""Sight: what each process of a runtime is told of how it is to be looked at. Travels with the journal's spec."""

import importlib
from dataclasses import dataclass

from holdfast.journal import tracing

from .errors import MissingExtra
from .logs import configure

__all__ = ["Sight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """See `Config`, which says what each means."""

    metrics: bool = True
    metrics_every_s: float = 5.0
    tracing: bool | str = False
    log_level: str | None = None
    log_json: bool = False

    def begin(self) -> None:
        """In a process that was started for a runtime, before anything else happens there. Raises what keeps it from
        tracing."""
        if self.log_level is not None or self.log_json:
            configure(level=self.log_level or "INFO", json=self.log_json)
        self.begin_tracing()

    def begin_tracing(self) -> None:
        """Make spans in this process from now on, if that is wanted. Raises `MissingExtra`, and what the function that
        was named raises, or what looking for it does."""
        if not self.tracing:
            return
        if not tracing.is_installed:
            raise MissingExtra("tracing", "opentelemetry-api", "otel")
        if isinstance(self.tracing, str):
            module, _, function = self.tracing.partition(":")
            getattr(importlib.import_module(module), function)()
        tracing.start()
