"""Reactions as their authors see them: what a class may say, what it is refused with, and the test kit."""

from datetime import timedelta
from typing import Any

import pytest
import ray.cloudpickle

from holdfast.actors import (
    Aggregate,
    DeadLetter,
    DefinitionError,
    Reaction,
    RecordedEvent,
    Rejected,
    Retry,
    Stop,
    apply,
    command,
    event,
    on,
    query,
)
from holdfast.actors.definition import definition_of
from holdfast.actors.reacting import REACT
from holdfast.actors.testing import NotForThis, NotFromEvents, Sent, given


@event("test_reaction.ordered")
class Ordered:
    order: str
    amount: int


@event("test_reaction.shipped")
class Shipped:
    order: str


@event("test_reaction.paid")
class Paid:
    amount: int


@event("test_reaction.given_up")
class GivenUp:
    why: str


class Till(Aggregate):
    paid: int = 0

    @command
    def pay(self, amount: int, note: str = "") -> int:
        if amount > 100:
            raise Rejected("too much")
        self.emit(Paid(amount))
        return self.paid

    @query
    def paid_now(self) -> int:
        return self.paid

    @on(Paid)
    def _paid(self, event: Paid) -> None:
        self.paid += event.amount


class Orders(Reaction, snapshot_every=2):
    """Pays when something is ordered; notes when it is shipped."""

    paid: int = 0
    why: str = ""
    shipped_at: int = 0

    @on(Ordered, by="order")
    async def ordered(self, event: Ordered) -> None:
        till = self.aggregate(Till, "main")
        await till.paid_now()
        try:
            await till.pay(event.amount)
        except Rejected as error:
            self.emit(GivenUp(str(error)))
            return
        self.emit(Paid(event.amount))
        self.remind("late", after=timedelta(days=3), command=Orders.late)

    @on(Shipped, by=lambda event, recorded: event.order or None)
    def shipped(self, event: Shipped, recorded: RecordedEvent) -> None:
        self.emit(GivenUp(f"{recorded.category}/{recorded.id} {recorded.position} {recorded.metadata['by']}"))

    @command
    def late(self) -> None:
        self.emit(GivenUp("late"))

    @apply(Paid)
    def _paid(self, event: Paid) -> None:
        self.paid += event.amount

    @apply(GivenUp)
    def _given_up(self, event: GivenUp) -> None:
        self.why = event.why


def till() -> Any:
    return {(Till, "main"): given(Till)}


# -- the kit -----------------------------------------------------------------------------------------------------


def test_the_kit_tells_what_a_reaction_sends_emits_and_waits_for() -> None:
    """Given events, when an event of the journal, then commands, events and reminders."""
    outcome = given(Orders, id="o1", peers=till()).when_event(Ordered("o1", 5))
    assert outcome.commands == [Sent(Till, "main", "pay", (5,))]
    assert outcome.events[0] == Paid(5)
    assert outcome.state.paid == 5
    assert set(outcome.reminders) == {"late"}
    assert outcome.peer(Till, "main").state.paid == 5


def test_what_was_sent_before_a_refusal_is_told_as_well() -> None:
    """A rejection that the handler deals with is its own business; the command had been sent."""
    outcome = given(Orders, id="o1", peers=till()).when_event(Ordered("o1", 500))
    assert outcome.commands == [Sent(Till, "main", "pay", (500,))]
    assert outcome.events == [GivenUp("too much")]
    assert outcome.rejection is None


def test_keys_follow_from_the_place_of_the_event_and_not_from_what_is_sent() -> None:
    """The same place: the same key, whatever the command says; another place, another instance: another key."""

    def key(order: str, amount: int, position: int) -> str:
        to = given(Orders, id=order, peers=till())
        (sent,) = to.when_event(Ordered(order, amount), position=position).commands
        return sent.key

    assert key("o1", 5, 7) == key("o1", 6, 7)
    assert len({key("o1", 5, 7), key("o1", 5, 8), key("o2", 5, 7)}) == 3


def test_a_handler_gets_the_record_of_the_event_if_it_takes_it() -> None:
    """Stream, position and metadata, as in the journal."""
    outcome = given(Orders, id="o1").when_event(
        Shipped("o1"), id="w", category="Warehouse", position=9, metadata={"by": "eve"}
    )
    assert outcome.events == [GivenUp("Warehouse/w 9 eve")]


def test_an_event_for_another_instance_or_for_none_is_not_taken_for_one_of_this() -> None:
    """A test that sends an event to the wrong instance would prove nothing."""
    with pytest.raises(NotForThis, match="is for 'o2', and this is 'o1'"):
        given(Orders, id="o1").when_event(Ordered("o2", 5))
    with pytest.raises(NotForThis, match="is for none"):
        given(Orders, id="o1").when_event(Shipped(""))
    with pytest.raises(NotForThis, match="has no @on for Paid"):
        given(Orders, id="o1").when_event(Paid(5))


