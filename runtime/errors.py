"""What the runtime refuses, before or beside any command.

HoldfastError
└── RuntimeProblem
    ├── InvalidId            an aggregate id that is empty, unprintable or over 255 bytes
    ├── NotAnAggregate       get() was given something that is no Aggregate subclass
    ├── CategoryConflict     two classes in this runtime claim one category
    ├── NamespaceConflict    the namespace serves another journal
    ├── NoCluster            no Ray cluster answers at an address: start one, or name another
    ├── NothingRuns          no journal runs in a namespace of a cluster: open it there, or name another
    ├── RuntimeClosed        this runtime was closed, or never opened
    ├── AheadOfJournal       a position that the journal has not reached: it was restored from an older copy
    ├── HostUnavailable      the host's process could not be brought up: says why
    ├── NoSuchFollower       nobody has started a follower of this name
    ├── MissingExtra         a package is not installed that this needs: names the extra to install
    ├── SignatureRefused     a webhook that nobody with the secret has sent, or not just now
    └── SinkProblem          not all of a batch of events was confirmed
        ├── SinkUnavailable  for now: try again
        └── EventRefused     one of them never will be
"""

from holdfast.actors.errors import DeadlineExceeded
from holdfast.journal.errors import HoldfastError

__all__ = [
    "AheadOfJournal",
    "CategoryConflict",
    "EventRefused",
    "HostUnavailable",
    "InvalidId",
    "MissingExtra",
    "NamespaceConflict",
    "NoCluster",
    "NoSuchFollower",
    "NotAnAggregate",
    "NothingRuns",
    "RuntimeClosed",
    "RuntimeProblem",
    "SignatureRefused",
    "SinkProblem",
    "SinkUnavailable",
]


class RuntimeProblem(HoldfastError):
    """The runtime cannot do this. Nothing was sent, unless `RuntimeClosed` says otherwise."""


class InvalidId(RuntimeProblem, ValueError):
    """An aggregate id is any non-empty printable text of up to 255 bytes in UTF-8."""

    def __init__(self, id: object, problem: str) -> None:
        super().__init__(id, problem)
        self.id, self.problem = id, problem

    def __str__(self) -> str:
        return f"aggregate id {self.id!r}: {self.problem}"


class NoCluster(RuntimeProblem):
    """No Ray cluster answers at this address, and whoever only looks starts none. Open a runtime, or name another
    address."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"there is no Ray cluster at {self.address!r}: {self.problem}"


class NothingRuns(RuntimeProblem):
    """No journal runs in this namespace of the cluster, and whoever only looks starts none. `others`: namespaces in
    which there is something."""

    def __init__(self, namespace: str, others: tuple[str, ...]) -> None:
        super().__init__(namespace, others)
        self.namespace, self.others = namespace, others

    def __str__(self) -> str:
        there = f"; there are: {', '.join(map(repr, self.others))}" if self.others else ""
        return f"nothing runs in namespace {self.namespace!r} of this cluster{there}"


class AheadOfJournal(RuntimeProblem):
    """Somebody goes on after a position that the journal has not reached. It was restored from an older copy, or is
    another one: what comes next would be taken for something else. Start over, or restore both."""

    def __init__(self, partition: int, after: int, head: int) -> None:
        super().__init__(partition, after, head)
        self.partition, self.after, self.head = partition, after, head

    def __str__(self) -> str:
        return f"partition {self.partition} of the journal ends at position {self.head}, before {self.after}"


class NoSuchFollower(RuntimeProblem, LookupError):
    """No follower of this name runs in the namespace. `runtime.start` starts one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no {self.name} runs here: runtime.start(…) starts it"


class NotAnAggregate(RuntimeProblem, TypeError):
    """Only subclasses of `Aggregate` (that are not abstract) can be referred to."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} is no aggregate type"


class CategoryConflict(RuntimeProblem):
    """Two classes claim one category, so their events would share streams. Give one `category=`."""

    def __init__(self, category: str, first: str, second: str) -> None:
        super().__init__(category, first, second)
        self.category, self.first, self.second = category, first, second

    def __str__(self) -> str:
        return f"category {self.category!r} belongs to {self.first}; {self.second} needs another one"


class NamespaceConflict(RuntimeProblem):
    """In this cluster the namespace already serves another journal. Use that journal, or another namespace."""

    def __init__(self, namespace: str, serves: str, requested: str) -> None:
        super().__init__(namespace, serves, requested)
        self.namespace, self.serves, self.requested = namespace, serves, requested

    def __str__(self) -> str:
        return f"namespace {self.namespace!r} serves {self.serves}, this runtime asks for {self.requested}"


class RuntimeClosed(RuntimeProblem):
    """The runtime was closed, or never opened. `outcome` of a call that it cut off: "not sent", or "unknown" for one
    that had been sent; send that again with the same idempotency key."""

    def __init__(self, what: str, outcome: str = DeadlineExceeded.NOT_SENT) -> None:
        super().__init__(what, outcome)
        self.what, self.outcome = what, outcome

    def __str__(self) -> str:
        unknown = "; whether it was done is not known" if self.outcome == DeadlineExceeded.UNKNOWN else ""
        return f"{self.what}: the runtime is not open{unknown}"


class HostUnavailable(RuntimeProblem):
    """The process that should host this aggregate did not come up. Mend what it says, then call again."""

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(host, problem)
        self.host, self.problem = host, problem

    def __str__(self) -> str:
        return f"{self.host} could not be started: {self.problem}"


class MissingExtra(RuntimeProblem, ImportError):
    """A package that is an extra of this one is not installed. Install it; nothing was sent."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(what, package, extra)
        self.args = (what, package, extra)
        self.what, self.package, self.extra = what, package, extra

    def __str__(self) -> str:
        return f"{self.what} needs {self.package}: pip install 'holdfast[{self.extra}]'"


class SignatureRefused(RuntimeProblem):
    """This request was not signed with any of the secrets, or longer ago than is allowed. Answer 400, do nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"the webhook's signature is refused: {self.problem}"


class SinkProblem(RuntimeProblem):
    """A sink has not confirmed all of a batch. `event`: the id of the one whose fault that is, empty if it is none's.
    `done`: ids of those that it has confirmed all the same; they need not be sent again."""

    def __init__(self, sink: str, problem: str, event: str = "", done: tuple[str, ...] = ()) -> None:
        super().__init__(sink, problem, event, done)
        self.sink, self.problem, self.event, self.done = sink, problem, event, done

    def __str__(self) -> str:
        return f"{self.sink}: {self.problem}"


class SinkUnavailable(SinkProblem):
    """Not now: the broker is out of reach, busy, or fails (at an event, if it names one). Send what is not in `done`
    again, in the same order. `after_s`: not sooner than that, if it said so."""

    retryable = True

    def __init__(
        self, sink: str, problem: str, event: str = "", done: tuple[str, ...] = (), after_s: float = 0.0
    ) -> None:
        super().__init__(sink, problem, event, done)
        self.args = (sink, problem, event, done, after_s)
        self.after_s = after_s


class EventRefused(SinkProblem):
    """The sink will never take this event as it is. Sending it again is of no use; its policy says what now."""
