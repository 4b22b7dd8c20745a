"""Recorded events, as readers of a journal and those who react to its events get them: the journal's record, opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .context import Context

__all__ = ["RecordedEvent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """One event of the journal.

    `position` counts over its partition of the journal (all of it, and number 0, where there are no partitions),
    `version` over its stream; both from 1 and without gaps. `event` is an instance of the class that whoever reads it
    knows under `type`, or a plain mapping of its fields where that is none. `context` tells the command that caused it,
    and where that came from.
    """

    partition: int = 0
    position: int
    category: str
    id: str
    version: int
    type: str
    event: Any
    context: Context

    @property
    def recorded_at(self) -> datetime:
        """When its command ran, aware, UTC."""
        return self.context.now

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the caller added."""
        return self.context.metadata