def test_commands_of_a_reaction_and_events_follow_each_other_in_the_kit() -> None:
    """A reaction has commands of its own, and what they leave is what the next event finds."""
    outcome = given(Orders, id="o1", peers=till()).when_event(Ordered("o1", 5)).when.late()
    assert outcome.state.why == "late"
    assert outcome.when_event(Ordered("o1", 6), position=2).state.paid == 11


def test_state_that_a_reaction_changes_outside_apply_is_caught() -> None:
    """As in an aggregate: what no event says is not there after a replay."""

    class Sly(Reaction):
        seen: list[str] = []

        @on(Ordered)
        def ordered(self, event: Ordered) -> None:
            self.seen.append(event.order)

    with pytest.raises(NotFromEvents):
        given(Sly).when_event(Ordered("o1", 5))


# -- definitions -------------------------------------------------------------------------------------------------


def no_handler() -> None:
    class Wrong(Reaction):
        paid: int = 0


def two_handlers() -> None:
    class Wrong(Reaction):
        @on(Ordered)
        def one(self, event: Ordered) -> None: ...

        @on(Ordered)
        def two(self, event: Ordered) -> None: ...


def both_kinds() -> None:
    class Wrong(Reaction):
        @on(Ordered)
        @apply(Ordered)
        def one(self, event: Ordered) -> None: ...


def by_in_an_aggregate() -> None:
    class Wrong(Aggregate):
        @on(Ordered, by="order")
        def one(self, event: Ordered) -> None: ...


def by_no_field() -> None:
    class Wrong(Reaction):
        @on(Ordered, by="oder")
        def one(self, event: Ordered) -> None: ...


def by_no_function() -> None:
    class Wrong(Reaction):
        @on(Ordered, by=5)  # type: ignore[call-overload]
        def one(self, event: Ordered) -> None: ...


def by_async() -> None:
    async def find(event: Any, recorded: Any) -> str:
        return "x"

    class Wrong(Reaction):
        @on(Ordered, by=find)  # type: ignore[arg-type]
        def one(self, event: Ordered) -> None: ...


def by_of_one_argument() -> None:
    class Wrong(Reaction):
        @on(Ordered, by=lambda event: event.order)  # type: ignore[arg-type,misc]
        def one(self, event: Ordered) -> None: ...


def no_event() -> None:
    class Wrong(Reaction):
        @on(int)
        def one(self, event: int) -> None: ...


def handler_without_event() -> None:
    class Wrong(Reaction):
        @on(Ordered)  # type: ignore[arg-type]
        def one(self) -> None: ...


def handler_with_too_much() -> None:
    class Wrong(Reaction):
        @on(Ordered)  # type: ignore[arg-type]
        def one(self, event: Ordered, recorded: RecordedEvent, more: int) -> None: ...


def generator() -> None:
    class Wrong(Reaction):
        @on(Ordered)  # type: ignore[arg-type]
        async def one(self, event: Ordered) -> Any:
            yield 5


def command_as_handler() -> None:
    class Wrong(Reaction):
        @on(Ordered)  # type: ignore[arg-type]
        @command
        def one(self, event: Ordered) -> None: ...


def async_apply() -> None:
    class Wrong(Reaction):
        @on(Shipped)
        def other(self, event: Shipped) -> None: ...

        @apply(Ordered)  # type: ignore[arg-type]
        async def one(self, event: Ordered) -> None: ...


def emits_what_it_only_reacts_to() -> None:
    class Wrong(Reaction):
        @on(Ordered)
        def one(self, event: Ordered) -> None:
            self.emit(Ordered("x", 1))


def override_without_on() -> None:
    class Wrong(Orders):
        async def ordered(self, event: Ordered) -> None: ...


def override_without_apply() -> None:
    class Wrong(Orders):
        def _paid(self, event: Paid) -> None: ...


def our_name() -> None:
    class Wrong(Reaction):
        @on(Ordered)
        def holdfast_react(self, event: Ordered) -> None: ...


def no_policy() -> None:
    class Wrong(Reaction, on_error="stop"):  # type: ignore[arg-type]
        @on(Ordered)
        def one(self, event: Ordered) -> None: ...


