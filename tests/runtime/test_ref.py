"""References: what they check, what they are equal to, and that they travel."""

import copy
import enum
import inspect
import pickle
from typing import Any

import pytest
from hf_bank import Account, Teller

from holdfast.actors import Aggregate
from holdfast.actors.errors import DefinitionError, UnknownCommand
from holdfast.runtime import InvalidId, NotAnAggregate, Runtime, RuntimeClosed


class Plain:
    pass


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("id", "problem"),
    [
        ("", "must not be empty"),
        ("a\nb", "must be printable"),
        ("\x00", "must be printable"),
        ("\ud800", "must be printable"),
        ("a" * 256, "at most 255 bytes"),
        ("é" * 128, "at most 255 bytes"),
        (5, "must be text, not int"),
        (b"a", "must be text, not bytes"),
        (None, "must be text, not NoneType"),
    ],
)
async def test_an_id_that_cannot_be_is_refused_at_once(id: Any, problem: str) -> None:
    """By the reference, before anything is sent."""
    async with Runtime.local() as runtime:
        with pytest.raises(InvalidId, match=problem) as caught:
            runtime.get(Account, id)
        assert caught.value.id == id


@pytest.mark.parametrize("id", ["a", "a b", "a/b#c", "é" * 127, "a" * 255, "日本", "🙂", "'; DROP TABLE events --"])
async def test_any_printable_text_is_an_id(id: str) -> None:
    """Up to 255 bytes in UTF-8."""
    async with Runtime.local() as runtime:
        assert await runtime.get(Account, id).deposit(1) == 1
        assert [e.id async for e in runtime.read(Account, id)] == [id]


async def test_an_id_of_an_enum_is_its_text() -> None:
    """A subclass of `str` names the same aggregate as its text."""
    async with Runtime.local() as runtime:
        await runtime.get(Account, Colour.RED).deposit(5)
        assert await runtime.get(Account, "red").balance_now() == 5


@pytest.mark.parametrize("cls", [Plain, 5, "Account", Plain()])
async def test_only_aggregates_can_be_referred_to(cls: Any) -> None:
    """Anything else is a `TypeError` that names it."""
    async with Runtime.local() as runtime:
        with pytest.raises(NotAnAggregate):
            runtime.get(cls, "a")
        with pytest.raises((NotAnAggregate, DefinitionError)):
            runtime.get(Aggregate, "a")


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
async def test_a_timeout_is_above_zero(timeout_s: float) -> None:
    """Zero would never be answered."""
    async with Runtime.local() as runtime:
        with pytest.raises(ValueError, match="timeout_s must be above 0"):
            runtime.get(Account, "a", timeout_s=timeout_s)


@pytest.mark.parametrize("key", ["", "a\n", "k" * 256, 5])
async def test_an_idempotency_key_is_text_like_an_id(key: Any) -> None:
    """Checked when the reference is made."""
    async with Runtime.local() as runtime:
        with pytest.raises(ValueError, match="idempotency key"):
            runtime.get(Account, "a", idempotency_key=key)


async def test_a_wrong_signature_is_told_before_anything_is_sent() -> None:
    """As a call would tell it, at the line of the call and not of the await."""
    async with Runtime.local() as runtime:
        account: Any = runtime.get(Account, "a")
        for call in (
            lambda: account.deposit(),
            lambda: account.deposit(1, 2, 3),
            lambda: account.deposit(1, nothing=2),
            lambda: account.balance_now(1),
        ):
            with pytest.raises(TypeError, match=r"Account\.(deposit|balance_now)\(\)"):
                call()
        assert (await runtime.statistics()).hosts == ()


async def test_an_unknown_command_is_an_attribute_error() -> None:
    """So `hasattr`, notebooks and debuggers see what they expect."""
    async with Runtime.local() as runtime:
        account: Any = runtime.get(Account, "a")
        with pytest.raises(UnknownCommand):
            _ = account.withdraw
        assert not hasattr(account, "_repr_html_")
        assert "deposit" in dir(account)
        assert repr(account) == "<Account/a in 'default'>"
        assert repr(account.deposit).endswith(".deposit")


async def test_equal_references_name_the_same_aggregate() -> None:
    """Type, id and namespace; not how calls are sent."""
    async with Runtime.local() as runtime, Runtime.local(namespace="other") as other:
        a = runtime.get(Account, "a")
        assert a == runtime.get(Account, "a", timeout_s=3)
        assert len({a, runtime.get(Account, "a"), runtime.get(Account, "b")}) == 2
        assert a != runtime.get(Teller, "a")
        assert a != other.get(Account, "a")
        assert a != "a"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda ref: pickle.loads(pickle.dumps(ref))])
async def test_a_copy_of_a_reference_works(copied: Any) -> None:
    """In the loop where a runtime is open it finds its way; its settings travel along."""
    async with Runtime.local() as runtime:
        ref: Any = copied(runtime.get(Account, "a", idempotency_key="k"))
        assert ref == runtime.get(Account, "a")
        assert await ref.deposit(5) == 5
        assert await ref.deposit(5) == 5


async def test_a_reference_of_a_closed_runtime_says_so() -> None:
    """Also one that was pickled."""
    async with Runtime.local() as runtime:
        ref: Any = runtime.get(Account, "a")
        wire = pickle.dumps(ref)
    with pytest.raises(RuntimeClosed):
        await ref.deposit(1)
    with pytest.raises(RuntimeClosed):
        await pickle.loads(wire).deposit(1)


async def test_a_call_is_sent_when_it_is_awaited() -> None:
    """Not before: a coroutine that is dropped does nothing."""
    async with Runtime.local() as runtime:
        account: Any = runtime.get(Account, "a")
        call = account.deposit(1)
        assert inspect.iscoroutine(call)
        call.close()
        assert await account.balance_now() == 0


async def test_a_pickled_reference_does_not_say_where_the_journal_is(tmp_path: Any) -> None:
    """A journal's URL may hold a password; who has a reference asks the journal's server and never opens it."""
    async with Runtime.local(f"sqlite:///{tmp_path}/whisper.db") as runtime:
        wire = pickle.dumps(runtime.get(Account, "a"))
        assert b"whisper" not in wire
        assert await pickle.loads(wire).deposit(1) == 1
