"""The test kit: outcomes as users read them, and the mistakes it catches by itself."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.actors import (
    Aggregate,
    Rejected,
    StateChangedOutsideHandler,
    UnhandledEvent,
    UnknownCommand,
    command,
    event,
    on,
    query,
)
from holdfast.actors.testing import DoesNotSurvive, NotFromEvents, given


@event("test_kit.deposited")
class Deposited:
    amount: int


@event("test_kit.withdrawn")
class Withdrawn:
    amount: int


@event("test_kit.noted")
class Noted:
    what: Any


class TooLittle(Rejected):
    pass


class Frozen(Exception):
    pass


class Account(Aggregate):
    balance: int = 0
    notes: list[Any] = []

    @command
    def deposit(self, amount: int) -> int:
        self.emit(Deposited(amount))
        return self.balance

    @command
    def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise TooLittle(self.balance)
        self.emit(Withdrawn(amount))
        return self.balance

    @command
    def withdraw_carelessly(self, amount: int) -> None:
        self.emit(Withdrawn(amount))
        if self.balance < 0:
            raise Frozen("overdrawn")

    @command
    async def transfer(self, to: str, amount: int) -> int:
        self.emit(Withdrawn(amount))
        return await self.aggregate(Account, to).deposit(amount)

    @command
    def note(self, what: Any) -> None:
        self.emit(Noted(what))

    @command
    def when(self) -> datetime:
        return self.context.now

    @command
    def who(self) -> Any:
        return dict(self.context.metadata)

    @command
    def answer(self, what: Any) -> int:
        return what  # type: ignore[no-any-return]

    @command
    def sneak(self) -> None:
        self.notes.append("sneaked in")

    @command
    def sneak_and_refuse(self) -> None:
        self.notes.append("sneaked in")
        raise Rejected

    @command
    def cheat(self) -> None:
        self.balance = 1_000_000

    @query
    def statement(self) -> int:
        return self.balance

    @query
    def tidy(self) -> int:
        self.notes.clear()
        return 0

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount

    @on(Withdrawn)
    def _withdrawn(self, event: Withdrawn) -> None:
        self.balance -= event.amount

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.notes.append(event.what)


def test_an_accepted_command_has_events_a_reply_and_a_state() -> None:
    """And no rejection."""
    outcome = given(Account, Deposited(5), Deposited(7)).when.withdraw(9)
    assert outcome.events == [Withdrawn(9)]
    assert outcome.reply == 3
    assert outcome.rejection is None
    assert outcome.state.balance == 3
    assert outcome.version == 3


def test_a_rejected_command_leaves_everything_as_it_was() -> None:
    """The rejection is there as it was raised; asking for the reply raises it."""
    outcome = given(Account, Deposited(5)).when.withdraw(9)
    assert isinstance(outcome.rejection, TooLittle)
    assert outcome.rejection.args == (5,)
    assert (outcome.events, outcome.state.balance, outcome.version) == ([], 5, 1)
    with pytest.raises(TooLittle):
        _ = outcome.reply
    assert "rejected with TooLittle(5)" in repr(outcome)


def test_what_was_emitted_before_a_rejection_never_happened() -> None:
    """Any exception of the domain rejects, and discards what was emitted."""
    outcome = given(Account).when.withdraw_carelessly(9)
    assert isinstance(outcome.rejection, Frozen)
    assert (outcome.events, outcome.state.balance, outcome.version) == ([], 0, 0)


def test_outcomes_are_chained() -> None:
    """Each command meets what the one before it left."""
    outcome = given(Account).when.deposit(5).when.withdraw(9).when.withdraw(2)
    assert (outcome.state.balance, outcome.version, outcome.events) == (3, 2, [Withdrawn(2)])


def test_a_query_changes_nothing() -> None:
    """It has a reply and no events."""
    outcome = given(Account, Deposited(5)).when.statement()
    assert (outcome.reply, outcome.events, outcome.version) == (5, [], 1)


def test_a_given_aggregate_may_be_used_again() -> None:
    """Each command starts from the same."""
    account = given(Account, Deposited(5), id="alice")
    assert account.when.withdraw(5).reply == account.when.withdraw(5).reply == 0
    assert (account.state.balance, account.version, account.events) == (5, 1, [Deposited(5)])
    assert account.state.id == "alice"


def test_time_and_metadata_are_given_too() -> None:
    """`self.context` holds what the test says."""
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    account = given(Account, at=noon, metadata={"user": "ann"})
    assert account.when.when().reply == noon
    assert account.when.who().reply == {"user": "ann"}


@pytest.mark.parametrize("method", ["sneak", "sneak_and_refuse", "tidy"])
def test_state_changed_outside_a_handler_is_caught(method: str) -> None:
    """Also inside a list, also in a query, also in a command that then refuses."""
    with pytest.raises(NotFromEvents, match=rf"after Account\.{method} .*notes.*state changes in @on methods only"):
        getattr(given(Account, Noted("a")).when, method)()


def test_assigning_to_state_is_an_error_as_it_is_live() -> None:
    """It is no rejection, but a mistake."""
    with pytest.raises(StateChangedOutsideHandler):
        given(Account).when.cheat()


@pytest.mark.parametrize("what", [(1, 2), {1: [(2,)]}, {"a"}], ids=repr)
def test_an_event_that_comes_back_as_something_else_is_caught(what: Any) -> None:
    """Emitted, or given."""
    with pytest.raises(DoesNotSurvive, match=r"event test_kit\.noted does not survive the journal: \.what"):
        given(Account).when.note(what)
    with pytest.raises(DoesNotSurvive):
        given(Account, Noted(what))


def test_an_event_that_cannot_be_stored_cannot_be_given() -> None:
    """The error names the field."""
    with pytest.raises(DoesNotSurvive, match="amount"):
        given(Account, Deposited("five"))  # type: ignore[arg-type]


def test_a_reply_that_does_not_survive_is_caught() -> None:
    """A retry would get another one."""
    assert given(Account).when.answer(5).reply == 5
    with pytest.raises(DoesNotSurvive, match=r"reply of Account\.answer"):
        given(Account).when.answer("five")
    with pytest.raises(DoesNotSurvive, match=r"reply of Account\.answer"):
        given(Account).when.answer(object())


def test_state_that_a_snapshot_does_not_hold_is_caught() -> None:
    """Even when all events survive."""

    class Keeper(Aggregate):
        kept: list[Any] = []

        @command
        def keep(self) -> None:
            self.emit(Deposited(1))

        @on(Deposited)
        def _deposited(self, event: Deposited) -> None:
            self.kept.append((event.amount,))

    with pytest.raises(DoesNotSurvive, match=r"does not survive a snapshot: kept\[0\]: \(1,\) is a tuple"):
        given(Keeper).when.keep()


def test_a_handler_that_counts_on_more_than_its_event_is_caught() -> None:
    """Replay would make another state."""
    drawn = iter(range(100))

    class Dice(Aggregate):
        shown: int = 0

        @command
        def roll(self) -> None:
            self.emit(Deposited(1))

        @on(Deposited)
        def _deposited(self, event: Deposited) -> None:
            self.shown = next(drawn)

    with pytest.raises(NotFromEvents, match="shown"):
        given(Dice).when.roll()


def test_an_async_command_runs_to_its_end() -> None:
    """Without a loop in the test."""
    bob = given(Account, Deposited(1), id="bob")
    outcome = given(Account, Deposited(9), peers={(Account, "bob"): bob}).when.transfer("bob", 4)
    assert (outcome.reply, outcome.state.balance, outcome.events) == (5, 5, [Withdrawn(4)])
    assert outcome.peer(Account, "bob").state.balance == 5
    assert bob.state.balance == 1


async def test_an_outcome_is_awaited_in_an_async_test() -> None:
    """Of async commands it must be, of others it may be."""
    account = given(Account, Deposited(9), peers={(Account, "bob"): given(Account)})
    outcome = await account.when.transfer("bob", 4)
    assert outcome.reply == 4
    assert (await outcome.when.transfer("bob", 1)).reply == 5
    assert (await account.when.deposit(1)).reply == 10
    pending = account.when.transfer("bob", 4)
    with pytest.raises(AssertionError, match="await the outcome first: transfer"):
        _ = pending.reply
    await pending


def test_a_peer_that_refuses_refuses_its_caller() -> None:
    """What was emitted before is discarded."""

    class Closed:
        def deposit(self, amount: int) -> None:
            raise Rejected("closed")

    outcome = given(Account, Deposited(9), peers={(Account, "bob"): Closed()}).when.transfer("bob", 4)
    assert isinstance(outcome.rejection, Rejected)
    assert outcome.state.balance == 9


def test_any_object_may_stand_for_a_peer() -> None:
    """Its methods may be async or not."""

    @dataclass
    class Bank:
        got: int = 0

        async def deposit(self, amount: int) -> int:
            await asyncio.sleep(0)
            self.got += amount
            return 77

    bank = Bank()
    assert given(Account, peers={(Account, "bob"): bank}).when.transfer("bob", 4).reply == 77
    assert bank.got == 4


def test_a_missing_peer_is_named() -> None:
    """With what was asked for."""
    with pytest.raises(AssertionError, match=r"no peer given for \(Account, 'bob'\)"):
        given(Account).when.transfer("bob", 4)


def test_misuse_of_the_kit_is_an_error() -> None:
    """Unknown commands, wrong arguments, events of somebody else."""

    @event("strange")
    class Strange:
        pass

    with pytest.raises(UnknownCommand, match="fly"):
        given(Account).when.fly()
    with pytest.raises(TypeError, match="amount"):
        given(Account).when.deposit()
    with pytest.raises(UnhandledEvent, match="Strange"):
        given(Account, Strange())
