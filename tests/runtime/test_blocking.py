"""The blocking twin, without Ray: the same surface, no event loop in sight."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hf_bank import Account, Insufficient, Teller

from holdfast.runtime import BlockingRuntime, Runtime, RuntimeClosed
from holdfast.runtime.errors import InvalidId


def test_a_script_needs_no_event_loop(tmp_path: Any) -> None:
    """Commands return their replies, errors are raised, and it is all there the next time."""
    for expected in (5, 10):
        with Runtime.local(f"sqlite:///{tmp_path}/j.db") as runtime:
            assert isinstance(runtime, BlockingRuntime)
            account: Any = runtime.get(Account, "a")
            assert account.deposit(5) == expected
            with pytest.raises(Insufficient):
                account.deposit(-50)


def test_it_has_the_surface_of_the_asynchronous_one() -> None:
    """read, state_at, passivate, statistics, get with all its settings."""
    with Runtime.local() as runtime:
        account: Any = runtime.get(Account, "a", idempotency_key="k", timeout_s=5, metadata={"user": "eve"})
        assert [account.deposit(5), account.deposit(5)] == [5, 5]
        assert [e.version for e in runtime.read(Account, "a")] == [1]
        assert next(iter(runtime.read())).metadata == {"user": "eve"}
        assert runtime.state_at(Account, "a", version=1).balance == 5
        assert runtime.statistics().live == 1
        assert runtime.passivate(Account, "a") is True
        assert runtime.get(Teller, "t").transfer("a", "b", 2) == [3, 2]


def test_a_wrong_call_is_told_before_anything_is_sent() -> None:
    """Signature and id, at the caller."""
    with Runtime.local() as runtime:
        with pytest.raises(TypeError):
            runtime.get(Account, "a").deposit()
        with pytest.raises(InvalidId):
            runtime.get(Account, "")
        assert runtime.statistics().live == 0


def test_many_threads_may_use_it_at_once() -> None:
    """Each waits for its own answer."""
    with Runtime.local() as runtime, ThreadPoolExecutor(20) as pool:
        account: Any = runtime.get(Account, "a")
        replies = list(pool.map(lambda _: account.deposit(1), range(200)))
        assert sorted(replies) == list(range(1, 201))


def test_closing_ends_its_thread_and_later_calls_say_so() -> None:
    """Closing twice is harmless."""
    before = threading.active_count()
    with Runtime.local() as runtime:
        account: Any = runtime.get(Account, "a")
        assert account.deposit(1) == 1
    runtime.close()
    with pytest.raises(RuntimeClosed):
        account.deposit(1)
    assert threading.active_count() == before


def test_a_failed_opening_leaves_no_thread() -> None:
    """The error is the same as the asynchronous one."""
    before = threading.active_count()
    with pytest.raises(TypeError, match="a placement is"), Runtime.local(placement=5):  # type: ignore[arg-type]
        pass
    assert threading.active_count() == before


def test_it_has_every_method_of_the_asynchronous_one() -> None:
    """What is added there is added here; `open` and `local` make either."""
    there = {name for name in dir(Runtime) if not name.startswith("_")} - {"open", "local"}
    assert there <= set(dir(BlockingRuntime))


def test_it_opens_without_a_with_and_runs_coroutines_in_its_loop(tmp_path: Any) -> None:
    """As over the cells of a notebook; closed twice, it stays closed."""
    opening = Runtime.local(f"sqlite:///{tmp_path}/j.db")
    assert repr(opening) == f"<runtime of sqlite:///{tmp_path}/j.db, not open yet>"
    runtime = opening.blocking()

    async def thread() -> str:
        return threading.current_thread().name

    assert runtime.wait(thread()) == "holdfast"
    runtime.register(Account)
    assert runtime.get(Account, "a").deposit(5) == 5
    for _ in range(2):
        runtime.close()
    with pytest.raises(RuntimeClosed):
        runtime.head()
