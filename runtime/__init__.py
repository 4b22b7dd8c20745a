"""Live aggregates on a Ray cluster: open a journal, get references, send commands.

Start with `Runtime.open`. `Dedicated` and `Sharded` say where aggregates live; `Config` bounds everything.
"""

from holdfast.actors.errors import DeadlineExceeded, Overloaded
from holdfast.actors.limits import HostLimits

from .blocking import BlockingRuntime
from .config import Config
from .errors import (
    CategoryConflict,
    HostUnavailable,
    InvalidId,
    NamespaceConflict,
    NotAnAggregate,
    RuntimeClosed,
    RuntimeProblem,
)
from .placement import Dedicated, Placement, Sharded
from .recorded import RecordedEvent
from .runtime import Opening, Runtime, Statistics

__all__ = [
    "BlockingRuntime",
    "CategoryConflict",
    "Config",
    "DeadlineExceeded",
    "Dedicated",
    "HostLimits",
    "HostUnavailable",
    "InvalidId",
    "NamespaceConflict",
    "NotAnAggregate",
    "Opening",
    "Overloaded",
    "Placement",
    "RecordedEvent",
    "Runtime",
    "RuntimeClosed",
    "RuntimeProblem",
    "Sharded",
    "Statistics",
]
