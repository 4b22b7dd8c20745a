"""Definitions: what is read from a class, and every mistake that is told when the class is made."""

import pickle
import re
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from holdfast.actors import Aggregate, DefinitionError, HydrationFailed, command, event, on, query
from holdfast.actors.definition import Definition, definition_of
from holdfast.actors.fields import State
from holdfast.journal.codec import CodecError
from holdfast.journal.records import Recorded, StreamId


@event("test_definition.opened")
class Opened:
    owner: str


@event("test_definition.deposited")
class Deposited:
    amount: int
    note: str = ""


@event("test_definition.closed")
class Closed:
    pass


@dataclass(frozen=True)
class Fact:
    amount: int


class Events:
    """Stands for a module of events."""

    Deposited = Deposited
    Closed = Closed


class Account(Aggregate):
    owner: str = ""
    balance: int = 0
    history: list[int] = field(default_factory=list)
    opened: datetime | None = None

    @command
    def open(self, owner: str) -> None:
        self.emit(Opened(owner))

    @command
    def deposit(self, amount: int, *, note: str = "") -> int:
        self.emit(Events.Deposited(amount, note))
        return self.balance

    @command
    async def settle(self, *amounts: int, **more: int) -> int:
        return sum(amounts)

    @command
    def strict(self, one: int, two: int = 2, *, three: int) -> int:
        return one + two + three

    @query
    def statement(self) -> Iterator[int]:
        return iter(self.history)

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        self.owner = event.owner

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        if event.amount == 13:
            raise ValueError("unlucky")
        self.balance += event.amount
        self.history.append(self.version)


def recorded(version: int, type: str, payload: bytes) -> Recorded:
    return Recorded(
        position=version + 100,
        stream=StreamId("Account", "a"),
        version=version,
        type=type,
        payload=payload,
        command_id="c",
        recorded_at=0,
    )


def deposited(version: int, amount: int) -> Recorded:
    codec = definition_of(Account).events[Deposited].codec
    return recorded(version, "test_definition.deposited", codec.encode(Deposited(amount)))


def test_a_definition_lists_commands_events_and_category() -> None:
    """By name and by class."""
    definition = definition_of(Account)
    assert definition.category == "Account"
    assert {n: (c.is_query, c.is_async) for n, c in definition.commands.items()} == {
        "open": (False, False),
        "deposit": (False, False),
        "settle": (False, True),
        "strict": (False, False),
        "statement": (True, False),
    }
    assert list(definition.events) == [Opened, Deposited]
    assert definition.events_by_name["test_definition.deposited"] is definition.events[Deposited]


