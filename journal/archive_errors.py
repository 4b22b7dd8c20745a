"""What an archive or a backup cannot be, and what whoever runs it should do about it.

    JournalError
    └── ArchiveError           an archive, or a backup, is not to be had
        ├── NotAnArchive       something else was given: give the archive
        ├── ArchiveTooNew      written by a newer release: upgrade
        ├── ArchiveDamaged     a block of it is not what was written: get another copy
        │   └── ArchiveTorn    it ends before its end: what is whole was taken, bring the rest
        ├── ArchiveMismatch    the file was begun in another way: go on in that one, or begin anew
        ├── ForeignHistory     the target's history is another one: import into another journal
        └── BackupFailed       nothing was put in place: the error says why

Every error keeps `args == constructor arguments`.
"""

from .errors import JournalError

__all__ = [
    "ArchiveDamaged",
    "ArchiveError",
    "ArchiveMismatch",
    "ArchiveTooNew",
    "ArchiveTorn",
    "BackupFailed",
    "ForeignHistory",
    "NotAnArchive",
]


class ArchiveError(JournalError):
    """An archive, or a backup, cannot be written, read or taken in."""


class NotAnArchive(ArchiveError):
    """What was given begins as no archive does. Nothing was taken from it; give the archive."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name} is no Holdfast archive: {self.problem}"


class ArchiveTooNew(ArchiveError):
    """Written in a newer format, or with a section that an older release must not pass over. Upgrade."""

    def __init__(self, name: str, found: str, supported: str) -> None:
        super().__init__(name, found, supported)
        self.name, self.found, self.supported = name, found, supported

    def __str__(self) -> str:
        return f"{self.name}: has {self.found}, this release reads {self.supported}"


class ArchiveDamaged(ArchiveError):
    """The archive is not what was written, from this block on. What came before it is good, and was taken; get another
    copy of the archive and run the same again."""

    def __init__(self, name: str, block: int, offset: int, problem: str) -> None:
        super().__init__(name, block, offset, problem)
        self.name, self.block, self.offset, self.problem = name, block, offset, problem

    def __str__(self) -> str:
        return f"{self.name}: block {self.block}, at byte {self.offset}: {self.problem}"


class ArchiveTorn(ArchiveDamaged):
    """The archive ends before its end record. What is whole of it is good, and was taken; finish the export
    (`--resume`) or bring the whole file, and run the same again."""


class ArchiveMismatch(ArchiveError):
    """The archive to go on with was begun of another journal, or with other options. It was left as it is; go on with
    those, or begin a new file."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


class ForeignHistory(ArchiveError):
    """The target holds another history of this stream than the archive. Nothing of this batch was written; import
    into another journal, or into an empty one. `version`: the first that differs."""

    def __init__(self, stream: str, version: int, problem: str) -> None:
        super().__init__(stream, version, problem)
        self.stream, self.version, self.problem = stream, version, problem

    def __str__(self) -> str:
        return f"{self.stream} version {self.version}: {self.problem}"


class BackupFailed(ArchiveError):
    """Nothing was put in place of `path`, and nothing that was there was changed. The problem says what to do."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"
