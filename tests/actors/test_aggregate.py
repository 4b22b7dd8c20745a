"""Aggregates as users write them: fields, options, commands, and what a live instance allows."""

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar

import pytest

from holdfast.actors import (
    Aggregate,
    DefinitionError,
    NotInCommand,
    Rejected,
    StateChangedOutsideHandler,
    command,
    event,
    on,
    query,
)
from holdfast.actors.aggregate import Context
from holdfast.actors.definition import definition_of
from holdfast.actors.unit import Unit


@event("test_aggregate.added")
class Added:
    item: str
    price: int = 1


@event("test_aggregate.cleared")
class Cleared:
    pass


@dataclass
class Address:
    street: str = ""


class Basket(Aggregate, category="basket", snapshot_every=10, idle_s=2.5):
    """A basket of things."""

    LIMIT: ClassVar[int] = 3
    items: list[str] = []
    prices: dict[str, int] = field(default_factory=dict)
    address: Address = Address()
    total: int = 0

    @command
    def add(self, item: str, price: int = 1) -> int:
        """Put something in."""
        if len(self.items) >= self.LIMIT:
            raise Rejected("full")
        self.emit(Added(item, price))
        return self.total

    @command
    def add_two(self, item: str) -> int:
        Basket.add(self, item)
        return Basket.add(self, item + "!") + Basket.worth(self)

    @command
    async def add_later(self, item: str) -> int:
        return Basket.add(self, item)

    @command
    def cheat(self) -> None:
        self.total = 5

    @command
    def leak(self) -> Any:
        return self._tally

    @query
    def worth(self) -> int:
        return self.total

    def _tally(self) -> Context:
        return self.context

    @on(Added)
    def _added(self, event: Added) -> None:
        self.items.append(event.item)
        self.prices[event.item] = event.price
        self.total += event.price

    @on(Cleared)
    def _cleared(self, event: Cleared) -> None:
        self.items, self.prices, self.total = [], {}, 0


def new(cls: type[Any], id: str = "b1") -> Any:
    return definition_of(cls).new(id)


def run(instance: Any, method: str, *args: Any) -> Any:
    definition = definition_of(type(instance))
    context = Context(command_id="c1", correlation_id="c0")
    return Unit(definition, instance, definition.commands[method], context).run(args, {})


def test_an_instance_starts_with_its_defaults_and_shares_nothing() -> None:
    """Mutable defaults are copied for each instance."""
    one, other = new(Basket), new(Basket)
    run(one, "add", "pear", 3)
    one.address.street = "Elm"
    assert (one.items, one.prices, one.total) == (["pear"], {"pear": 3}, 3)
    assert (other.items, other.prices, other.total, other.address) == ([], {}, 0, Address())
    assert (Basket.items, Basket.LIMIT) == ([], 3)


def test_a_command_inside_the_aggregate_simply_runs() -> None:
    """`Basket.add(self, …)` and `self.add(…)` run the method in the same unit of work."""
    basket = new(Basket)
    assert run(basket, "add_two", "fig") == 4
    assert basket.items == ["fig", "fig!"]


def test_an_aggregate_knows_its_id_and_version() -> None:
    """The version counts the events, those just emitted included."""
    basket = new(Basket, "b7")
    run(basket, "add_two", "fig")
    assert (basket.id, basket.version, repr(basket)) == ("b7", 2, "Basket<b7@2>")


def test_assigning_to_a_field_outside_a_handler_fails_at_once() -> None:
    """Whether in a command or from outside; the state stays as it was."""
    basket = new(Basket)
    with pytest.raises(StateChangedOutsideHandler, match=r"Basket\.total"):
        run(basket, "cheat")
    with pytest.raises(StateChangedOutsideHandler):
        basket.items = []
    with pytest.raises(StateChangedOutsideHandler):
        del basket.items
    with pytest.raises(StateChangedOutsideHandler, match="colour"):
        basket.colour = "red"
    assert (basket.total, basket.items) == (0, [])


def test_a_handler_that_assigns_to_what_is_no_field_is_told_so() -> None:
    """Such an attribute would be missing after a snapshot."""

    class Sloppy(Aggregate):
        @command
        def go(self) -> None:
            self.emit(Cleared())

        @on(Cleared)
        def _cleared(self, event: Cleared) -> None:
            self.colour = "red"

    with pytest.raises(AttributeError, match="no field 'colour'"):
        run(new(Sloppy), "go")


