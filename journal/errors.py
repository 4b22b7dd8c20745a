"""What the journal refuses, and what the caller should do about it.

    HoldfastError
    └── JournalError
        ├── JournalUrlError        the URL names no journal: correct it
        ├── JournalOpenError       the journal is there, or should be, and cannot be opened
        │   ├── NotAJournal        something else stands at that path
        │   ├── JournalReadOnly    the file or its folder cannot be written
        │   ├── JournalTooNew      written by a newer release: upgrade
        │   ├── PartitionConflict  made with another number of partitions: open it with that one
        │   ├── ForeignPartition   a partition of another journal stands there: put its own back
        │   ├── NoKeyStore         there is personal data, and no store for its keys: open with keys=
        │   ├── KeyStoreConflict   the journal is served with another key store: open with that one
        │   ├── ExtraMissing       a package that is an extra is not installed: install it
        │   └── JournalLocked      another process writes it: the error says who
        ├── VersionConflict        someone else appended first: hydrate and decide again
        ├── Fenced                 a newer owner claimed the name: stop at once
        ├── DuplicateKey           that idempotency key is already recorded: look the reply up
        ├── PlacementConflict      the aggregate type is recorded with another placement
        ├── RecordTooLarge         an event, a reply, a name or a request is over its limit
        ├── Unstorable             no journal can hold this: correct it, sending it again is of no use
        ├── CodecError             a value, or its type, does not go through MessagePack: names the field
        ├── CorruptRecord          a stored row fails its checksum or cannot be read
        ├── JournalFailed          storage said no (I/O): nothing of the batch was written
        │   └── JournalFull        its disk is full: make room, and it goes on
        ├── JournalLost            the file was deleted or replaced under its writer: stop, and look
        ├── JournalUnavailable     no answer: what became of the request is unknown, ask again
        └── JournalBusy            the queue in front of storage is full: wait and send again

`retryable` tells whether the same request may succeed later, unchanged. Every error keeps
`args == constructor arguments`, so it crosses process boundaries as itself, fields and all.
"""

from typing import ClassVar

__all__ = [
    "CodecError",
    "CorruptRecord",
    "DuplicateKey",
    "ExtraMissing",
    "Fenced",
    "ForeignPartition",
    "HoldfastError",
    "JournalBusy",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalLocked",
    "JournalLost",
    "JournalOpenError",
    "JournalReadOnly",
    "JournalTooNew",
    "JournalUnavailable",
    "JournalUrlError",
    "KeyStoreConflict",
    "NoKeyStore",
    "NotAJournal",
    "PartitionConflict",
    "PlacementConflict",
    "RecordTooLarge",
    "Unstorable",
    "VersionConflict",
]


class HoldfastError(Exception):
    """Everything that Holdfast raises on purpose. `retryable`: may the same request succeed later?"""

    retryable: ClassVar[bool] = False


class JournalError(HoldfastError):
    """The journal refused or failed a request."""


class JournalUrlError(JournalError, ValueError):
    """The URL names no journal. Nothing was opened."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        return f"journal url {self.url!r}: {self.problem}"


class JournalOpenError(JournalError):
    """The journal cannot be opened. Nothing was changed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"journal {self.path}: {self.problem}"


class NotAJournal(JournalOpenError):
    """Something that is no Holdfast journal stands at this path; it was left as it is."""


class JournalReadOnly(JournalOpenError):
    """The file, or the folder that must hold its log, cannot be written."""


class JournalTooNew(JournalOpenError):
    """Written by a newer release of Holdfast. Upgrade; an older release never guesses at a newer schema."""

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(path, "")
        self.args = (path, found, supported)
        self.found, self.supported = found, supported

    def __str__(self) -> str:
        return f"journal {self.path}: has schema {self.found}, this release reads up to {self.supported}"


class PartitionConflict(JournalOpenError):
    """What stands there is another partition, or one of another count, than was asked for. Open the journal with the
    count it was created with: a stream would be looked for, and written, where it is not. Nothing was changed."""

    def __init__(self, path: str, recorded: str, asked: str) -> None:
        super().__init__(path, "")
        self.args = (path, recorded, asked)
        self.recorded, self.asked = recorded, asked

    def __str__(self) -> str:
        return f"journal {self.path}: is {self.recorded} and was opened as {self.asked}; the count is fixed for ever"


class ForeignPartition(JournalOpenError):
    """What stands there is a partition of another journal, by the ids that both record. Put the right one back; the
    events of this one are another journal's. Nothing was changed."""

    def __init__(self, path: str, recorded: str, wanted: str) -> None:
        super().__init__(path, "")
        self.args = (path, recorded, wanted)
        self.recorded, self.wanted = recorded, wanted

    def __str__(self) -> str:
        return f"journal {self.path}: is a partition of another journal, with id {self.recorded} and not {self.wanted}"