REFUSED = {
    no_handler: r"Wrong: reacts to nothing: it has no @on method",
    two_handlers: r"Wrong\.two: Ordered is reacted to by one already",
    both_kinds: r"Wrong\.one: one method cannot both react \(@on\) and change state \(@apply\)",
    by_in_an_aggregate: r"Wrong\.one: by= says which instance of a Reaction",
    by_no_field: r"Wrong\.one: Ordered has no field 'oder' to go by",
    by_no_function: r"Wrong\.one: by= is the name of a field, or a function .* not 5",
    by_async: r"Wrong\.one: by= is a plain function",
    by_of_one_argument: r"Wrong\.one: by= is called with the event and its record",
    no_event: r"Wrong\.one: @on takes event classes, and int is none",
    handler_without_event: r"Wrong\.one: an @on method of a reaction takes self, the event",
    handler_with_too_much: r"Wrong\.one: an @on method of a reaction takes self, the event",
    generator: r"Wrong\.one: an @on method of a reaction is a def or an async def",
    command_as_handler: r"Wrong\.one: @on belongs on a method, not on a Command",
    async_apply: r"Wrong\.one: an @apply method applies an event at once: a plain def",
    emits_what_it_only_reacts_to: r"Wrong\.one: emits Ordered, but no @apply\(Ordered\) method applies it",
    override_without_on: r"Wrong\.ordered: overrides an @on method without @on",
    override_without_apply: r"Wrong\._paid: overrides an @apply method without @apply",
    our_name: r"Wrong\.holdfast_react: names that start with 'holdfast_' are ours",
    no_policy: r"Wrong: on_error is a Retry, a DeadLetter or a Stop, not 'stop'",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_class_that_cannot_be_a_reaction_is_refused_with_its_line(make: Any) -> None:
    """While the class is made, not when the first event comes."""
    with pytest.raises(DefinitionError, match=REFUSED[make]) as caught:
        make()
    assert __file__ in caught.value.where


def test_apply_is_another_word_for_on_in_an_aggregate() -> None:
    """Both stand for the same; one class may use both."""

    class Mixed(Aggregate):
        paid: int = 0

        @command
        def pay(self) -> None:
            self.emit(Paid(5))
            self.emit(GivenUp("x"))

        @apply(Paid)
        def _paid(self, event: Paid) -> None:
            self.paid += event.amount

        @on(GivenUp)
        def _given_up(self, event: GivenUp) -> None:
            self.paid += 1

    assert given(Mixed, Paid(1)).when.pay().state.paid == 7


def test_handlers_of_one_method_add_up() -> None:
    """Each with its own way to the instance."""

    class Both(Reaction):
        @on(Ordered, by="order")
        @on(Shipped)
        def either(self, event: Ordered | Shipped) -> None: ...

    found = definition_of(Both).reactions
    assert {name: spec.by for name, spec in found.items()} == {
        "test_reaction.ordered": "order",
        "test_reaction.shipped": None,
    }


def test_the_policy_is_inherited_and_may_be_overridden() -> None:
    """Nobody says: retries, then a dead letter."""

    class Base(Reaction, on_error=Stop(), abstract=True): ...

    class One(Base):
        @on(Ordered)
        def one(self, event: Ordered) -> None: ...

    class Two(One, on_error=DeadLetter()): ...

    assert (One.__holdfast_on_error__, Two.__holdfast_on_error__) == (Stop(), DeadLetter())
    assert Orders.__holdfast_on_error__ == Retry()
    assert Retry().then == "dead letter"


@pytest.mark.parametrize(
    "wrong", [{"times": 0}, {"first_s": 0.0}, {"first_s": 5.0, "most_s": 1.0}, {"then": "dead"}], ids=str
)
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """At the class, not at the first failure."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retry(**wrong)


def test_pauses_double_up_to_the_longest() -> None:
    """Also after so many failures that the power of two would be no float any more."""
    retry = Retry(first_s=0.5, most_s=3.0)
    assert [retry.pause_s(n) for n in (1, 2, 3, 4, 5, 5000)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_the_system_command_is_served_and_is_no_command_of_the_type() -> None:
    """Hosts carry it out; references, which go by `commands`, have no way to it."""
    definition = definition_of(Orders)
    assert REACT in definition.served
    assert REACT not in definition.commands
    assert REACT not in definition_of(Till).served


def variant(by: Any, amount: int, state: int, on_error: Any = None) -> type[Reaction]:
    class Variant(Reaction, on_error=on_error):
        count: int = 0

        @on(Ordered, by=by)
        def ordered(self, event: Ordered) -> None:
            self.emit(Paid(amount))

        @apply(Paid)
        def _paid(self, event: Paid) -> None:
            self.count += state

    return Variant


def test_the_fingerprint_of_the_code_covers_reacting_and_that_of_the_state_does_not() -> None:
    """Another handler, another way to the instance: hosts are replaced, snapshots stay good."""
    by_field, by_function = "order", lambda event, recorded: event.order
    base = definition_of(variant(by_field, 1, 1))
    same = definition_of(variant(by_field, 1, 1))
    assert (base.code, base.schema) == (same.code, same.schema)
    for other in (
        variant(by_function, 1, 1),
        variant(None, 1, 1),
        variant(by_field, 2, 1),
        variant(by_field, 1, 1, Stop()),
    ):
        assert definition_of(other).code != base.code
        assert definition_of(other).schema == base.schema
    assert definition_of(variant(by_field, 1, 2)).schema != base.schema


def test_a_reaction_that_travels_by_value_is_the_same_there() -> None:
    """As one defined in a notebook reaches its hosts: first as an empty skeleton, then attribute by attribute."""
    cls = variant("order", 1, 1, Stop())
    there = ray.cloudpickle.loads(ray.cloudpickle.dumps(cls))
    assert definition_of(there).code == definition_of(cls).code
    assert there.__holdfast_on_error__ == Stop()
    assert given(there, id="o1").when_event(Ordered("o1", 5)).events == [Paid(1)]