def test_private_caches_and_properties_may_be_assigned() -> None:
    """They are not state; nothing stores them."""

    class Careful(Aggregate):
        amount: int = 0

        @property
        def euros(self) -> float:
            return self.amount / 100

        @command
        def look(self) -> float:
            self._seen = self.euros
            return self._seen

    assert run(new(Careful), "look") == 0


def test_emit_works_only_while_a_command_runs() -> None:
    """Not from outside, not in a query, not in a handler, not after the command."""

    class Nosy(Aggregate):
        @query
        def ask(self) -> None:
            self.emit(Cleared())

        @command
        def clear(self) -> None:
            self.emit(Cleared())

        @on(Cleared)
        def _cleared(self, event: Cleared) -> None:
            self.emit(Cleared())

    basket = new(Nosy)
    for attempt in (lambda: basket.emit(Cleared()), lambda: run(basket, "ask"), lambda: run(basket, "clear")):
        with pytest.raises(NotInCommand, match="Nosy<b1@"):
            attempt()


def test_the_context_belongs_to_the_running_command() -> None:
    """Commands see where they come from; nobody else does."""
    basket = new(Basket)
    with pytest.raises(NotInCommand, match="context"):
        run(basket, "leak")()
    context = Context(command_id="c1", correlation_id="c0", recorded_at=1_700_000_000_000_000)
    assert context.now.isoformat() == "2023-11-14T22:13:20+00:00"


def test_a_context_comes_back_from_what_the_journal_keeps() -> None:
    """A plain call keeps nothing beside the event's own columns."""
    plain = Context(command_id="c1", correlation_id="c1", recorded_at=5)
    assert plain.encoded == b""
    assert Context.decode("c1", 5, b"") == plain
    caused = Context(command_id="c2", correlation_id="c1", causation_id="c1", metadata={"user": "ann"}, recorded_at=6)
    assert Context.decode("c2", 6, caused.encoded) == caused


def test_our_names_but_emit_are_free_for_fields() -> None:
    """Fields called id, version, context and aggregate break nothing inside."""

    class Document(Aggregate):
        id: str = "none"
        version: str = "draft"
        context: list[str] = []
        aggregate: int = 0

        @command
        def publish(self) -> str:
            self.emit(Cleared())
            return self.version

        @on(Cleared)
        def _cleared(self, event: Cleared) -> None:
            self.version = "final"
            self.context.append("published")
            self.id = "d"

    document = new(Document)
    assert run(document, "publish") == "final"
    assert (document.id, document.context, document.aggregate, repr(document)) == (
        "d",
        ["published"],
        0,
        "Document<b1@1>",
    )
    definition = definition_of(Document)
    copy = definition.new("b1")
    definition.restore(copy, definition.encode_state(document), 1)
    assert definition.same_state(document, copy)


