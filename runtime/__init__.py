"""Live aggregates on a Ray cluster: open a journal, get references, send commands.

Start with `Runtime.open`. `Dedicated` and `Sharded` say where aggregates live; `Config` bounds everything.
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from holdfast.actors.errors import DeadlineExceeded, Overloaded
    from holdfast.actors.limits import HostLimits
    from holdfast.actors.policy import DeadLetter, Retry, Stop
    from holdfast.journal.positions import Positions

    from .blocking import BlockingRuntime
    from .cloud_events import CloudEvent
    from .config import Config
    from .errors import (
        AheadOfJournal,
        CategoryConflict,
        EventRefused,
        HostUnavailable,
        InvalidId,
        MissingExtra,
        NamespaceConflict,
        NoSuchFollower,
        NotAnAggregate,
        RuntimeClosed,
        RuntimeProblem,
        SignatureRefused,
        SinkProblem,
        SinkUnavailable,
    )
    from .follower import FollowerPhase, FollowerStatistics, FollowerStopped
    from .forgetting import ForgottenReport
    from .inspection import Inspection
    from .metrics import Sample
    from .placement import Dedicated, Placement, Sharded
    from .projection import Projection
    from .projection_table import Table
    from .publish_kafka import Kafka
    from .publish_nats import Nats
    from .publish_webhook import Webhook
    from .publisher import Publisher
    from .recorded import RecordedEvent
    from .runtime import Opening, Runtime, Statistics
    from .signature import verify_signature
    from .sink import Sink
    from .subscription import Batch, Subscription

__all__ = [
    "AheadOfJournal",
    "Batch",
    "BlockingRuntime",
    "CategoryConflict",
    "CloudEvent",
    "Config",
    "DeadLetter",
    "DeadlineExceeded",
    "Dedicated",
    "EventRefused",
    "FollowerPhase",
    "FollowerStatistics",
    "FollowerStopped",
    "ForgottenReport",
    "HostLimits",
    "HostUnavailable",
    "Inspection",
    "InvalidId",
    "Kafka",
    "MissingExtra",
    "NamespaceConflict",
    "Nats",
    "NoSuchFollower",
    "NotAnAggregate",
    "Opening",
    "Overloaded",
    "Placement",
    "Positions",
    "Projection",
    "Publisher",
    "RecordedEvent",
    "Retry",
    "Runtime",
    "RuntimeClosed",
    "RuntimeProblem",
    "Sample",
    "Sharded",
    "SignatureRefused",
    "Sink",
    "SinkProblem",
    "SinkUnavailable",
    "Statistics",
    "Stop",
    "Subscription",
    "Table",
    "Webhook",
    "verify_signature",
]

_HOMES = {
    "holdfast.actors.errors": ["DeadlineExceeded", "Overloaded"],
    "holdfast.actors.limits": ["HostLimits"],
    "holdfast.actors.policy": ["DeadLetter", "Retry", "Stop"],
    "holdfast.journal.positions": ["Positions"],
    ".blocking": ["BlockingRuntime"],
    ".cloud_events": ["CloudEvent"],
    ".config": ["Config"],
    ".errors": [
        "AheadOfJournal",
        "CategoryConflict",
        "EventRefused",
        "HostUnavailable",
        "InvalidId",
        "MissingExtra",
        "NamespaceConflict",
        "NoSuchFollower",
        "NotAnAggregate",
        "RuntimeClosed",
        "RuntimeProblem",
        "SignatureRefused",
        "SinkProblem",
        "SinkUnavailable",
    ],
    ".follower": ["FollowerPhase", "FollowerStatistics", "FollowerStopped"],
    ".forgetting": ["ForgottenReport"],
    ".inspection": ["Inspection"],
    ".metrics": ["Sample"],
    ".placement": ["Dedicated", "Placement", "Sharded"],
    ".projection": ["Projection"],
    ".projection_table": ["Table"],
    ".publish_kafka": ["Kafka"],
    ".publish_nats": ["Nats"],
    ".publish_webhook": ["Webhook"],
    ".publisher": ["Publisher"],
    ".recorded": ["RecordedEvent"],
    ".signature": ["verify_signature"],
    ".sink": ["Sink"],
    ".subscription": ["Batch", "Subscription"],
    ".runtime": ["Opening", "Runtime", "Statistics"],
}
"""Where each name is: a module is imported when somebody asks for one of its names. The front door brings Ray along,
most of a second of it, and the rest is a third of one: the command line, pytest's plugin, and whoever needs only a
placement or an error, do without."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> _typing.Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(_importlib.import_module(home, __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