def test_a_definition_is_built_once_and_never_hangs_on_its_class() -> None:
    """Ray must be able to send the class by value."""
    assert definition_of(Account) is definition_of(Account)
    assert not [v for v in vars(Account).values() if isinstance(v, Definition)]
    with pytest.raises(TypeError, match="send the class"):
        pickle.dumps(definition_of(Account))


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("deposit", (5,), {}),
        ("deposit", (), {"amount": 5}),
        ("deposit", (5,), {"note": "x"}),
        ("settle", (1, 2, 3), {"four": 4}),
        ("strict", (1,), {"three": 3}),
        ("statement", (), {}),
    ],
)
def test_right_arguments_pass(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Positional, by keyword, variadic."""
    definition_of(Account).commands[method].check(args, kwargs)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "said"),
    [
        ("deposit", (), {}, "missing a required argument: 'amount'"),
        ("deposit", (1, 2), {}, "too many positional arguments"),
        ("deposit", (1,), {"amount": 2}, "multiple values for argument 'amount'"),
        ("deposit", (1,), {"nota": "x"}, "unexpected keyword argument 'nota'"),
        ("strict", (1, 2), {}, "missing a required.*argument: 'three'"),
        ("statement", (1,), {}, "too many positional arguments"),
    ],
)
def test_wrong_arguments_are_a_type_error(
    method: str, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    """As calling the method would be, with its name."""
    with pytest.raises(TypeError, match=rf"Account\.{method}\(\): .*{said}"):
        definition_of(Account).commands[method].check(args, kwargs)


def test_replay_applies_events_in_order_and_keeps_the_version() -> None:
    """A handler sees the version of its event, live and in replay alike."""
    definition = definition_of(Account)
    account = definition.new("a")
    definition.replay(account, [deposited(1, 5), deposited(2, 6)])
    definition.replay(account, [])
    definition.replay(account, [deposited(3, 1)])
    assert isinstance(account, Account)
    assert (account.balance, account.history, account.version) == (12, [1, 2, 3], 3)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (recorded(2, "test_definition.gone", b"\x80"), "no @on method of Account applies 'test_definition.gone'"),
        (recorded(2, "test_definition.deposited", b"\x80"), "missing required field `amount`"),
        (recorded(2, "test_definition.deposited", b"\xc1"), "event test_definition.deposited"),
        (deposited(2, 13), "_deposited raised ValueError: unlucky"),
    ],
    ids=["unknown", "incomplete", "garbage", "raising"],
)
def test_an_event_that_cannot_be_applied_is_named(bad: Recorded, said: str) -> None:
    """Stream, version, position, and why; the original error is the cause."""
    definition = definition_of(Account)
    with pytest.raises(HydrationFailed, match=rf"Account/a version 2 \(position 102\): .*{said}") as caught:
        definition.replay(definition.new("a"), [deposited(1, 5), bad])
    assert caught.value.__cause__ is not None


def test_a_snapshot_restores_the_state_at_its_version() -> None:
    """All fields, and the version it was taken at."""
    definition = definition_of(Account)
    account, copy = definition.new("a"), definition.new("a")
    definition.replay(account, [deposited(1, 5), deposited(2, 6)])
    definition.restore(copy, definition.encode_state(account), 2)
    assert definition.same_state(account, copy)
    assert copy.version == 2
    definition.replay(copy, [deposited(3, 1)])
    assert not definition.same_state(account, copy)
    with pytest.raises(CodecError):
        definition.restore(copy, b"\x80", 2)


# -- mistakes ----------------------------------------------------------------------------------------------------


def unhandled_event() -> None:
    class Wrong(Aggregate):
        @command
        def close(self) -> None:
            self.emit(Closed())


def unhandled_event_by_attribute() -> None:
    class Wrong(Aggregate):
        @query
        def _close(self) -> None:
            if self.version:
                self.emit(Events.Closed())


def unhandled_local_event() -> None:
    @event("local")
    class Local:
        pass

    class Wrong(Aggregate):
        def _helper(self) -> None:
            self.emit(Local())


def emits_no_event() -> None:
    class Wrong(Aggregate):
        @command
        def close(self) -> None:
            self.emit(Fact(5))


def two_handlers() -> None:
    class Wrong(Aggregate):
        @on(Closed)
        def _one(self, event: Closed) -> None: ...

        @on(Closed)
        def _two(self, event: Closed) -> None: ...


def two_handlers_by_inheritance() -> None:
    class Wrong(Account):
        @on(Deposited)
        def _also(self, event: Deposited) -> None: ...


def duplicate_name() -> None:
    other = type("Other", (), {"__annotations__": {}, "__module__": "elsewhere", "__qualname__": "Other"})

    class Wrong(Aggregate):
        @on(Closed, event("test_definition.closed")(other))
        def _closed(self, event: Any) -> None: ...


def command_shadows_field() -> None:
    class Wrong(Aggregate):
        deposit: int = 0

        @command
        def deposit(self) -> None: ...  # type: ignore[no-redef]  # noqa: F811


def command_shadows_inherited_field() -> None:
    class Wrong(Account):
        @command
        def balance(self) -> None: ...  # type: ignore[assignment]


def property_shadows_field() -> None:
    class Wrong(Aggregate):
        total: int

        @property
        def total(self) -> int:  # type: ignore[no-redef]
            return 0


def unserializable_state() -> None:
    class Wrong(Aggregate):
        fine: int = 0
        guard: threading.Thread | None = None


def no_default() -> None:
    class Wrong(Aggregate):
        owner: str


def wrong_default() -> None:
    class Wrong(Aggregate):
        owner: str = 5  # type: ignore[assignment]


def default_that_changes() -> None:
    class Wrong(Aggregate):
        token: str = field(default_factory=lambda: str(uuid4()))


def default_that_does_not_survive() -> None:
    class Wrong(Aggregate):
        pairs: list = [(1, 2)]  # type: ignore[type-arg]


def shared_list() -> None:
    class Wrong(Aggregate):
        items = []  # type: ignore[var-annotated]


def unserializable_reply() -> None:
    class Wrong(Aggregate):
        @command
        def go(self) -> threading.Thread: ...  # type: ignore[empty-body]


def handler_of_no_event() -> None:
    class Wrong(Aggregate):
        @on(Fact)
        def _fact(self, event: Fact) -> None: ...


def handler_of_a_subclass_of_an_event() -> None:
    class Derived(Closed):
        pass

    class Wrong(Aggregate):
        @on(Derived)
        def _derived(self, event: Derived) -> None: ...


def async_handler() -> None:
    class Wrong(Aggregate):
        @on(Closed)  # type: ignore[arg-type]
        async def _closed(self, event: Closed) -> None: ...


def handler_without_event() -> None:
    class Wrong(Aggregate):
        @on(Closed)  # type: ignore[arg-type]
        def _closed(self) -> None: ...


def handler_is_command() -> None:
    class Wrong(Aggregate):
        @on(Closed)  # type: ignore[arg-type]
        @command
        def close(self, event: Closed) -> None: ...


def field_called_emit() -> None:
    class Wrong(Aggregate):
        emit: int = 0  # type: ignore[assignment]


def command_called_emit() -> None:
    class Wrong(Aggregate):
        @command
        def emit(self) -> None: ...  # type: ignore[override]


def handler_called_like_ours() -> None:
    class Wrong(Aggregate):
        @on(Closed)
        def _version(self, event: Closed) -> None: ...


def own_init() -> None:
    class Wrong(Aggregate):
        def __init__(self) -> None:
            self.x = 1


def command_overridden_by_a_method() -> None:
    class Wrong(Account):
        def open(self, owner: str) -> None: ...  # type: ignore[override]


def handler_overridden_by_a_method() -> None:
    class Wrong(Account):
        def _opened(self, event: Opened) -> None: ...


MISTAKES: dict[Callable[[], None], str] = {
    unhandled_event: r"Wrong\.close: emits Closed, but no @on\(Closed\) method applies it",
    unhandled_event_by_attribute: r"Wrong\._close: emits Closed, but no @on",
    unhandled_local_event: r"Wrong\._helper: emits .*Local, but no @on",
    emits_no_event: r"Wrong\.close: emits Fact, but it is no event",
    two_handlers: r"Wrong\._two: Closed is applied by _one already",
    two_handlers_by_inheritance: r"Wrong\._also: Deposited is applied by _deposited already",
    duplicate_name: r"Wrong\._closed: Other and Closed are both called 'test_definition\.closed'",
    command_shadows_field: r"Wrong\.deposit: the command shadows the field",
    command_shadows_inherited_field: r"Wrong\.balance: the command shadows the field",
    property_shadows_field: r"Wrong\.total: is shadowed by a property",
    unserializable_state: r"Wrong\.guard: cannot be serialized: Thread",
    no_default: r"Wrong\.owner: has no default; an aggregate starts from nothing",
    wrong_default: r"Wrong\.owner: has a default that is not of its type: Expected `str`, got `int`",
    default_that_changes: r"Wrong\.token: starts differently each time",
    default_that_does_not_survive: r"Wrong\.pairs: has a default that does not survive: \[0\]",
    shared_list: r"Wrong\.items: is shared by all instances",
    unserializable_reply: r"Wrong\.go: its reply cannot be serialized: Thread",
    handler_of_no_event: r"Wrong\._fact: @on takes event classes, and Fact is none",
    handler_of_a_subclass_of_an_event: r"Wrong\._derived: @on takes event classes, and Derived is none",
    async_handler: r"Wrong\._closed: an @on method applies an event at once",
    handler_without_event: r"Wrong\._closed: an @on method takes self and the event",
    handler_is_command: r"Wrong\.close: @on belongs on a method, not on a Command",
    field_called_emit: r"Wrong\.emit: this name is ours",
    command_called_emit: r"Wrong\.emit: this name is ours",
    handler_called_like_ours: r"Wrong\._version: this name is ours",
    own_init: r"Wrong\.__init__: an aggregate starts from the defaults",
    command_overridden_by_a_method: r"Wrong\.open: overrides the command without being one",
    handler_overridden_by_a_method: r"Wrong\._opened: overrides an @on method without @on",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_told_when_the_class_is_made(mistake: Callable[[], None]) -> None:
    """The error names the class, the member, what is wrong, and the line, inside the mistaken class."""
    with pytest.raises(DefinitionError, match=MISTAKES[mistake]) as caught:
        mistake()
    place = re.fullmatch(rf"{re.escape(__file__)}:(\d+)", caught.value.where)
    assert place, caught.value.where
    first = mistake.__code__.co_firstlineno
    last = max(line for _, _, line in mistake.__code__.co_lines() if line)
    assert first < int(place[1]) <= last + 6


def test_the_line_of_a_field_is_its_own() -> None:
    """Not just the class's."""
    with pytest.raises(DefinitionError) as caught:
        unserializable_state()
    with open(__file__) as source:
        line = source.read().split("\n")[int(caught.value.where.rpartition(":")[2]) - 1]
    assert "guard: threading.Thread" in line


def test_an_abstract_base_may_leave_events_to_its_subclasses() -> None:
    """It cannot be used itself; a subclass is checked as a whole."""

    class Closable(Aggregate, abstract=True):
        closed: bool = False

        @command
        def close(self) -> None:
            self.emit(Closed())

    class Shop(Closable):
        @on(Closed)
        def _closed(self, event: Closed) -> None:
            self.closed = True

    assert list(definition_of(Shop).commands) == ["close"]
    with pytest.raises(DefinitionError, match="Closable: is abstract"):
        definition_of(Closable)
    with pytest.raises(DefinitionError, match="no @on"):

        class Forgetful(Closable):
            other: int = 0


def test_a_subclass_overrides_commands_and_handlers_by_name() -> None:
    """What is nearer to the subclass counts."""

    class Doubling(Account):
        @command
        def open(self, owner: str) -> None:
            self.emit(Opened(owner * 2))

        @on(Deposited)
        def _deposited(self, event: Deposited) -> None:
            self.balance += 2 * event.amount

    definition = definition_of(Doubling)
    account = definition.new("a")
    definition.replay(account, [deposited(1, 13)])
    assert isinstance(account, Doubling)
    assert account.balance == 26
    assert definition.commands["open"].function is not definition_of(Account).commands["open"].function


def test_a_mixin_brings_fields_and_commands() -> None:
    """It need not be an Aggregate itself."""

    class Named:
        name: str = "nobody"

        @query
        def called(self) -> str:
            return self.name

    class Dog(Named, Aggregate):
        age: int = 0

    definition = definition_of(Dog)
    assert vars(definition.new("d")).keys() >= {"name", "age"}
    assert "called" in definition.commands


def test_an_empty_class_passes_as_a_skeleton_does() -> None:
    """cloudpickle makes a class with nothing in it first, without its keywords."""

    class Keyworded(Aggregate, abstract=True, category="k"):
        @command
        def close(self) -> None:
            self.emit(Closed())

    skeleton = types.new_class("Skeleton", (Keyworded,), {}, lambda ns: ns.update({"__module__": "__main__"}))
    assert issubclass(skeleton, Aggregate)


def test_what_is_no_aggregate_has_no_definition() -> None:
    """Neither Aggregate itself nor anything else."""
    for thing in (Aggregate, Fact, int, 5, None):
        with pytest.raises(DefinitionError, match="no subclass of Aggregate"):
            definition_of(thing)  # type: ignore[arg-type]


def test_definitions_may_be_asked_for_by_many_threads() -> None:
    """All get the same one."""

    class Fresh(Aggregate):
        x: int = 0

    got: list[Definition] = []
    threads = [threading.Thread(target=lambda: got.append(definition_of(Fresh))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1


def test_state_is_read_bases_first() -> None:
    """The order of fields is the order of the state's structure."""

    class Base(Aggregate, abstract=True):
        b: int = 0

    class Derived(Base):
        a: int = 0

    assert list(State(Derived, {}).fields) == ["b", "a"]


FORWARD = """
from __future__ import annotations
from dataclasses import dataclass
from holdfast.actors import Aggregate, command, event, on

@event("forward.listed")
class Listed:
    item: Item

class Shop(Aggregate):
    items: list[Item] = []
    last: Item | None = None

    @command
    def list(self, name: str) -> Receipt:
        self.emit(Listed(Item(name)))
        return Receipt(len(self.items))

    @on(Listed)
    def _listed(self, event: Listed) -> None:
        self.items.append(event.item)
        self.last = event.item

@dataclass
class Item:
    name: str
"""


def test_annotations_may_name_what_is_defined_further_down() -> None:
    """They are looked at again when the aggregate is first used; what is still missing then is named."""
    namespace: dict[str, Any] = {"__name__": "__main__"}  # as at a prompt
    exec(FORWARD, namespace)
    with pytest.raises(DefinitionError, match=r"Shop: reply of Shop\.list: 'Receipt' names nothing"):
        definition_of(namespace["Shop"])
    exec("@dataclass\nclass Receipt:\n    count: int\n", namespace)
    definition = definition_of(namespace["Shop"])
    assert definition.commands["list"].reply.decode(b"\x81\xa5count\x03") == namespace["Receipt"](3)
    assert namespace["Shop"].__annotations__["last"] == namespace["Item"] | None