class NoKeyStore(JournalOpenError):
    """Personal data is to be written, or read, and the journal was opened without a store for its keys. Open the
    runtime with `keys=`; nothing was written."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "")
        self.args = (what,)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: the journal was opened without a key store; Runtime.open(…, keys=…) names one"


class KeyStoreConflict(JournalOpenError):
    """This journal is being served with another key store, or with none. Open it with that one: a person's data would
    be sealed under keys of two stores, and forgotten in one of them."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked, "")
        self.args = (asked,)
        self.asked = asked

    def __str__(self) -> str:
        return f"key store {self.asked}: the journal is served with another one, or with none"


class ExtraMissing(JournalOpenError):
    """A package that is an extra of this one is not installed where it is needed. Install it; nothing was changed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(what, "")
        self.args = (what, package, extra)
        self.what, self.package, self.extra = what, package, extra

    def __str__(self) -> str:
        return f"{self.what} needs {self.package}: pip install 'holdfast[{self.extra}]'"


class JournalLocked(JournalOpenError):
    """Another process holds this journal for writing. Join its cluster, or stop it first. Readers may go on."""

    retryable = True

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(path, "")
        self.args = (path, holder)
        self.holder = holder

    def __str__(self) -> str:
        return f"journal {self.path}: already open for writing by {self.holder}"


class VersionConflict(JournalError):
    """Someone else appended first. Hydrate the aggregate and decide again; never resend blindly."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream, self.expected, self.actual = stream, expected, actual

    def __str__(self) -> str:
        return f"{self.stream}: expected version {self.expected}, the journal is at {self.actual}"


class Fenced(JournalError):
    """A newer incarnation claimed this owner's name. The one that gets this must stop at once."""

    def __init__(self, owner: str, epoch: int, current: int) -> None:
        super().__init__(owner, epoch, current)
        self.owner, self.epoch, self.current = owner, epoch, current

    def __str__(self) -> str:
        return f"{self.owner}: epoch {self.epoch} is fenced, the current epoch is {self.current}"


class DuplicateKey(JournalError):
    """The stream already holds a reply under this idempotency key. Look it up; do not run the command again."""

    def __init__(self, stream: str, key: str) -> None:
        super().__init__(stream, key)
        self.stream, self.key = stream, key

    def __str__(self) -> str:
        return f"{self.stream}: idempotency key {self.key!r} is already recorded"


class PlacementConflict(JournalError):
    """The journal records another placement for this aggregate type. Open with the recorded one."""

    def __init__(self, category: str, recorded: str, requested: str) -> None:
        super().__init__(category, recorded, requested)
        self.category, self.recorded, self.requested = category, recorded, requested

    def __str__(self) -> str:
        return (
            f"{self.category}: the journal records placement {self.recorded}, "
            f"this runtime asks for {self.requested}; two placements would mean two owners"
        )


class RecordTooLarge(JournalError):
    """Over a named limit. Nothing was written; make it smaller, or raise the limit where it is configured."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, size, limit)
        self.what, self.size, self.limit = what, size, limit

    def __str__(self) -> str:
        return f"{self.what}: {self.size} bytes, the limit is {self.limit}"


class Unstorable(JournalError):
    """Holds what no journal can: text that is no Unicode, a number beyond 64 bits, a name that is empty. Nothing was
    written, and the same will never be; correct it."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what, self.problem = what, problem

    def __str__(self) -> str:
        return f"{self.what} cannot be stored: {self.problem}"


class CodecError(JournalError, ValueError):
    """A type that MessagePack cannot carry, or a value that is not of its type. Change the type, or the value."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what, self.problem = what, problem

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


class CorruptRecord(JournalError):
    """A stored event fails its checksum or cannot be read. Restore it from a backup; other streams go on."""

    def __init__(self, stream: str, version: int, position: int, problem: str) -> None:
        super().__init__(stream, version, position, problem)
        self.stream, self.version, self.position, self.problem = stream, version, position, problem

    def __str__(self) -> str:
        version = f" version {self.version}" if self.version else ""
        position = f" (position {self.position})" if self.position else ""
        return f"{self.stream}{version}{position}: {self.problem}"


class JournalFailed(JournalError):
    """Storage refused (disk full, I/O error). Nothing of the batch was written; send again when it is mended."""

    retryable = True

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"the journal could not write: {self.problem}"


class JournalFull(JournalFailed):
    """The disk of the journal is full. Nothing of the batch was written. Make room where the journal lies: it goes on
    by itself. What was acknowledged is safe, and can be read meanwhile."""

    def __str__(self) -> str:
        return f"the journal's disk is full, make room and send again: {self.problem}"


class JournalLost(JournalError):
    """The journal's file was deleted, moved or replaced under its writer, which acknowledges nothing from then on:
    it would be written where nobody finds it. Stop, put the file (with its log) back, or a backup, and open again."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"journal {self.path}: {self.problem}; nothing more is acknowledged until it is put back or opened anew"


class JournalUnavailable(JournalError):
    """The journal did not answer. Whether the request took effect is unknown: ask again with the same ids."""

    retryable = True

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"the journal cannot be reached: {self.problem}"


class JournalBusy(JournalError):
    """The queue in front of storage is full. Nothing was written; wait a little and send again."""

    retryable = True

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(what, limit)
        self.what, self.limit = what, limit

    def __str__(self) -> str:
        return f"the journal is busy: {self.what} is at its limit of {self.limit}"