def test_options_come_from_class_keywords_and_are_inherited() -> None:
    """All but the category and whether it is abstract."""

    class Base(Aggregate, abstract=True, category="base", snapshot_every=7, snapshots_kept=5):
        pass

    class Derived(Base, idle_s=1):
        pass

    options = Derived.__holdfast_options__
    assert (options.category, options.abstract) == ("Derived", False)
    assert (options.snapshot_every, options.snapshots_kept, options.idle_s) == (7, 5, 1)
    assert definition_of(Basket).category == "basket"
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"category": ""}, "category"),
        ({"category": "a/b"}, "category"),
        ({"category": "a\nb"}, "category"),
        ({"category": "é" * 128}, "255 bytes"),
        ({"category": 5}, "category"),
        ({"snapshot_every": 0}, "snapshot_every"),
        ({"snapshots_kept": 1.5}, "snapshots_kept"),
        ({"snapshot_on_passivate": 1}, "snapshot_on_passivate"),
        ({"idle_s": 0}, "idle_s"),
        ({"idle_s": "1"}, "idle_s"),
        ({"speed": 1}, "unknown class keyword 'speed'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(keywords: dict[str, Any], said: str) -> None:
    """With the option's name, the class and the line."""
    with pytest.raises(DefinitionError, match=rf"Account.*{said}.*test_aggregate\.py:\d+"):

        class Account(Aggregate, **keywords):
            pass


def test_an_aggregate_is_not_constructed() -> None:
    """The error says how to get one."""
    with pytest.raises(TypeError, match=r"runtime\.get\(Basket, id\)"):
        Basket()


def test_an_event_is_a_frozen_dataclass_under_its_name() -> None:
    """Equal by value, immutable, slotted, picklable, its name plain text."""
    pear = Added("pear", price=2)
    assert pear == Added("pear", 2) != Added("fig", 2)
    assert hash(pear) == hash(Added("pear", 2))
    assert pickle.loads(pickle.dumps(pear)) == pear
    assert Added.__event_name__ == "test_aggregate.added"  # type: ignore[attr-defined]
    assert not hasattr(pear, "__dict__")
    with pytest.raises(FrozenInstanceError):
        pear.price = 3  # type: ignore[misc]


def test_an_event_may_be_a_frozen_dataclass_already() -> None:
    """One that is not frozen is refused."""

    @event("already")
    @dataclass(frozen=True, kw_only=True)
    class Already:
        amount: int

    assert Already(amount=1).amount == 1
    with pytest.raises(DefinitionError, match="not frozen"):

        @event("loose")
        @dataclass
        class Loose:
            amount: int


def loose_event() -> None:
    @event("loose")
    class Loose:
        amount = 5


def unserializable_event() -> None:
    @event("bad")
    class Bad:
        amount: int
        what: object


def badly_ordered_event() -> None:
    @event("bad")
    class Bad:
        amount: int = 0
        what: str  # type: ignore[misc]


def nameless_event() -> None:
    @event
    class Nameless:  # type: ignore[arg-type]
        amount: int


def empty_name() -> None:
    event("")


def reserved_name() -> None:
    event("holdfast.mine")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (loose_event, r"'amount' has no annotation .*test_aggregate\.py:\d+"),
        (unserializable_event, r"Bad: cannot be serialized: object .* at \.what .*test_aggregate\.py:\d+"),
        (badly_ordered_event, "non-default argument 'what'"),
        (nameless_event, "Nameless.*stable name"),
        (empty_name, "stable name"),
        (reserved_name, "'holdfast.mine'.*Holdfast's own"),
    ],
    ids=lambda value: getattr(value, "__name__", "said"),
)
def test_an_event_that_cannot_be_is_refused(make: Callable[[], None], said: str) -> None:
    """With its class, what is wrong, and the line."""
    with pytest.raises(DefinitionError, match=said):
        make()


def test_one_event_name_belongs_to_one_class_of_a_scope() -> None:
    """Two in one function conflict; the same class again, as in a notebook, replaces the older one."""

    def define(name: str) -> Any:
        return event("test.twice")(type(name, (), {"__qualname__": f"here.{name}", "__annotations__": {}}))

    first = define("First")
    again = define("First")
    assert again is not first
    with pytest.raises(DefinitionError, match=r"Second.*'test\.twice' belongs to here\.First"):
        define("Second")


def test_the_same_event_name_in_another_scope_is_another_event() -> None:
    """Tests and modules do not get in each other's way."""

    @event("test_aggregate.added")
    class Added:
        pass

    assert Added.__event_name__ == "test_aggregate.added"  # type: ignore[attr-defined]


@pytest.mark.parametrize("decorate", [command, query])
def test_what_is_no_method_cannot_be_a_command(decorate: Any) -> None:
    """Generators, static methods and plain values are refused where they stand."""

    def generator(self: Any) -> Any:
        yield 1

    async def async_generator(self: Any) -> Any:
        yield 1

    def selfless() -> None: ...

    def keywords_only(*, self: Any) -> None: ...

    refused = [
        generator,
        async_generator,
        selfless,
        keywords_only,
        staticmethod(generator),
        property(generator),
        5,
        Basket,
    ]
    for thing in refused:
        with pytest.raises(DefinitionError):
            decorate(thing)


def test_commands_keep_their_name_documentation_and_signature() -> None:
    """Help and editors see the method."""
    assert Basket.add.__doc__ == "Put something in."
    assert Basket.add.__name__ == "add"  # type: ignore[attr-defined]
