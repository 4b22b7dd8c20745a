"""The journal: where events are kept, and the server in front of it.

`open_store` gives the `Store` that a URL names; `JournalServer` serves one, `JournalClient` talks to it. A journal in
partitions has a store, a server and a client for each; `PartitionedJournal` makes one `Journal` of the clients.
`holdfast.journal.testing` has a store that fails on demand.
"""

from .client import JournalClient, JournalLink
from .errors import (
    CodecError,
    CorruptRecord,
    DuplicateKey,
    ExtraMissing,
    Fenced,
    ForeignPartition,
    HoldfastError,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    JournalLost,
    JournalOpenError,
    JournalReadOnly,
    JournalTooNew,
    JournalUnavailable,
    JournalUrlError,
    KeyStoreConflict,
    NoKeyStore,
    NotAJournal,
    PartitionConflict,
    PlacementConflict,
    RecordTooLarge,
    Unstorable,
    VersionConflict,
)
from .event_types import name_and_version, typed_name
from .journal import Journal
from .key_desk import KeyDesk
from .keys import DataSubject, Destroyed, Key, KeyId, KeyStore, Wanted
from .keys_url import open_keys
from .memory import MemoryStore
from .partition import PARTITIONS_MAX, Partition, partition_of
from .partitioned import PartitionedJournal
from .positions import Positions
from .postgres import PostgresStore
from .records import (
    Append,
    Appended,
    Checkpoint,
    Fact,
    KeyedReply,
    Load,
    Loaded,
    NewEvent,
    Recorded,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)
from .server import JournalServer
from .sqlite import SqliteStore
from .store import Store
from .url import JournalUrl, open_store

__all__ = [
    "PARTITIONS_MAX",
    "Append",
    "Appended",
    "Checkpoint",
    "CodecError",
    "CorruptRecord",
    "DataSubject",
    "Destroyed",
    "DuplicateKey",
    "ExtraMissing",
    "Fact",
    "Fenced",
    "ForeignPartition",
    "HoldfastError",
    "Journal",
    "JournalBusy",
    "JournalClient",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalLink",
    "JournalLocked",
    "JournalLost",
    "JournalOpenError",
    "JournalReadOnly",
    "JournalServer",
    "JournalTooNew",
    "JournalUnavailable",
    "JournalUrl",
    "JournalUrlError",
    "Key",
    "KeyDesk",
    "KeyId",
    "KeyStore",
    "KeyStoreConflict",
    "KeyedReply",
    "Load",
    "Loaded",
    "MemoryStore",
    "NewEvent",
    "NoKeyStore",
    "NotAJournal",
    "Partition",
    "PartitionConflict",
    "PartitionedJournal",
    "PlacementConflict",
    "Positions",
    "PostgresStore",
    "RecordTooLarge",
    "Recorded",
    "Registration",
    "Reminder",
    "Snapshot",
    "SqliteStore",
    "Store",
    "StoreStatistics",
    "StoredReply",
    "StreamId",
    "Unstorable",
    "VersionConflict",
    "Wanted",
    "name_and_version",
    "open_keys",
    "open_store",
    "partition_of",
    "typed_name",
]
