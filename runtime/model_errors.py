"""What read models refuse, and what to do about it.

HoldfastError
├── ReadModelUrlError         the URL names no database for a read model: correct it
├── ReadModelUnavailable      the database is away, or in somebody else's hands for now: it is tried again
├── StatementRefused          the database refused a statement of a handler: the handler's policy decides
├── ReplayFailed              a dead letter was replayed, and its handler failed again: it stays one
└── FollowerStopped
    ├── ReadModelConflict     what stands there is not what the projection declares: raise its version, or use another
    ├── ReadModelAhead        it has events that the journal does not have: the journal was restored from an older copy
    └── ForeignReadModel      it was made from another journal
"""

from holdfast.journal.errors import HoldfastError

from .follower import FollowerStopped

__all__ = [
    "ForeignReadModel",
    "ReadModelAhead",
    "ReadModelConflict",
    "ReadModelUnavailable",
    "ReadModelUrlError",
    "ReplayFailed",
    "StatementRefused",
]


class ReadModelUrlError(HoldfastError, ValueError):
    """The URL names no database that a read model can be in. Nothing was opened."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        return f"read model url {self.url!r}: {self.problem}"


class ReadModelUnavailable(HoldfastError):
    """The database of a read model cannot be reached, or is locked, full or failing. What was under way is undone, or
    committed unheard: the checkpoint tells, and the projection goes on after it by itself."""

    retryable = True

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(model, problem)
        self.model, self.problem = model, problem

    def __str__(self) -> str:
        return f"read model {self.model}: {self.problem}"


class StatementRefused(HoldfastError):
    """The database refused a statement: a constraint, a type, a syntax error. Nothing of its transaction remains.
    `code`: the SQLSTATE, or SQLite's name of the error."""

    def __init__(self, problem: str, code: str) -> None:
        super().__init__(problem, code)
        self.problem, self.code = problem, code

    def __str__(self) -> str:
        return f"{self.problem} ({self.code})"


class ReplayFailed(HoldfastError):
    """The handler failed again for an event that was set aside, which stays as it is. Mend what it says first."""

    def __init__(self, follower: str, partition: int, position: int, problem: str) -> None:
        super().__init__(follower, partition, position, problem)
        self.follower, self.partition, self.position, self.problem = follower, partition, position, problem

    def __str__(self) -> str:
        return f"{self.follower}: position {self.position} of partition {self.partition}: {self.problem}"


class ReadModelConflict(FollowerStopped):
    """What stands in the read model does not fit what the projection declares. Nothing was changed. Give the class a
    higher `version`, and it is built anew beside the old one; or start the one that the read model is of."""


class ReadModelAhead(FollowerStopped):
    """The checkpoint is beyond the end of the journal, which was restored from an older copy, or begun anew. Remove the
    read model, its tables and its checkpoints, and start the projection: it is built again."""


class ForeignReadModel(FollowerStopped):
    """At the checkpoint the journal has another event than the read model was made from: it is another journal, or was
    restored from an older copy and went on differently. Remove the read model, or start with its own journal."""
