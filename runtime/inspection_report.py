"""What a look at a journal finds, as frozen records that go to JSON as they are: see `inspection.py`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from holdfast.actors.plain import Difference
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.records import StreamId

__all__ = [
    "CategorySummary",
    "Change",
    "Difference",
    "FollowerView",
    "JournalContents",
    "JournalHealth",
    "PartitionHealth",
    "Related",
    "StateView",
    "StreamSummary",
    "time_of",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(micros: int) -> datetime | None:
    """A time as the journal keeps it; None for one that no calendar has."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return None


class CategorySummary(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregate type, as it lies in the journal."""

    name: str
    streams: int
    events: int


class StreamSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One stream. `partition`: the number of the one that it lies in."""

    stream: StreamId
    version: int
    partition: int = 0


class StateView(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one aggregate at a version, as plain data. `snapshot_version`: of the snapshot from which it was
    made (0: from the first event); `rows_read`: what it took."""

    stream: StreamId
    version: int
    fields: dict[str, Any]
    snapshot_version: int = 0
    rows_read: int = 0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One event, and what it changed of the state, in the order in which the state has it. `differences` is None where
    the class is not at hand."""

    event: RecordedEvent
    differences: tuple[Difference, ...] | None = None


class Related(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds one event, each list in the order of time.

    `command`: the events of the same command, itself among them. `causes`: those of the command that sent that one.
    `effects`: those of commands that it sent. `correlated`: all of the same correlation, the ones above among them.
    `complete`: the whole journal was searched, and not just what is around it.
    """

    event: RecordedEvent
    command: tuple[RecordedEvent, ...]
    causes: tuple[RecordedEvent, ...]
    effects: tuple[RecordedEvent, ...]
    correlated: tuple[RecordedEvent, ...]
    complete: bool


class FollowerView(msgspec.Struct, frozen=True, kw_only=True):
    """A reader of the journal that keeps its checkpoint there. `positions`, `lag`: for each partition, and in all;
    None where it has none. (A projection keeps its checkpoint beside its tables, so it is not among these.)"""

    name: str
    owner: str
    positions: tuple[int | None, ...]
    lag: int


class PartitionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: `head` is its newest position, `log_bytes` what its log holds that is not in its place yet,
    `latest` the time of its newest event."""

    number: int
    name: str
    head: int
    streams: int
    bytes_on_disk: int
    log_bytes: int
    latest: datetime | None = None
    problem: str = ""


class JournalHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the journal is. Cheap: nothing is counted for it. `journal`: its URL, without a password; `schema`: the
    format of its tables; `journal_id`: what all its partitions have in common, in hex."""

    journal: str
    kind: str
    schema: int
    journal_id: str
    partitions: tuple[PartitionHealth, ...]
    followers: tuple[FollowerView, ...]
    owners: int

    @property
    def events(self) -> int:
        """In all partitions."""
        return sum(each.head for each in self.partitions)

    @property
    def streams(self) -> int:
        """In all partitions."""
        return sum(each.streams for each in self.partitions)

    @property
    def bytes_on_disk(self) -> int:
        """Of all partitions, their logs included."""
        return sum(each.bytes_on_disk for each in self.partitions)

    @property
    def log_bytes(self) -> int:
        """Of all partitions."""
        return sum(each.log_bytes for each in self.partitions)


class JournalContents(msgspec.Struct, frozen=True, kw_only=True):
    """What lies beside the events, counted. None: this kind of journal does not tell."""

    snapshots: int | None
    keyed_replies: int | None
    reminders: int | None
